"""The claims about a new model on the demo's vehicle: tried beside the live one, kept, and at nobody's expense."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from inference.fidelity import Agreement
from ota.machine import State
from simulator.claims import Claim, at_most, equals, holds
from simulator.demo.observer import Observations, Reading, Sighting
from simulator.demo.script import Deed

SHADOW_BAR = 1.25
FEW_FRAMES = 20
WARM_FRAMES = 25
"""The first of a drive come while everything is still getting ready."""
STATIONS = (State.STAGED, State.SHADOW, State.SWITCHED, State.COMMITTED)
LEFT_OUT_BAR = 5
"""Frames in a row that a busy computer may leave out at real speed, at the swap as at any other time."""


@dataclass(frozen=True, slots=True)
class Models:
    """Both models' fidelity to the fp32 graph, F1 at score .40, and the name that the new one has in results."""

    old: Agreement | None
    new: Agreement | None


def claims(seen: Observations, models: Models, lockstep: bool) -> tuple[Claim, ...]:
    return _kept(seen, models), _swapped(seen, lockstep), _undisturbed(seen, lockstep)


def _kept(seen: Observations, models: Models) -> Claim:
    """Through every station of a trial, in order; the judge's own words, and what both models are worth by another
    measure."""
    name = "a signed release tried beside the live model, judged better, and kept"
    why = "A model that is better on somebody's desk may be worse on this car: it has to show it here."
    committed, judged = seen.update(State.COMMITTED), seen.update(State.SWITCHED)
    if models.old is None or models.new is None:
        return holds(name, None, why)
    after = [one for one in seen.sightings if committed is not None and one.heard_ns > committed.heard_ns]
    is_live = bool(after) and all(" 2.0 " in one.model for one in after)
    reached = [one.heard_ns for state in STATIONS if (one := seen.update(state)) is not None]
    was_tried = len(reached) == len(STATIONS) and reached == sorted(reached)
    title = committed.title if committed is not None else "NOT kept"
    words = judged.words if judged is not None else "NOT switched to"
    return holds(
        name, was_tried and is_live, why,
        measured=f"{title}; {words}; fidelity F1 {models.old.f1:.2f} -> {models.new.f1:.2f}",
        bar="judged, committed, and live ever after",
    )  # fmt: skip


def _swapped(seen: Observations, lockstep: bool) -> Claim:
    """Between two results of one agent's life the model changes once, and the frame ids go on. Lost is also what
    neither model has seen: a car that waits for its new model leaves frames out, and loses none to a fault."""
    name = "frames lost by the swap from 1.0 to 2.0"
    why = "A swap is a switch between two frames: the road doesn't wait for a new model."
    swap = _swap_of(seen.sightings)
    if swap is None or seen.done(Deed.RELEASE) is None:
        return equals(name, None, 0, "", why)
    last, first = swap
    lost = _lost_to_faults(seen.readings, last.heard_ns, first.heard_ns)
    unseen = first.frame_id - last.frame_id - 1
    if lost is not None and unseen > (0 if lockstep else LEFT_OUT_BAR):
        lost = max(lost, unseen)
    claim = equals(name, lost, 0, "", why)
    return replace(claim, measured=f"{claim.measured} (1.0 saw frame {last.frame_id:,}, 2.0 frame {first.frame_id:,})")


def _swap_of(sightings: Sequence[Sighting]) -> tuple[Sighting, Sighting] | None:
    """The last result of 1.0 before the first one of 2.0; None when there is no such pair, or 1.0 comes back."""
    swaps = [(a, b) for a, b in itertools.pairwise(sightings) if a.model != b.model]
    if len(swaps) != 1 or " 1.0 " not in swaps[0][0].model or " 2.0 " not in swaps[0][1].model:
        return None
    return swaps[0]


def _lost_to_faults(readings: Sequence[Reading], from_ns: int, until_ns: int) -> int | None:
    """By the agent's own count, from the last reading before to the first one behind."""
    before = [_lost(reading) for reading in readings if reading.heard_ns <= from_ns]
    behind = [_lost(reading) for reading in readings if reading.heard_ns >= until_ns]
    if not before or not behind or before[-1] is None or behind[0] is None:
        return None
    return behind[0] - before[-1]


def _lost(reading: Reading) -> int | None:
    perception: Mapping[str, dict[str, int]] | None = reading.status.get("perception")
    return None if not perception else perception["frames"]["lost_to_fault"]


def _undisturbed(seen: Observations, lockstep: bool) -> Claim:
    """The live model's frames while a candidate looks at them, too, over those before that nothing else disturbed: by
    the slowest in a hundred at real speed. In lockstep everybody shares the processors, and what counts is what we add
    to the model's own call."""
    what = "over the model's own call" if lockstep else "p99"
    name = f"live model while another looks on, {what}, over before"
    why = "Whoever is tried must not cost the one that drives its time."
    staged, shadow, over = seen.update(State.STAGED), seen.update(State.SHADOW), seen.update(State.SWITCHED)
    if staged is None or shadow is None:
        return at_most(name, None, SHADOW_BAR, "x", why)
    until_ns = over.heard_ns if over is not None else seen.sightings[-1].heard_ns
    before = [one for one in seen.sightings if one.heard_ns < staged.heard_ns]
    if not lockstep:
        before = [one for one in before[WARM_FRAMES:] if not _is_amid(one, seen)]
    beside = [one for one in seen.sightings if shadow.heard_ns <= one.heard_ns <= until_ns]
    if min(len(before), len(beside)) < FEW_FRAMES:
        return at_most(name, None, SHADOW_BAR, "x", why)
    cost = _added if lockstep else _slowest_ms
    claim = at_most(name, cost(beside) / cost(before), SHADOW_BAR, "x", why)
    more = f"{cost(before):.2f} -> {cost(beside):.2f}{'' if lockstep else ' ms'}, {len(beside):,} frames"
    return replace(claim, measured=f"{claim.measured} ({more})")


def _is_amid(sighting: Sighting, seen: Observations) -> bool:
    """Whether something was being done to the agent when it was heard of."""
    return any(done.began_ns <= sighting.heard_ns <= done.ended_ns for done in seen.deeds)


def _slowest_ms(sightings: Sequence[Sighting]) -> float:
    return float(np.percentile([one.latency_ns for one in sightings], 99)) / 1e6


def _added(sightings: Sequence[Sighting]) -> float:
    return float(np.median([one.latency_ns / one.model_ns for one in sightings if one.model_ns]))
