"""What campaigns cost at the worst, before any of them has run: pure sums over what signals say of themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, assert_never

from telemetry.capture.campaigns.campaign import (
    Campaign,
    LastKnown,
    OnAnomaly,
    Once,
    OnChange,
    OnCondition,
    Periodic,
    Trigger,
    Windows,
)
from telemetry.capture.campaigns.events import TELL_WITHIN_MS
from telemetry.capture.campaigns.floor import CampaignFloor
from telemetry.capture.campaigns.gate import hertz, most_rows
from telemetry.capture.campaigns.rowring import row_ring_bytes
from telemetry.capture.campaigns.streams import StreamSpec
from telemetry.capture.expressions import Condition
from telemetry.capture.history import sample_ring_bytes
from telemetry.signals.schema import Schema

DAY_S: Final = 86_400
STEP_MS: Final = 1000
"""Samples are worked on in steps of at most so long."""
LAG_MS: Final = 2000
"""Groups that no trigger looks at may be decoded so much later."""
CHANGES_EACH_MS: Final = 1000
FLASH_PER_BYTE: Final = 1.3
"""Bytes on flash for each that is told, commits included (docs/formats/spool.md)."""

BLOCK_BYTES: Final = 256
EVENT_BYTES: Final = 160
VALUE_BYTES: Final = 20
"""Of a value in an event, beside its path."""

Sources = dict[str, tuple[tuple[int, int], ...]]
"""Of each path, the groups and columns that tell it."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes of a day of 24 hours, of memory, how often something is evaluated, and the work (work.py)."""

    bytes_per_day: int = 0
    flash_bytes_per_day: int = 0
    ring_bytes: int = 0
    evaluations_per_s: float = 0.0
    work_per_s: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.bytes_per_day + other.bytes_per_day,
            self.flash_bytes_per_day + other.flash_bytes_per_day,
            self.ring_bytes + other.ring_bytes,
            self.evaluations_per_s + other.evaluations_per_s,
            self.work_per_s + other.work_per_s,
        )


@dataclass(frozen=True)
class Signals:
    """What a vehicle's signals are and where, and what its owner lets them cost."""

    schema: Schema
    floor: CampaignFloor

    @cached_property
    def sources(self) -> Sources:
        return _sources_of(self.schema)

    def hertz(self, group: int) -> float:
        """How often the group comes, about."""
        return hertz(self.schema.groups[group], self.floor.assumed_hz)


def _sources_of(schema: Schema) -> Sources:
    found: dict[str, list[tuple[int, int]]] = {}
    for number, group in enumerate(schema.groups):
        for column, signal in enumerate(group.signals):
            found.setdefault(signal.path, []).append((number, column))
    return {path: tuple(places) for path, places in found.items()}


def streams_for(campaign: Campaign, paths: Iterable[str], signals: Signals) -> list[StreamSpec]:
    """What has to be retained to tell these of its wishes."""
    sources, wanted = signals.sources, set(paths)
    columns: dict[tuple[int, int, int], list[int]] = {}
    for wish in campaign.signals:
        for group, column in sources.get(wish.path, ()) if wish.path in wanted else ():
            apart_ms, of = _apart(campaign.trigger, wish.min_period_ms, column)
            columns.setdefault((group, apart_ms, of), []).append(column)
    return [
        StreamSpec(group, tuple(sorted(of)), apart_ms, _rows(campaign.trigger, apart_ms, signals.hertz(group)))
        for (group, apart_ms, _), of in sorted(columns.items())
    ]


def _apart(trigger: Trigger, min_period_ms: int, column: int) -> tuple[int, int]:
    """How far apart rows are told, and what a stream is shared by: each signal changes on its own."""
    match trigger:
        case OnChange(min_interval_ms=interval_ms):
            return max(interval_ms, min_period_ms), column
        case LastKnown():
            return 0, -1
        case _:
            return min_period_ms, -1


def _rows(trigger: Trigger, apart_ms: int, hz: float) -> int:
    span_ms = retained_ms(trigger) + STEP_MS + LAG_MS
    passing = most_rows(hz, span_ms / 1000)
    return min(passing, span_ms // apart_ms + 2) if apart_ms else passing


def retained_ms(trigger: Trigger) -> int:
    """For how long a sample may be needed after it came."""
    match trigger:
        case Periodic(period_ms=period_ms):
            return period_ms
        case LastKnown():
            return 0
        case OnChange():
            return CHANGES_EACH_MS
        case OnCondition() | OnAnomaly() | Once():
            return trigger.pre_ms + min(trigger.post_ms, TELL_WITHIN_MS)
        case _:
            assert_never(trigger)


def history_samples(path: str, window_ms: int, signals: Signals) -> int:
    """How many samples a condition needs of a path: all that pass the gates in its window and in one step. Admission
    refuses more than MAX_SAMPLES: what a window misses would depend on how the samples were cut."""
    seconds = (window_ms + STEP_MS) / 1000
    return 1 + sum(most_rows(signals.hertz(group), seconds) for group, _ in signals.sources[path])


def cost_of(
    campaign: Campaign,
    streams: Sequence[StreamSpec],
    expression: Condition | None,
    signals: Signals,
) -> Cost:
    """At the worst, but for its work. Its own budget bounds what it tells."""
    told = min(told_per_day(campaign, streams, signals), campaign.budget.bytes_per_day)
    return Cost(
        told,
        int(told * FLASH_PER_BYTE),
        _retained_bytes(streams) + _history_bytes(expression, signals) + _anomaly_bytes(campaign),
        _evaluations(campaign, expression, signals),
    )


def told_per_day(campaign: Campaign, streams: Sequence[StreamSpec], signals: Signals) -> int:
    """Bytes, if nothing bounded them."""
    per_second = sum(_samples_per_s(stream, signals) for stream in streams) * signals.floor.bytes_per_sample
    values = sum(len(wish.path) + VALUE_BYTES for wish in campaign.signals)
    match campaign.trigger:
        case Periodic(period_ms=period_ms):
            return int(DAY_S * (per_second + BLOCK_BYTES * 1000 / period_ms))
        case LastKnown(period_ms=period_ms):
            return int(DAY_S * (EVENT_BYTES + values) * 1000 / period_ms)
        case OnChange():
            return int(DAY_S * (per_second + BLOCK_BYTES * 1000 / CHANGES_EACH_MS))
        case OnCondition() | OnAnomaly() | Once():
            return _of_events(campaign, campaign.trigger, per_second, values, signals.floor)
        case _:
            assert_never(campaign.trigger)


def events_per_day(windows: Windows) -> int:
    """Triggers, at most."""
    if isinstance(windows, Once):
        return 1
    return min(windows.max_per_day, DAY_S * 1000 // max(1, windows.cooldown_ms) + 1)


def _of_events(campaign: Campaign, windows: Windows, per_second: float, values: int, floor: CampaignFloor) -> int:
    events = events_per_day(windows)
    span_s = (windows.pre_ms + windows.post_ms) / 1000
    blocks = 1 + windows.post_ms // TELL_WITHIN_MS
    pictures = campaign.clip.before + campaign.clip.after if campaign.clip else 0
    each = EVENT_BYTES + values + blocks * BLOCK_BYTES + pictures * floor.picture_bytes
    return int(min(DAY_S, events * span_s) * per_second + events * each)


def _samples_per_s(stream: StreamSpec, signals: Signals) -> float:
    hz = signals.hertz(stream.group)
    return len(stream.columns) * (min(hz, 1000 / stream.min_period_ms) if stream.min_period_ms else hz)


def _retained_bytes(streams: Sequence[StreamSpec]) -> int:
    return sum(row_ring_bytes(stream.most_rows, len(stream.columns)) for stream in streams)


def _history_bytes(expression: Condition | None, signals: Signals) -> int:
    if expression is None:
        return 0
    return sum(
        sample_ring_bytes(history_samples(path, window_ms, signals))
        for path, window_ms in expression.windows_ms.items()
    )


def _anomaly_bytes(campaign: Campaign) -> int:
    return 1024 if isinstance(campaign.trigger, OnAnomaly) else 0


def _evaluations(campaign: Campaign, expression: Condition | None, signals: Signals) -> float:
    """Instants in a second: one for each row of a group that is looked at."""
    match campaign.trigger:
        case OnCondition() if expression is not None:
            paths: tuple[str, ...] = expression.paths
        case OnAnomaly(signal=signal):
            paths = (signal,)
        case _:
            return 0.0
    groups = {group for path in paths for group, _ in signals.sources.get(path, ())}
    return sum(signals.hertz(group) for group in groups)
