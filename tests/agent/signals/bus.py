"""A small bus for the tests: two messages, a speed at 50 Hz and a pedal at 10 Hz, and campaigns about them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from telemetry.signals.frames import Frames, concat
from telemetry.signals.plan import Cut, GroupCut, SignalPlan
from telemetry.signals.schema import Form, Group, Schema, SignalSpec

SPEED, PEDAL, SEEN = (
    "Vehicle.Speed",
    "Vehicle.Chassis.Brake.PedalPosition",
    "Vehicle.Outrider.Perception.Front.Person.Count",
)
MS = 1_000_000

PLAN = SignalPlan(
    Schema(
        (
            Group("motion", (SignalSpec(SPEED, Form.INT, 0.1, unit="km/h"),), 20_000),
            Group("brakes", (SignalSpec(PEDAL, Form.INT, 1.0),), 100_000),
        )
    ),
    (GroupCut(0, 0x100, (), (Cut(0, 16),)), GroupCut(0, 0x200, (), (Cut(0, 8),))),
)


def drive(seconds: float, from_ns: int = 0) -> Frames:
    """Speed falls from 100 km/h and comes back every 4 s; the pedal is pressed while it falls."""
    return concat([_message(0x100, 20, seconds, from_ns, _speed), _message(0x200, 100, seconds, from_ns, _pedal)])


def _speed(t_s: Any) -> Any:
    return (1000 - 200 * np.abs((t_s % 4) - 2)).astype(np.int64)


def _pedal(t_s: Any) -> Any:
    return np.where(t_s % 4 >= 2, 40, 0).astype(np.int64)


def _message(can_id: int, period_ms: int, seconds: float, from_ns: int, value: Any) -> Frames:
    t_ns = from_ns + np.arange(int(seconds * 1000 / period_ms), dtype=np.int64) * period_ms * MS
    count = len(t_ns)
    data = value((t_ns - from_ns) / 1e9).astype("<u8").view(np.uint8).reshape(count, 8)
    return Frames(
        t_ns, np.zeros(count, np.uint8), np.full(count, can_id, np.uint32), np.full(count, 8, np.uint8), data
    )  # fmt: skip


def campaign(name: str, trigger: dict[str, Any], *paths: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "revision": 1, "purpose": "driving", "lane": "p1", "not_after": 1 << 40, "trigger": trigger,
        "signals": [{"path": path} for path in paths], "budget": {"bytes_per_day": 1 << 36}, **more,
    }  # fmt: skip


def campaigns(*those: dict[str, Any], revision: int = 1) -> bytes:
    return json.dumps({"revision": revision, "campaigns": those}).encode()


STEADY = campaign("steady", {"kind": "periodic", "period_ms": 1000}, SPEED, PEDAL)
BRAKING = campaign(
    "braking", {"kind": "on_condition", "when": f"{PEDAL} > 20 and {SPEED} < 95", "pre_ms": 500, "post_ms": 500}, SPEED
)
PEOPLE = campaign("people", {"kind": "on_condition", "when": f"{SEEN} > 0", "pre_ms": 500, "post_ms": 500}, SPEED, SEEN)
