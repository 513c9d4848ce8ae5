"""The demo's campaign, and what came of it: its samples beside what the vehicle told otherwise.

The vehicle's periodic summaries have every sample of its gateway, by another way: capture rules, no engine, no columns.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ecu.clock import MILLISECOND_NS
from simulator.demo.proofs import StoredRecord
from telemetry.columns.block import decode
from telemetry.columns.errors import BadColumns
from telemetry.records import SignalBlock, Triggered, VehicleSummary, decode_event
from telemetry.signals.schema import physical
from telemetry.signals.vss import BRAKE_PEDAL, LONGITUDINAL, SPEED

NAME: Final = "braking"
BEFORE_MS: Final = 2000
AFTER_MS: Final = 1000
LEAST_MS: Final = 40
"""The vehicle speaks each 50 ms: this leaves nothing out, and says what it costs."""
WHEN: Final = f"{LONGITUDINAL} < -4 and {SPEED} > 20"
APART_NS: Final = 60 * MILLISECOND_NS
"""Between two samples of the vehicle's, and some: an older one says nothing about now."""
_END_OF_TIME: Final = 1 << 40


def campaign() -> bytes:
    """campaigns.json: two signals from before hard braking to after it, and both of them all the time."""
    common: Mapping[str, Any] = {
        "revision": 1, "purpose": "driving", "not_after": _END_OF_TIME, "budget": {"bytes_per_day": 20_000_000},
        "signals": [{"path": path, "min_period_ms": LEAST_MS} for path in (SPEED, BRAKE_PEDAL)],
    }  # fmt: skip
    braking = {
        "name": NAME, "lane": "p1", **common,
        "trigger": {"kind": "on_condition", "when": WHEN, "pre_ms": BEFORE_MS, "post_ms": AFTER_MS},
    }  # fmt: skip
    steady = {"name": "steady", "lane": "p2", **common, "trigger": {"kind": "periodic", "period_ms": 2000}}
    return json.dumps({"revision": 1, "campaigns": [braking, steady]}).encode()


@dataclass(frozen=True, slots=True)
class SignalProof:
    """`samples` are all that the campaign's stored blocks hold: `same` as the summary of their instant, `different`, or
    `alone`, where the summary of that instant was lost with the agent. `unread` blocks couldn't be decoded."""

    blocks: int = 0
    samples: int = 0
    same: int = 0
    different: int = 0
    alone: int = 0
    triggers: int = 0
    unread: int = 0


def watch_signals(stored: Iterable[StoredRecord]) -> SignalProof:
    summaries: dict[str, dict[int, float]] = {SPEED: {}, BRAKE_PEDAL: {}}
    told: list[SignalBlock] = []
    triggers = 0
    for one in stored:
        match decode_event(bytes(one.record.event)):
            case VehicleSummary(signals):
                for path, known in summaries.items():
                    if path in signals:
                        known[one.record.captured_ns] = signals[path]
            case SignalBlock() as block:
                told.append(block)
            case Triggered():
                triggers += 1
            case _:
                pass
    return _compared(told, triggers, summaries)


def _compared(told: list[SignalBlock], triggers: int, summaries: Mapping[str, Mapping[int, float]]) -> SignalProof:
    instants = {path: sorted(known) for path, known in summaries.items()}
    same = different = alone = unread = 0
    for block in told:
        try:
            samples = list(_samples(block))
        except BadColumns:
            unread += 1
            continue
        for path, t_ns, value in samples:
            at = bisect_right(instants[path], t_ns) - 1
            if at < 0 or t_ns - instants[path][at] > APART_NS:
                alone += 1
            elif summaries[path][instants[path][at]] == value:
                same += 1
            else:
                different += 1
    return SignalProof(len(told), same + different + alone, same, different, alone, triggers, unread)


def _samples(event: SignalBlock) -> Iterable[tuple[str, int, float]]:
    block = decode(event.columns, lambda _: None)
    for part in block.parts:
        for spec, raw in zip(block.schema.groups[part.group].signals, part.values, strict=True):
            if raw is not None:
                # Times on the wire are whole microseconds, rounded down.
                yield from (
                    (spec.path, t_ns + 999, v)
                    for t_ns, v in zip(part.t_ns.tolist(), physical(spec, raw).tolist(), strict=True)
                )
