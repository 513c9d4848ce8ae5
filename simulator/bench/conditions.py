"""What asking a condition costs, beside the same comparisons written by hand in numpy, in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulator.bench.metric import Metric
from telemetry.capture.expressions import Condition, parse
from telemetry.capture.history import History, Keep
from telemetry.signals.schema import Columns, Group, Schema, SignalSpec

PATHS: Final = ("Vehicle.Speed", "Vehicle.Chassis.Brake.PedalPosition", "Vehicle.Chassis.SteeringWheel.Angle")
THREE_TERMS: Final = f"{PATHS[0]} > 80 and {PATHS[1]} > 50 and abs({PATHS[2]}) < 10"
SIMPLE: Final = f"{PATHS[0]} > 80"
WINDOWS: Final = {
    "0.5 s average": f"avg({PATHS[0]}, 500) > 80",
    "5 s average": f"avg({PATHS[0]}, 5000) > 80",
    "2 s minimum": f"low({PATHS[0]}, 2000) < 3",
}

BATCH: Final = 500
PERIOD_MS: Final = 10
WINDOW_MS: Final = 5000
ROUNDS: Final = 15
ARRAYS_BAR: Final = 5e6
SCALAR_BAR: Final = 1e6


def run() -> list[Metric]:
    history, columns = _driven()
    instants = history.instants(PATHS)
    return [*_over(history, instants, columns), *_at(history, int(instants[-1])), *_windows(history, instants)]


def _driven() -> tuple[History, list[NDArray[np.float64]]]:
    """A history over four batches, and the columns of the last one."""
    schema = Schema((Group("bench", tuple(SignalSpec(path) for path in PATHS)),))
    # The longest window is whole at every instant of a batch.
    keep = Keep(WINDOW_MS // PERIOD_MS + BATCH + 2, 500_000_000)
    history = History(schema, dict.fromkeys(PATHS, keep))
    rng = np.random.default_rng(1)
    columns: list[NDArray[np.float64]] = []
    for batch in range(4):
        t_ns = np.arange(batch * BATCH, (batch + 1) * BATCH, dtype=np.int64) * PERIOD_MS * 1_000_000
        columns = [rng.normal(60, 40, BATCH) for _ in PATHS]
        history.put([Columns(0, t_ns, tuple(columns))])
    return history, columns


def _over(history: History, instants: NDArray[np.int64], columns: list[NDArray[np.float64]]) -> list[Metric]:
    condition = parse(THREE_TERMS)
    speed, brake, wheel = columns
    ours, raw = [], []
    for _ in range(ROUNDS):
        ours.append(_cpu_s(lambda: condition.over(history, instants), 100))
        raw.append(_cpu_s(lambda: (speed > 80) & (brake > 50) & (np.abs(wheel) < 10), 1000))
    how = f"three terms, batches of {BATCH}, looking up included; CPU time, median of {ROUNDS}"
    return [
        Metric("answers a second over a batch", BATCH / median(ours), "answers", how, ARRAYS_BAR, "at least"),
        Metric(
            "over a batch, beside numpy by hand", median(ours) / median(raw), "x",
            "two-valued, on columns that are aligned already and never stale; interleaved",
        ),
    ]  # fmt: skip


def _at(history: History, now_ns: int) -> list[Metric]:
    simple, three = parse(SIMPLE), parse(THREE_TERMS)
    form, values = three.scalar(), (81.0, 60.0, 2.0)
    return [
        Metric("answers a second, one by one", 1 / _median_s(lambda: simple.at(history, now_ns), 5000), "answers",
               "one term at the newest instant, looking up included"),
        Metric("answers a second of values at hand", 1 / _median_s(lambda: form(*values), 5000), "answers",
               "three terms, nothing looked up", SCALAR_BAR, "at least"),
    ]  # fmt: skip


def _windows(history: History, instants: NDArray[np.int64]) -> list[Metric]:
    def rate(condition: Condition) -> float:
        return BATCH / _median_s(lambda: condition.over(history, instants), 20)

    return [
        Metric(f"answers a second of a {name}", rate(parse(text)), "answers", f"batches of {BATCH} at 100 Hz")
        for name, text in WINDOWS.items()
    ]


def _median_s(ask: Callable[[], object], times: int) -> float:
    return median(_cpu_s(ask, times) for _ in range(ROUNDS))


def _cpu_s(ask: Callable[[], object], times: int) -> float:
    began_ns = time.process_time_ns()
    for _ in range(times):
        ask()
    return (time.process_time_ns() - began_ns) / times / 1e9
