"""What campaigns should tell, the slow way: all samples in one list, one after the other, no arrays, no batches.

It is written from docs/formats/campaign.md and shares no code with the engine. It knows two kinds of condition.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from telemetry.signals.schema import Columns
from tests.telemetry.capture.campaigns.world import SCHEMA

MS = 1_000_000


@dataclass(frozen=True)
class Row:
    """One row of a group, by path: raw and physical."""

    t: int
    group: int
    raw: dict[str, float]
    physical: dict[str, float]


@dataclass
class Expected:
    triggers: list[tuple[int, str, dict[str, float]]] = field(default_factory=list)
    samples: list[tuple[int, str, float]] = field(default_factory=list)
    states: list[dict[str, tuple[float, int]]] = field(default_factory=list)


def rows_of(parts: Sequence[Columns]) -> list[Row]:
    """Those that pass, in order of time: each second of a group has twice its usual rows and eight more, at most."""
    passed = []
    for part in parts:
        specs, seconds = SCHEMA.groups[part.group].signals, dict[int, int]()
        most = int(2 * 1e6 / (SCHEMA.groups[part.group].period_us or 0)) + 8
        for number, t in enumerate(part.t_ns.tolist()):
            seconds[t // 10**9] = seconds.get(t // 10**9, 0) + 1
            if seconds[t // 10**9] <= most:
                columns = zip(specs, part.values, strict=True)
                raw = {spec.path: column[number].item() for spec, column in columns if column is not None}
                told = {spec.path: float(raw[spec.path]) * spec.scale + spec.offset for spec in specs}
                passed.append(Row(t, part.group, raw, told))
    return sorted(passed, key=lambda row: (row.t, row.group))


def expected(campaign: Mapping[str, Any], parts: Sequence[Columns], until: int) -> Expected:
    rows, trigger = rows_of(parts), campaign["trigger"]
    wishes = {wish["path"]: wish.get("min_period_ms", 0) * MS for wish in campaign["signals"]}
    match trigger["kind"]:
        case "periodic":
            thinned = [(path, _thin(rows, path, wishes[path])) for path in wishes]
            return Expected(samples=[(row.t, path, row.raw[path]) for path, told in thinned for row in told])
        case "on_change":
            apart = trigger["min_interval_ms"] * MS
            told = [_changes(rows, path, trigger["beyond"], max(apart, wishes[path])) for path in wishes]
            return Expected(samples=[sample for samples in told for sample in samples])
        case "last_known":
            return Expected(states=list(_states(rows, list(wishes), trigger["period_ms"] * MS, until)))
        case "on_condition":
            instants = _edges(list(_condition(rows, trigger["when"])), trigger["edge"], trigger["cooldown_ms"] * MS)
            return _windows(rows, wishes, trigger, instants, "condition", until)
        case _:
            test = trigger["anomaly"]
            says = _ANOMALIES[test["test"]](_of(rows, trigger["signal"]), test, trigger["signal"])
            instants = _edges(list(says), "rising", trigger["cooldown_ms"] * MS)
            return _windows(rows, wishes, trigger, instants, test["test"], until)


def _thin(rows: Sequence[Row], path: str, apart: int) -> list[Row]:
    told: list[Row] = []
    for row in rows:
        if path in row.raw and (not told or row.t - told[-1].t >= apart):
            told.append(row)
    return told


def _changes(rows: Sequence[Row], path: str, beyond: float, apart: int) -> list[tuple[int, str, float]]:
    told: list[tuple[int, str, float]] = []
    last = math.nan
    for row in rows:
        value = row.physical.get(path, math.nan)
        moved = not math.isnan(value) and (math.isnan(last) or abs(value - last) > beyond)
        if moved and (not told or row.t - told[-1][0] >= apart):
            told.append((row.t, path, row.raw[path]))
            last = value
    return told


def _states(rows: Sequence[Row], paths: list[str], period: int, until: int) -> Iterator[dict[str, tuple[float, int]]]:
    wanted = [row for row in rows if any(path in row.raw for path in paths)]
    for end in sorted({(row.t // period + 1) * period for row in wanted}):
        if end <= until:
            state = {}
            for path in paths:
                before = [row for row in wanted if row.t < end and path in row.raw]
                if before and math.isfinite(before[-1].physical[path]):
                    state[path] = (before[-1].physical[path], (end - before[-1].t) // MS)
            if state:
                yield state


def _windows(
    rows: Sequence[Row], wishes: dict[str, int], trigger: Mapping[str, Any], instants: list[int], why: str, until: int
) -> Expected:
    instants = instants[: trigger["max_per_day"]]
    found = Expected()
    thinned = {path: _thin(rows, path, apart) for path, apart in wishes.items()}
    for t in instants:
        last = {path: [row.physical[path] for row in told if row.t <= t][-1:] for path, told in thinned.items()}
        known = {path: value for path, values in last.items() for value in values if math.isfinite(value)}
        found.triggers.append((t, why, known))
    pre, post = trigger["pre_ms"] * MS, trigger["post_ms"] * MS
    for path, told in thinned.items():
        within = [row for row in told if any(t - pre <= row.t <= min(t + post, until) for t in instants)]
        found.samples += [(row.t, path, row.raw[path]) for row in within]
    return found


def _edges(says: list[tuple[int, bool | None]], edge: str, cooldown: int) -> list[int]:
    found: list[int] = []
    was = False
    for t, is_true in says:
        is_due = not found or (t - found[-1] >= cooldown and (edge == "rising" or t > found[-1]))
        if is_true and (edge == "level" or not was) and is_due:
            found.append(t)
        was = was if is_true is None else is_true
    return found


def _of(rows: Sequence[Row], path: str) -> list[tuple[int, float]]:
    return [(row.t, row.physical[path]) for row in rows if path in row.raw and math.isfinite(row.physical[path])]


def _stale(path: str) -> int:
    periods = [group.period_us or 0 for group in SCHEMA.groups for spec in group.signals if spec.path == path]
    return min(max(3 * periods[0] * 1000, 100 * MS), 10_000 * MS)


def _condition(rows: Sequence[Row], text: str) -> Iterator[tuple[int, bool | None]]:
    """`A > n` or `A > n and B < m`, of samples that are later than the one before."""
    terms = re.findall(r"(\S+) ([<>]) (\d+)", text)
    known: dict[str, tuple[int, float]] = {}
    last: dict[str, int] = {}
    instants = sorted({row.t for row in rows if any(path in row.raw for path, _, _ in terms)})
    for t in instants:
        fresh = False
        for row in rows:
            for path in {path for path, _, _ in terms} if row.t == t else ():
                if path in row.raw and last.get(path, -1) < t:
                    last[path], known[path], fresh = t, (t, row.physical[path]), True
        if fresh:
            yield t, _all([_holds(known.get(path), sign, float(limit), t, _stale(path)) for path, sign, limit in terms])


def _holds(known: tuple[int, float] | None, sign: str, limit: float, t: int, stale: int) -> bool | None:
    if known is None or not math.isfinite(known[1]) or t - known[0] > stale:
        return None
    return known[1] > limit if sign == ">" else known[1] < limit


def _all(terms: list[bool | None]) -> bool | None:
    return False if False in terms else None if None in terms else True


Says = Iterator[tuple[int, bool | None]]


def _stuck(samples: list[tuple[int, float]], test: Mapping[str, Any], path: str) -> Says:
    gap, since = max(_stale(path), test["for_ms"] * MS // 2), 0
    for number, (t, value) in enumerate(samples):
        if not number or value != samples[number - 1][1] or t - samples[number - 1][0] > gap:
            since = t
        yield t, t - since >= test["for_ms"] * MS


def _range(samples: list[tuple[int, float]], test: Mapping[str, Any], path: str) -> Says:
    for t, value in samples:
        yield t, not test["minimum"] <= value <= test["maximum"]


def _rate(samples: list[tuple[int, float]], test: Mapping[str, Any], path: str) -> Says:
    for number, (t, value) in enumerate(samples):
        apart = t - samples[number - 1][0] if number else 0
        yield t, apart > 0 and abs(value - samples[number - 1][1]) > apart * (test["max_per_s"] / 1e9)


_ANOMALIES: dict[str, Callable[[list[tuple[int, float]], Mapping[str, Any], str], Says]] = {
    "stuck": _stuck,
    "out_of_range": _range,
    "implausible_rate": _rate,
}
