"""Samples of a source that tells names and numbers, as columns: an IMU, a gateway, the perception of itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from telemetry.signals import vss
from telemetry.signals.schema import Columns, Form, Group, SignalSpec
from telemetry.signals.source import SignalSample

IMU_PATHS: Final = (
    vss.LONGITUDINAL,
    vss.LATERAL,
    vss.VERTICAL,
    "Vehicle.AngularVelocity.Roll",
    "Vehicle.AngularVelocity.Pitch",
    "Vehicle.AngularVelocity.Yaw",
)


def told_group(name: str, paths: Sequence[str], period_us: int | None = None) -> Group:
    """A group of what such a source tells, in VSS's units where VSS has the path."""
    return Group(name, tuple(SignalSpec(path, Form.FLOAT, unit=vss.UNITS.get(path, "")) for path in paths), period_us)


class Gatherer:
    """Turns samples into columns of the groups given, by their numbers in the vehicle's schema.

    A sample that has a path of a group is a row of it; a path that the sample doesn't have is NaN there: the source
    doesn't know. Values of paths that no group has are counted in `ignored`.
    """

    def __init__(self, groups: Mapping[int, Group]) -> None:
        self.ignored = 0
        self._paths = {number: tuple(spec.path for spec in group.signals) for number, group in groups.items()}
        self._known = {path for paths in self._paths.values() for path in paths}

    def columns(self, samples: Sequence[SignalSample]) -> list[Columns]:
        """Of samples in order of time."""
        self.ignored += sum(path not in self._known for sample in samples for path in sample.payload)
        return [
            _columns(number, paths, rows)
            for number, paths in sorted(self._paths.items())
            if (rows := [sample for sample in samples if not sample.payload.keys().isdisjoint(paths)])
        ]


def _columns(number: int, paths: tuple[str, ...], rows: Sequence[SignalSample]) -> Columns:
    values = np.array([[sample.payload.get(path, math.nan) for sample in rows] for path in paths], np.float64)
    return Columns(number, np.array([sample.t_ns for sample in rows], np.int64), tuple(values))
