"""A busy bus: a hundred messages at 100 Hz each, 10,000 frames a second, and campaigns as a fleet would have them.

Every signal is a bounded walk of 16 bits. One is a square wave, by which triggers come five times a second.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from telemetry.signals.frames import Frames
from telemetry.signals.plan import Cut, GroupCut, SignalPlan, encode_plan
from telemetry.signals.recording import encode_recording
from telemetry.signals.schema import Form, Group, Schema, SignalSpec

MESSAGES: Final = 100
SIGNALS: Final = 4
PERIOD_US: Final = 10_000
FRAMES_PER_S: Final = MESSAGES * 1_000_000 // PERIOD_US
LOOP_S: Final = 4
TRIGGERS_PER_S: Final = 5
_FIRST_ID: Final = 0x100
_TOGGLED: Final = 1
_END_OF_TIME: Final = 1 << 40


def path_of(message: int, signal: int) -> str:
    return f"Vehicle.Private.M{message}.S{signal}"


def busy_plan() -> SignalPlan:
    groups = tuple(
        Group(f"M{message}", tuple(SignalSpec(path_of(message, k), Form.INT, 0.01) for k in range(SIGNALS)), PERIOD_US)
        for message in range(MESSAGES)
    )
    cuts = tuple(Cut(16 * (3 - k), 16) for k in range(SIGNALS))
    return SignalPlan(Schema(groups), tuple(GroupCut(0, _FIRST_ID + message, (), cuts) for message in range(MESSAGES)))


def busy_frames(seconds: int = LOOP_S, seed: int = 7) -> Frames:
    """In order of time, evenly spaced."""
    count = seconds * FRAMES_PER_S
    rng = np.random.default_rng(seed)
    walks = np.cumsum(rng.integers(-3, 4, size=(count // MESSAGES, MESSAGES, SIGNALS)), axis=0) + 20_000
    rows = np.arange(len(walks))
    walks[:, _TOGGLED, 0] = np.where(rows * PERIOD_US * TRIGGERS_PER_S // 500_000 % 2, 30_000, 0)
    # The plan counts a little-endian signal's bits from the lowest: signal 0 is the highest word.
    data = np.ascontiguousarray(walks[:, :, ::-1].astype("<u2")).view(np.uint8).reshape(count, 8)
    return Frames(
        np.arange(count, dtype=np.int64) * 1_000_000_000 // FRAMES_PER_S,
        np.zeros(count, np.uint8),
        (_FIRST_ID + np.arange(count) % MESSAGES).astype(np.uint32),
        np.full(count, 8, np.uint8),
        data,
    )


def busy_campaigns() -> bytes:
    """Twenty signals all the time in blocks of 10 s; a condition of three terms, in P0, with 5 s around; an anomaly."""
    return json.dumps({"schema": 1, "revision": 1, "campaigns": [_steady(), _urgent(), _odd()]}).encode()


def _steady() -> dict[str, Any]:
    return _campaign("steady", "driving", "p2", {"kind": "periodic", "period_ms": 10_000}, range(20))


def _urgent() -> dict[str, Any]:
    when = f"{path_of(1, 0)} > 100 and {path_of(2, 1)} < 600 and rate({path_of(3, 2)}, 500) > -1000"
    trigger = {
        "kind": "on_condition", "when": when, "pre_ms": 5000, "post_ms": 5000, "cooldown_ms": 0,
        "max_per_day": 1_000_000,
    }  # fmt: skip
    return _campaign("urgent", "safety", "p0", trigger, range(30, 35))


def _odd() -> dict[str, Any]:
    anomaly = {"test": "implausible_rate", "max_per_s": 1_000_000.0}
    trigger = {"kind": "on_anomaly", "signal": path_of(50, 0), "anomaly": anomaly, "pre_ms": 1000, "post_ms": 1000}
    return _campaign("odd", "driving", "p1", trigger, range(50, 55))


def _campaign(name: str, purpose: str, lane: str, trigger: dict[str, Any], messages: range) -> dict[str, Any]:
    return {
        "name": name, "revision": 1, "purpose": purpose, "lane": lane, "not_after": _END_OF_TIME, "trigger": trigger,
        "signals": [{"path": path_of(message, 1)} for message in messages],
        "budget": {"bytes_per_day": 4_000_000_000},
    }  # fmt: skip


def lay(folder: Path) -> None:
    """The recording, its plan, the campaigns and the agent's settings, in the folder."""
    (folder / "bus.frames").write_bytes(encode_recording(busy_frames(), level=3))
    (folder / "signals.plan").write_bytes(encode_plan(busy_plan()))
    (folder / "campaigns.json").write_bytes(busy_campaigns())


def settings(folder: Path, witness: Path) -> dict[str, dict[str, object]]:
    """outrider.toml's sections: everything allowed, and nobody to send to."""
    return {
        "signals": {"source": source_url(folder), "plan": str(folder / "signals.plan")},
        "campaigns": {
            "file": str(folder / "campaigns.json"), "bytes_per_day": 1 << 40, "flash_bytes_per_day": 1 << 40,
            "ring_bytes": 1 << 26, "evaluations_per_s": 1_000_000, "work_per_s": 1_000_000,
        },
        "privacy": {"consents": ["safety", "driving", "operation"]},
        "link": {"kind": "none"},
        "objects": {"enabled": False},
        "witness": {"socket": str(witness)},
    }  # fmt: skip


def source_url(folder: Path) -> str:
    return f"frames:{folder / 'bus.frames'}?loop=1"
