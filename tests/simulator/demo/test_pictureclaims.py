"""What is claimed of pictures can fail, each claim for its own reason, and nothing holds of pictures nobody saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from simulator.claims import NOT_MEASURED
from simulator.demo.pictureclaims import PictureProof, claims
from simulator.demo.pictures import Look
from tests.simulator.demo.sound import sound_pictures

Damage = Callable[[PictureProof], PictureProof]

CANARY = "a canary face on the road is in no picture stored"
PLATES = "where plates are, pictures lose their detail"
INTACT = "all that isn't covered is as the camera saw it"
STORED = "every picture told of is at the receiver once, its hash right"
DARK = "redactor killed: no picture meanwhile, each wanted one counted"
NAME = f"{0:064x}"


def watch(**changed: Any) -> Damage:
    return lambda proof: replace(proof, watch=replace(proof.watch, **changed))


def look(**changed: Any) -> Damage:
    """The first picture looks otherwise."""

    def damage(proof: PictureProof) -> PictureProof:
        first, *others = proof.watch.looks
        return watch(looks=(replace(first, **changed), *others))(proof)

    return damage


def dark(**changed: Any) -> Damage:
    def damage(proof: PictureProof) -> PictureProof:
        assert proof.blackout is not None
        return replace(proof, blackout=replace(proof.blackout, **changed))

    return damage


def without_looks(change: Callable[[tuple[Look, ...]], tuple[Look, ...]]) -> Damage:
    return lambda proof: watch(looks=change(proof.watch.looks))(proof)


def one_covered_by_more_than_half(looks: tuple[Look, ...]) -> tuple[Look, ...]:
    """And by little on average."""
    first, *others = looks
    return replace(first, covered=0.5001), *(replace(other, covered=0.0) for other in others)


def once_more(proof: PictureProof) -> PictureProof:
    return watch(rows={**proof.watch.rows, NAME: 2})(proof)


def without_a_row(proof: PictureProof) -> PictureProof:
    return watch(rows={name: rows for name, rows in proof.watch.rows.items() if name != NAME})(proof)


DAMAGES: list[tuple[str, Damage]] = [
    (CANARY, look(canary_after=True)),
    (CANARY, look(canary_before=False)),
    (CANARY, without_looks(lambda looks: looks[1:])),
    (PLATES, look(bands=(0.9499, 1.0))),
    (INTACT, look(psnr_db=29.99)),
    (INTACT, look(covered=0.2501)),
    (INTACT, without_looks(one_covered_by_more_than_half)),
    (STORED, watch(missing=1)),
    (STORED, watch(altered=1)),
    (STORED, once_more),
    (STORED, without_a_row),
    (DARK, dark(taken=1, wanted=3)),
    (DARK, dark(dropped=1)),
    (DARK, dark(dropped=3)),
    (DARK, dark(wanted=0, dropped=0)),
    (DARK, dark(back=False)),
    (DARK, dark(frames=range(40, 61))),
]

NOTHING_SEEN: list[tuple[str, Damage]] = [
    (CANARY, watch(looks=())),
    (PLATES, watch(looks=())),
    (PLATES, without_looks(lambda looks: tuple(replace(look, bands=()) for look in looks))),
    (INTACT, watch(looks=())),
    (STORED, watch(told={})),
    (DARK, lambda proof: replace(proof, blackout=None)),
    (DARK, dark(kills=0)),
    (DARK, dark(frames=range(41, 41))),
]


def test_what_just_holds_holds() -> None:
    assert [claim.name for claim in claims(sound_pictures()) if not claim.ok] == []


@pytest.mark.parametrize(("claim", "damage"), DAMAGES)
def test_the_smallest_damage_fails_its_own_claim_and_no_other(claim: str, damage: Damage) -> None:
    assert [one.name for one in claims(damage(sound_pictures())) if not one.ok] == [claim]


@pytest.mark.parametrize(("claim", "damage"), NOTHING_SEEN)
def test_a_claim_of_which_nothing_was_seen_does_not_hold(claim: str, damage: Damage) -> None:
    told = {one.name: one for one in claims(damage(sound_pictures()))}
    assert (told[claim].ok, told[claim].measured) == (False, NOT_MEASURED)


def test_every_claim_can_fail_and_can_go_unseen() -> None:
    names = {claim.name for claim in claims(sound_pictures())}
    assert {claim for claim, _ in DAMAGES} == {claim for claim, _ in NOTHING_SEEN} == names
