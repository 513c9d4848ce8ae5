"""What the signals that conditions name have been, as far back as these look, in memory that is known beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from telemetry.capture.expressions.arrays import ARRAYS
from telemetry.capture.expressions.condition import Condition
from telemetry.capture.expressions.tree import Age, Leaf, Signal, Window
from telemetry.capture.keep import MAX_SAMPLES, Keep, sample_ring_bytes
from telemetry.capture.manyinstants import ages_over, signals_over, windows_over
from telemetry.capture.oneinstant import age_at, signal_at, window_at
from telemetry.capture.samplering import SampleRing
from telemetry.signals.schema import Columns, Schema, physical

__all__ = ["MAX_SAMPLES", "History", "Keep", "sample_ring_bytes"]


class History:
    """The samples of the paths in `keeps`, found in batches of `schema`; of other paths nothing is kept.

    Put all that came up to an instant, of every group, and only then ask about it: what it is then told doesn't depend
    on how the samples were cut into batches.
    """

    def __init__(self, schema: Schema, keeps: Mapping[str, Keep]) -> None:
        self._schema = schema
        self._rings = {path: SampleRing(keep.samples, keep.stale_after_ns) for path, keep in keeps.items()}
        self._arrived: dict[str, NDArray[np.int64]] = {}
        self._wanted = tuple(
            tuple((place, spec) for place, spec in enumerate(group.signals) if spec.path in self._rings)
            for group in schema.groups
        )

    @property
    def dropped(self) -> int:
        """Samples that were no later than the one before of the same path."""
        return sum(ring.dropped for ring in self._rings.values())

    def put(self, batch: Iterable[Columns]) -> None:
        """Takes what came, of any groups in any order."""
        parts: dict[str, list[tuple[NDArray[np.int64], NDArray[np.float64]]]] = {}
        # Of two groups that tell a path at one instant the first in the schema counts.
        for columns in sorted(batch, key=_group_of):
            for place, spec in self._wanted[columns.group]:
                raw = columns.values[place]
                if raw is not None:
                    parts.setdefault(spec.path, []).append((columns.t_ns, physical(spec, raw)))
        self._arrived = {path: self._rings[path].put(*_merged(told)) for path, told in parts.items()}

    def instants(self, paths: Iterable[str]) -> NDArray[np.int64]:
        """Every instant at which one of `paths` got a sample in the last `put`, rising."""
        arrived = [self._arrived[path] for path in paths if path in self._arrived]
        if len(arrived) == 1:
            return arrived[0]
        return np.unique(np.concatenate(arrived)) if arrived else np.empty(0, np.int64)

    def at(self, condition: Condition, t_ns: int) -> bool | float | None:
        """See Condition.at. Raises KeyError for a condition that names a path which isn't kept."""
        return condition.scalar()(*[_answer(self._rings[leaf.path], leaf, t_ns) for leaf in condition.leaves])

    def over(self, condition: Condition, instants_ns: NDArray[np.int64]) -> NDArray[Any]:
        """See Condition.over. Raises KeyError for a condition that names a path which isn't kept."""
        answer: NDArray[Any] = condition.form(ARRAYS)(
            *[_answers(self._rings[leaf.path], leaf, instants_ns) for leaf in condition.leaves]
        )
        return answer if condition.leaves else np.full(len(instants_ns), answer)


def _answer(ring: SampleRing, leaf: Leaf, t_ns: int) -> float:
    match leaf:
        case Signal():
            return signal_at(ring, t_ns)
        case Age():
            return age_at(ring, t_ns)
        case Window():
            return window_at(ring, leaf.function, t_ns, leaf.ms)
        case _:
            assert_never(leaf)


def _answers(ring: SampleRing, leaf: Leaf, instants_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    match leaf:
        case Signal():
            return signals_over(ring, instants_ns)
        case Age():
            return ages_over(ring, instants_ns)
        case Window():
            return windows_over(ring, leaf.function, instants_ns, leaf.ms)
        case _:
            assert_never(leaf)


def _group_of(columns: Columns) -> int:
    return columns.group


def _merged(
    told: list[tuple[NDArray[np.int64], NDArray[np.float64]]],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """One path's samples in the order of their stamps, when several groups tell it."""
    if len(told) == 1:
        return told[0]
    t_ns = np.concatenate([stamps for stamps, _ in told])
    values = np.concatenate([values for _, values in told])
    order = np.argsort(t_ns, kind="stable")
    return t_ns[order], values[order]
