"""Who makes a release can't also say what is good: neither at the desk, nor for a vehicle that trusts no desk."""

from __future__ import annotations

from pathlib import Path

import pytest
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Metadata, Targets

from ecu.clock import SteppingClock
from ecu.disk import RealDisk
from ota.apart import JUDGES, shared_key
from ota.errors import Attack, RepositoryFault, TrustError
from ota.kinds import Kind
from ota.repository import KeyFolder
from ota.repository.desk import Desk
from ota.repository.keys import ALL_KEYS, Owners
from tests.ota.fleet import Fleet
from tests.ota.test_trust import published_by_hand

PAIRS = list(JUDGES.items())


@pytest.mark.parametrize(("judged", "judge"), PAIRS)
def test_one_key_for_both_is_refused_at_the_founding_also_as_one_of_several(
    tmp_path: Path, judged: Kind, judge: Kind
) -> None:
    keys = KeyFolder(tmp_path / "keys")
    keys.generate([*ALL_KEYS, "anna", "ben", "carl"])
    (tmp_path / "repo").mkdir()
    for ours, theirs in ((("anna",), ("anna",)), (("anna", "ben"), ("carl", "ben"))):
        owners = {judged: Owners(len(ours), ours), judge: Owners(1, theirs)}
        with pytest.raises(RepositoryFault, match="A key signs one thing only"):
            Desk(RealDisk(tmp_path / "repo"), SteppingClock()).found(keys, owners)


@pytest.mark.parametrize(("judged", "judge"), PAIRS)
@pytest.mark.parametrize("renamed", [False, True])
def test_a_vehicle_believes_no_repository_in_which_one_key_signs_both(
    fleet: Fleet, state: Path, judged: Kind, judge: Kind, renamed: bool
) -> None:
    """Though all of it is signed by whom the root names: the desk's own check isn't the vehicle's."""
    fleet.assign(fleet.release("1.0", 1))
    assert len(fleet.trust(state).refresh(fleet.source())) == 1
    targets = Metadata[Targets].from_file(str(fleet.repo / "image/metadata/1.targets.json"))
    key = fleet.keys.signer(judged).public_key
    if renamed:
        # The same key under an id of its own.
        key = SSlibKey("0" * 64, key.keytype, key.scheme, dict(key.keyval))
    targets.signed.add_key(key, judge)
    targets.signed.version = 2
    targets.sign(fleet.keys.signer("image-targets"))
    published_by_hand(fleet, "targets", targets)
    with pytest.raises(TrustError, match=f"one key signs {judged} and {judge}, which judges it") as refusal:
        fleet.trust(state).refresh(fleet.source())
    assert refusal.value.attack is Attack.WRONG_SIGNER


def test_other_keys_may_be_shared_by_nobody_is_asked_here() -> None:
    assert shared_key({"model": {"a"}, "evaluation": {"b"}, "state": {"a"}}) == ""
    assert shared_key({"model": {"a"}}) == ""
    assert shared_key({"model": {"a", "b"}, "evaluation": {"b"}}) != ""
