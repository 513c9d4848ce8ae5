"""The desk's proofs see what they claim to see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ecu.clock import SystemClock
from ota.errors import Attack
from simulator.demo.offers import Refusal, refusals

SOUND = Refusal("a stranger's signature", Attack.WRONG_SIGNER, Attack.WRONG_SIGNER, (), True, True)


def test_each_forged_or_stale_offer_is_refused_by_its_name_and_its_twin_taken(tmp_path: Path) -> None:
    found = refusals(tmp_path, SystemClock())
    assert [one for one in found if not one.holds] == []
    assert len({one.what for one in found}) == 6
    assert {one.attack for one in found} == {
        Attack.TAMPERED, Attack.FREEZE, Attack.ROLLBACK, Attack.WRONG_VEHICLE, Attack.WRONG_SIGNER,
    }  # fmt: skip


def test_a_refusal_holds_only_by_its_name_with_a_trace_and_without_a_change() -> None:
    assert SOUND.holds
    for damage in (
        replace(SOUND, refused_as=None),
        replace(SOUND, refused_as=Attack.MALFORMED),
        replace(SOUND, changed=("model/a/files/weights",)),
        replace(SOUND, is_audited=False),
        replace(SOUND, twin_taken=False),
    ):
        assert not damage.holds
