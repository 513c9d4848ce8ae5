"""Samples by name become columns."""

from __future__ import annotations

import math

from ecu.samples import Sample
from telemetry.signals import vss
from telemetry.signals.gather import IMU_PATHS, Gatherer, told_group
from telemetry.signals.schema import Form

IMU = told_group("IMU", IMU_PATHS, 10_000)
OTHER = told_group("Other", ["A.B"])


def sample(seq: int, **values: float) -> Sample[dict[str, float]]:
    return Sample("imu", seq * 10, seq, {name.replace("__", "."): value for name, value in values.items()})


def test_a_group_has_vss_units() -> None:
    assert [spec.unit for spec in IMU.signals] == ["m/s^2"] * 3 + ["degrees/s"] * 3
    assert all(spec.form is Form.FLOAT for spec in IMU.signals)


def test_each_sample_is_a_row_of_the_groups_that_it_has_a_path_of() -> None:
    gatherer = Gatherer({7: IMU, 3: OTHER})
    rows = [Sample("imu", n * 10, n, dict.fromkeys(IMU_PATHS, float(n))) for n in range(3)]
    other, imu = gatherer.columns([*rows, sample(3, A__B=4.5)])
    assert (other.group, other.t_ns.tolist(), [v.tolist() for v in other.values if v is not None]) == (3, [30], [[4.5]])
    assert (imu.group, imu.t_ns.tolist()) == (7, [0, 10, 20])
    assert all(column is not None and column.tolist() == [0.0, 1.0, 2.0] for column in imu.values)


def test_what_a_sample_doesnt_have_isnt_known_and_what_nobody_has_is_counted() -> None:
    gatherer = Gatherer({0: IMU})
    (imu,) = gatherer.columns([Sample("imu", 1, 1, {vss.LATERAL: 2.0, "No.Such": 1.0, "None": 2.0})])
    row = [float(column[0]) for column in imu.values if column is not None]
    assert row[1] == 2.0
    assert all(math.isnan(value) for value in (row[0], *row[2:]))
    assert gatherer.ignored == 2


def test_nothing_gives_nothing() -> None:
    assert Gatherer({0: IMU}).columns([]) == []
