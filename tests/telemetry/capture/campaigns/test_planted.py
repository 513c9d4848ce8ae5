"""Faults that are planted in the engine are found by what it is held to: the plain reading of its rules, and cuts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from telemetry.capture.campaigns import edges, events, gate, runner, streams, watches
from tests.telemetry.capture.campaigns import test_cuts, test_reference

Plant = Callable[[pytest.MonkeyPatch], None]


def thinning_begins_anew_with_each_batch(patch: pytest.MonkeyPatch) -> None:
    thinned = streams.thinned
    patch.setattr(streams, "thinned", lambda t_ns, last_ns, apart_ns: thinned(t_ns, streams.LONG_AGO_NS, apart_ns))


def windows_lack_their_last_instant(patch: pytest.MonkeyPatch) -> None:
    piece = events.Windowed._piece
    patch.setattr(events.Windowed, "_piece", lambda self, end_ns: piece(self, end_ns - 1))


def windows_that_overlap_tell_twice(patch: pytest.MonkeyPatch) -> None:
    def forgetful(self: Any, t_ns: int) -> None:
        self._told_ns = streams.LONG_AGO_NS
        opened(self, t_ns)

    opened = events.Windowed._open
    patch.setattr(events.Windowed, "_open", forgetful)


def edges_forget_over_batches(patch: pytest.MonkeyPatch) -> None:
    def forgetful(self: Any, instants: Any, states: Any) -> Any:
        self._was_true = False
        return rising(self, instants, states)

    rising = edges.Edges._rising
    patch.setattr(edges.Edges, "_rising", forgetful)


def missing_counts_as_false(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(edges, "MISSING", 5)


def a_gate_counts_by_batch(patch: pytest.MonkeyPatch) -> None:
    def generous(self: Any, part: Any, *frontier: int) -> Any:
        self._left = self._most
        return passing(self, part, *frontier)

    passing = gate.Gate.passing
    patch.setattr(gate.Gate, "passing", generous)


def being_stuck_begins_with_the_batch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(watches, "_carried", lambda since_ns, before_ns: np.maximum.accumulate(since_ns))


def values_are_believed_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(runner, "stale_after_ns", lambda *_: 1 << 60)


def states_are_those_of_the_end_of_the_batch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(streams.Stream, "last_known", lambda self, t_ns: known(self, 1 << 60))


known = streams.Stream.last_known
BY_CUTS: dict[Plant, range] = {
    thinning_begins_anew_with_each_batch: range(5),
    edges_forget_over_batches: range(15),
    a_gate_counts_by_batch: range(5),
    being_stuck_begins_with_the_batch: range(14, 18),
    states_are_those_of_the_end_of_the_batch: range(5),
}
BY_READING: dict[Plant, range] = {
    thinning_begins_anew_with_each_batch: range(5),
    edges_forget_over_batches: range(15),
    a_gate_counts_by_batch: range(5),
    being_stuck_begins_with_the_batch: range(10, 20),
    states_are_those_of_the_end_of_the_batch: range(10),
    windows_lack_their_last_instant: range(10, 20),
    windows_that_overlap_tell_twice: range(30, 35),
    missing_counts_as_false: range(30, 35),
    values_are_believed_for_ever: range(30, 35),
}
"""Each with seeds among which is one that shows it."""


@pytest.mark.parametrize("plant", BY_CUTS)
def test_cuts_find_a_planted_fault(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    assert any(test_cuts.differs(seed, test_cuts.in_batches) for seed in BY_CUTS[plant])


@pytest.mark.parametrize("plant", BY_READING)
def test_the_plain_reading_finds_a_planted_fault(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    assert any(test_reference.differences(seed) for seed in BY_READING[plant])
