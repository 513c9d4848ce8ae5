"""All that is signed on one vehicle: what a refusal leaves behind, and what is never tried twice."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from ecu.disk import RealDisk
from ota.errors import Attack, TrustError
from ota.kinds import Kind
from ota.machine import Event, State
from ota.manifest import BLOCK_BYTES
from ota.trust import Vehicle
from ota.updates import Notice, Updates
from tests.ota.changed import Changed
from tests.ota.fleet import CAR, HARDWARE, Fleet


def opened(fleet: Fleet, state: Path, notices: list[Notice]) -> Updates:
    state.mkdir(exist_ok=True)
    updates = Updates(RealDisk(state), fleet.roots, Vehicle(CAR, HARDWARE), fleet.clock, notices.append)
    updates.begin(Kind.MODEL)
    return updates


def install(fleet: Fleet, updates: Updates, *events: Event) -> None:
    for offer in updates.check(fleet.source()):
        updates.install(fleet.source(), offer, lambda progress: None)
    for event in events:
        updates.handle(Kind.MODEL, event, "")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


KEPT = (Event.LOADED, Event.PASSED, Event.PROVEN)


def test_a_release_below_what_was_kept_is_refused_with_its_numbers_and_changes_only_the_audit(
    fleet: Fleet, state: Path
) -> None:
    notices: list[Notice] = []
    older, newer = fleet.release("1.0", 3), fleet.release("2.0", 5)
    fleet.assign(newer)
    updates = opened(fleet, state, notices)
    install(fleet, updates, *KEPT)
    fleet.assign(older)
    before = contents(state)
    for _ in range(2):
        with pytest.raises(TrustError, match="rollback: offered release 3, installed 5") as refusal:
            updates.check(fleet.source())
        assert refusal.value.attack is Attack.ROLLBACK
    after = contents(state)
    assert {name for name in after if after[name] != before.get(name)} == {"audit"}
    assert [notice.attack for notice in notices if notice.what == "refused"] == [Attack.ROLLBACK], "told once"


def test_a_bundle_with_one_flipped_byte_leaves_nothing_of_itself_and_is_taken_once_it_is_right(
    fleet: Fleet, state: Path
) -> None:
    content = Random(7).randbytes(2 * BLOCK_BYTES + 5)

    def flipped(path: str, data: bytes) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1]) if path.startswith("files/") else data

    fleet.assign(fleet.release("1.0", 1, content))
    updates = opened(fleet, state, [])
    (offer,) = updates.check(fleet.source())
    before = contents(state)
    with pytest.raises(TrustError, match="tampered: block 2 of"):
        updates.install(Changed(fleet.source(), flipped), offer, lambda progress: None)
    assert {name for name, data in contents(state).items() if data != before.get(name)} == {"audit"}
    step = updates.install(fleet.source(), offer, lambda progress: None)
    assert step is not None
    assert step.state is State.STAGED


def test_what_was_found_worse_is_never_offered_again_also_after_a_restart(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    updates = opened(fleet, state, [])
    install(fleet, updates, Event.LOADED, Event.FAILED)
    assert updates.check(fleet.source()) == ()
    assert opened(fleet, state, []).check(fleet.source()) == ()


def test_what_decided_nothing_is_tried_again_after_the_next_start_and_not_before(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    updates = opened(fleet, state, [])
    install(fleet, updates, Event.LOADED, Event.UNDECIDED)
    assert updates.check(fleet.source()) == ()
    assert len(opened(fleet, state, []).check(fleet.source())) == 1


def test_a_labelled_set_comes_before_the_model_that_it_judges_and_is_taken_at_once(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1), fleet.release("1.0", 1, kind=Kind.EVALUATION))
    updates = opened(fleet, state, [])
    offers = updates.check(fleet.source())
    assert [offer.kind for offer in offers] == [Kind.EVALUATION, Kind.MODEL]
    install(fleet, updates)
    model, evaluation = updates.status()
    assert evaluation.good is not None
    assert model.trial is not None
