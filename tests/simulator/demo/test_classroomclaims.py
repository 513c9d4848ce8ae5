"""Claims about learning: a sound proof holds all of them, and each damage to it fails exactly the one it is about."""

from __future__ import annotations

from typing import Any

import pytest

from inference.build.lightnet import CLASSES
from inference.floor import GateFloor
from ota.machine import State
from simulator.claims import NOT_MEASURED
from simulator.demo.classroom import EXCUSED, FEWEST, ClassroomProof, crops_of, hands, is_settled
from simulator.demo.classroomclaims import claims
from simulator.learning.proof import load
from tests.simulator.demo.soundclassroom import ONE_OF_EACH, attempt, sound_classroom

UPDATE, REFUSED, FLIPPED, KEPT = (claim.name for claim in claims(ClassroomProof()))

DAMAGES: list[tuple[str, dict[str, Any]]] = [
    (UPDATE, {"pupil_counted": False}),
    (UPDATE, {"vehicles": 9}),
    (UPDATE, {"update_bytes": 0}),
    (UPDATE, {"update_bytes": 2057}),
    (REFUSED, {"refused": {}}),
    (REFUSED, {"asked": {}}),
    (REFUSED, {"refused": {**ONE_OF_EACH, "stale": 2}}),
    (REFUSED, {"refused": {**ONE_OF_EACH, "foreign": 1}}),
    (REFUSED, {"refused": {"stale": 1, "wrong_base": 1}}),
    (FLIPPED, {"flipped": None}),
    (FLIPPED, {"good": None}),
    (FLIPPED, {"flipped": attempt("passed")}),
    (FLIPPED, {"flipped": attempt("undecided")}),
    (FLIPPED, {"flipped_candidate": True}),
    (FLIPPED, {"good": attempt("failed")}),
    (KEPT, {"kept": ""}),
    (KEPT, {"kept": State.ROLLED_BACK}),
    (KEPT, {"kept": State.INCONCLUSIVE}),
    (KEPT, {"in_use": False}),
    (KEPT, {"right_after": 285}),
]


def test_a_sound_proof_holds_every_claim() -> None:
    assert all(claim.ok for claim in claims(sound_classroom()))


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_each_damage_fails_the_claim_it_is_about(name: str, damage: dict[str, Any]) -> None:
    proof = sound_classroom()
    for what, value in damage.items():
        setattr(proof, what, value)
    assert [claim.name for claim in claims(proof) if not claim.ok] == [name]


def test_what_the_gate_excused_is_said_in_the_claim_and_nothing_where_it_excused_nothing() -> None:
    proof = sound_classroom()
    words = "that yellow is no worse is NOT shown: 9 lights are too few to tell, and this demo's gate excuses it"
    assert claims(proof)[-1].measured.endswith(words)
    proof.excused = {}
    assert "NOT" not in claims(proof)[-1].measured


def test_the_demo_excuses_what_has_too_few_examples_and_nothing_else() -> None:
    held_out = load()[1]
    counts = crops_of(CLASSES, held_out)
    assert sum(counts.values()) == len(held_out.labels)
    assert {label for label, count in counts.items() if count < GateFloor().objects_at_least} == set(EXCUSED)


def test_what_never_came_to_pass_isnt_claimed() -> None:
    assert all(not claim.ok and claim.measured == NOT_MEASURED for claim in claims(ClassroomProof()))


def test_an_attempt_that_passed_is_settled_once_its_candidate_lies_there() -> None:
    assert not is_settled([])
    assert not is_settled([attempt("")])
    assert not is_settled([attempt("passed")])
    assert is_settled([attempt("passed", "there")])
    assert is_settled([attempt("failed")])


def test_enough_vehicles_have_enough_to_learn_from_and_none_what_another_has() -> None:
    dealt = hands(load()[0])
    assert 10 <= len(dealt) <= 20
    assert min(map(len, dealt)) >= FEWEST
    every = [place for hand in dealt for place in hand]
    assert len(set(every)) == len(every)
