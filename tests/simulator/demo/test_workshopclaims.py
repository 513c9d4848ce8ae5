"""Claims about updates: a sound proof holds all of them, and each damage to it fails exactly the one it is about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ota.machine import State
from simulator.demo.releases import Flaw
from simulator.demo.workshop import Tried, WorkshopProof
from simulator.demo.workshopclaims import claims
from tests.simulator.demo.soundworkshop import JUDGED, SIZE, sound_workshop

KILLED, WORSE, OFFERS, DOWNLOAD = (claim.name for claim in claims(WorkshopProof()))
Damage = Callable[[WorkshopProof], object]


def put(**changes: Any) -> Damage:
    def damage(proof: WorkshopProof) -> None:
        for name, value in changes.items():
            setattr(proof, name, value)

    return damage


def each(what: str, **changes: Any) -> Damage:
    """The last of a list, with something else about it."""

    def damage(proof: WorkshopProof) -> None:
        items = getattr(proof, what)
        setattr(proof, what, [*items[:-1], replace(items[-1], **changes)])

    return damage


def download(**changes: Any) -> Damage:
    def damage(proof: WorkshopProof) -> None:
        assert proof.download is not None
        proof.download = replace(proof.download, **changes)

    return damage


def perhaps_slow(tried: Tried) -> Tried:
    words = "on road@1.0: car: worse by more than 0.05; perhaps too slow: 1.1 times the live model's"
    return replace(tried, words=words) if tried.flaw is Flaw.SLOW else tried


DAMAGES: list[tuple[str, Damage]] = [
    (KILLED, each("kills", is_allowed=False)),
    (KILLED, each("kills", found_in=State.COMMITTED)),
    (KILLED, each("kills", state=State.COMMITTED, found_in=State.COMMITTED)),
    (KILLED, put(committed=False)),
    (KILLED, lambda proof: proof.kills.pop()),
    (KILLED, put(kills=sound_workshop().kills[:1] * 3)),
    (KILLED, put(kills=[])),
    (WORSE, each("tried", ended=State.COMMITTED)),
    (WORSE, each("tried", is_denied=False)),
    (WORSE, each("tried", was_kept=True)),
    (WORSE, each("tried", words=JUDGED[Flaw.SLOW])),
    (WORSE, each("tried", flaw=Flaw.SLOW)),
    (WORSE, each("tried", words="its worker ended 3 times")),
    (WORSE, each("tried", words="on road@1.0: car: F1 0.64 -> 0.60: it may be worse by more than 0.05; 9 frames")),
    (WORSE, put(tried=[perhaps_slow(tried) for tried in sound_workshop().tried])),
    (WORSE, each("tried", ended=State.INCONCLUSIVE, was_kept=True)),
    (WORSE, lambda proof: proof.tried.pop()),
    (WORSE, put(tried=[])),
    (OFFERS, each("refusals", refused_as=None)),
    (OFFERS, each("refusals", refused_as="SlotDamaged")),
    (OFFERS, each("refusals", changed=("metadata.cache",))),
    (OFFERS, each("refusals", is_audited=False)),
    (OFFERS, each("refusals", twin_taken=False)),
    (OFFERS, put(refusals=sound_workshop().refusals[:5])),
    (OFFERS, put(refusals=())),
    (DOWNLOAD, download(fetched=SIZE + (1 << 20) + 1)),
    (DOWNLOAD, download(was_cut=False)),
    (DOWNLOAD, download(is_whole=False)),
    (DOWNLOAD, download(before_cut=SIZE // 2)),
    (DOWNLOAD, put(download=None)),
]


def test_a_sound_proof_holds_every_claim() -> None:
    assert [claim for claim in claims(sound_workshop()) if not claim.ok] == []


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_each_damage_fails_exactly_its_claim(name: str, damage: Damage) -> None:
    proof = sound_workshop()
    damage(proof)
    assert [claim.name for claim in claims(proof) if not claim.ok] == [name]


def test_nothing_proved_holds_nothing() -> None:
    found = claims(WorkshopProof())
    assert len(found) == 4
    assert not any(claim.ok for claim in found)
    assert {claim.measured for claim in found} == {"not measured"}


def test_an_undecided_release_that_was_never_live_is_not_kept() -> None:
    proof = sound_workshop()
    each("tried", ended=State.INCONCLUSIVE, is_denied=False)(proof)
    assert all(claim.ok for claim in claims(proof))


def test_the_judges_words_are_told_as_far_as_they_decided() -> None:
    told = next(claim.measured for claim in claims(sound_workshop()) if claim.name == WORSE)
    assert told == (
        "scrambled rolled back (the candidate finds none); "
        "slow rolled back (too slow: 4.1 times the live model's time); "
        "mute rolled back (worse by more than 0.05)"
    )
    proof = sound_workshop()
    each("tried", words="its worker ended 3 times", was_kept=True)(proof)
    told = next(claim.measured for claim in claims(proof) if claim.name == WORSE)
    assert told.endswith("mute rolled back, BUT IT WAS LIVE (its worker ended 3 times)")
