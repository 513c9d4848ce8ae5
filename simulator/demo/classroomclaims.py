"""The demo's claims about a fleet that learns, from what the classroom proved."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from inference.verdict import Outcome
from ota.machine import State
from simulator.claims import Claim, at_least, holds
from simulator.demo.classroom import ClassroomProof

SMALLER_BAR: Final = 20.0
VEHICLES_BAR: Final = 10


def claims(proof: ClassroomProof) -> tuple[Claim, ...]:
    """In the order of the story. What wasn't proved doesn't hold."""
    return (_update(proof), _refused(proof), _flipped(proof), _kept(proof))


def _update(proof: ClassroomProof) -> Claim:
    """The agent's own is among those that were counted: the rest is the product's code without its process."""
    told = proof.pupil_counted and proof.vehicles >= VEHICLES_BAR and proof.update_bytes
    claim = at_least(
        "an update is smaller than the model it changes",
        proof.fp32_bytes / proof.update_bytes if told else None, SMALLER_BAR, "x",
        "A car pays for every byte: what it learned must fit where a picture doesn't.",
    )  # fmt: skip
    if claim.value is None:
        return claim
    return replace(claim, measured=f"{claim.measured} ({proof.update_bytes} bytes, of {proof.vehicles} vehicles)")


def _refused(proof: ClassroomProof) -> Claim:
    name = "updates replayed, stale, of a wrong base: refused by name"
    why = "Who sends the same twice, or what was never asked, must not move a whole fleet's model."
    if not proof.asked or not proof.refused:
        return holds(name, None, why)
    words = ", ".join(f"{count} {what}" for what, count in sorted(proof.refused.items()))
    return holds(name, proof.refused == proof.asked, why, measured=words, bar="1 of each, nothing else")


def _flipped(proof: ClassroomProof) -> Claim:
    """Worth something only beside one that passed: a gate that lets nothing through stops everything."""
    name = "an aggregate of flipped labels is stopped, an honest one isn't"
    why = "Signed, finite and within bounds is not right: a model is judged by what it tells, before anybody runs it."
    good, flipped = proof.good, proof.flipped
    if good is None or flipped is None:
        return holds(name, None, why)
    held = flipped.outcome == Outcome.FAILED and not proof.flipped_candidate and good.outcome == Outcome.PASSED
    words = f"flipped {flipped.outcome}, honest {good.outcome} ({good.words.split(':')[0]})"
    return holds(name, held, why, measured=words, bar="failed without a candidate; passed")


def _kept(proof: ClassroomProof) -> Claim:
    name = "what the fleet learned is kept by a vehicle as a signed release"
    why = "Learning ends in a car that sees better, by the same road that every other release takes."
    if not proof.kept:
        return holds(name, None, why)
    held = proof.kept == State.COMMITTED and proof.in_use and proof.right_after > proof.right_before
    used = "" if proof.in_use else ", BUT ITS WORKER RUNS ANOTHER"
    right = f"{proof.right_before} -> {proof.right_after} of {proof.crops} lights told right"
    words = f"{proof.kept}{used}; {right}{_not_shown(proof)}"
    return holds(name, held, why, measured=words, bar="committed, in use, more right than before")


def _not_shown(proof: ClassroomProof) -> str:
    """What its gate let pass, so that nobody takes "kept" for more than was looked at."""
    few = [f"that {label} is no worse is NOT shown: {count} lights" for label, count in proof.excused.items()]
    return "".join(f"; {words} are too few to tell, and this demo's gate excuses it" for words in few)
