"""Campaigns as fleets might write them, good and bad, and samples to run them on: by chance, and by a seed again."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, Final

import numpy as np

from telemetry.capture.campaigns.campaign import CampaignSet
from telemetry.capture.campaigns.gate import cut
from telemetry.signals.schema import Columns, Form
from tests.telemetry.capture.campaigns.world import (
    GEAR,
    LATITUDE,
    MS,
    NEVER,
    PEDAL,
    SCHEMA,
    SPEED,
    TEMPERATURE,
    anomaly,
    campaign,
    periodic,
    when,
)  # fmt: skip
from tests.telemetry.capture.expressiongen import Grower

PATHS: Final = (SPEED, GEAR, PEDAL, TEMPERATURE, LATITUDE)
CONDITIONS: Final = (
    f"{SPEED} > {{0}}", f"{SPEED} > {{0}} and {PEDAL} < {{1}}", f"not {PEDAL} >= {{0}} or {TEMPERATURE} > {{1}}",
    f"avg({SPEED}, 200) > {{0}}", f"rate({SPEED}, 300) < -{{0}} and isnull({TEMPERATURE})", f"age({PEDAL}) > {{0}}",
    f"changed({GEAR}, 500)", f"count({PEDAL}, 1000) > {{0}} or high({SPEED}, 100) - low({SPEED}, 100) > {{1}}",
)  # fmt: skip
NUMBERS: Final = (f"{PEDAL} * 2 + {{0}}", f"avg({SPEED}, 500)", "max({0}, " + SPEED + ")")
HOSTILE: Final[tuple[Any, ...]] = (
    None, True, -1, 0, 1, 1e308, -1e-308, 10**30, -(10**30), 1.5, "", "x" * 3000, "\x00", "\ud7ff", "ｐ0", "p0",
    "safety", "Vehicle.Spede", "Vehicle", "../../etc", "Vehicle.Speed > 1", "__import__('os')", [], {}, [[[[[[]]]]]],
    {"kind": "periodic"},
)  # fmt: skip


def expression(rng: Random, of: Sequence[str]) -> str:
    """One that is likely to become true now and then; every other time any at all of its kind."""
    if rng.random() < 0.5:
        grower = Grower(rng, PATHS)
        text = grower.number(3) if of is NUMBERS else grower.truth(3)
        return text if "Vehicle." in text else expression(rng, of)
    return rng.choice(of).format(rng.randrange(100), rng.randrange(40))


def windows(rng: Random) -> dict[str, Any]:
    return {
        "pre_ms": rng.choice((0, 0, 50, 333, 1000)),
        "post_ms": rng.choice((0, 0, 70, 500, 12_000)),
        "cooldown_ms": rng.choice((0, 10, 1000)),
        "max_per_day": rng.choice((1, 3, 1000)),
    }


def _stuck(rng: Random) -> dict[str, Any]:
    return {"test": "stuck", "for_ms": rng.choice((1, 60, 500))}


def _range(rng: Random) -> dict[str, Any]:
    return {"test": "out_of_range", "minimum": rng.choice((-5.0, 0.0)), "maximum": rng.choice((5.0, 80.0))}


def _rate(rng: Random) -> dict[str, Any]:
    return {"test": "implausible_rate", "max_per_s": rng.choice((0.5, 50.0, 5000.0))}


def _residual(rng: Random) -> dict[str, Any]:
    return {"test": "residual", "expected": expression(rng, NUMBERS), "limit": 10.0, "for_ms": rng.choice((0, 100))}


TRIGGERS: Final[tuple[Callable[[Random], dict[str, Any]], ...]] = (
    lambda rng: periodic(rng.choice((100, 700, 10_000))),
    lambda rng: {"kind": "last_known", "period_ms": rng.choice((100, 1000))},
    lambda rng: {"kind": "on_change", "beyond": rng.choice((0.0, 3.0)), "min_interval_ms": rng.choice((0, 0, 150))},
    lambda rng: when(expression(rng, CONDITIONS), **windows(rng), edge=rng.choice(("rising", "level"))),
    lambda rng: anomaly(rng.choice(PATHS[:4]), rng.choice((_stuck, _range, _rate, _residual))(rng), **windows(rng)),
    lambda rng: {"kind": "once", "id": rng.randrange(1, 5), **windows(rng)},
)


def one(rng: Random, name: str) -> dict[str, Any]:
    wishes = [
        {"path": path, "min_period_ms": rng.choice((0, 0, 30, 400))} for path in rng.sample(PATHS, rng.randint(1, 5))
    ]
    clip = {"clip": {"before": 1, "after": 2}} if rng.random() < 0.2 else {}
    more = {"purpose": "safety", "lane": rng.choice(("p0", "p1", "p2"))} if rng.random() < 0.3 else {}
    made = campaign(name, rng.choice(TRIGGERS)(rng), *wishes, **clip, **more, not_after=NEVER)
    if clip and made["trigger"]["kind"] in ("periodic", "last_known", "on_change"):
        del made["clip"]
    return made


def some(rng: Random, most: int = 4) -> list[dict[str, Any]]:
    return [one(rng, f"c{number}") for number in range(rng.randint(1, most))]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every key of every object and list in it."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


def spoilt(rng: Random, document: dict[str, Any]) -> dict[str, Any]:
    """With one place of it changed, removed, doubled or moved."""
    document = copy.deepcopy(document)
    found = list(places(document))
    if not found:
        return document
    holder, key = rng.choice(found)
    match rng.randrange(5):
        case 0:
            holder[key] = rng.choice(HOSTILE)
        case 1:
            del holder[key]
        case 2 if isinstance(holder, dict):
            holder[rng.choice(("more", key + "x", "kind", "test"))] = rng.choice(HOSTILE)
        case 3 if isinstance(holder[key], int):
            holder[key] = holder[key] * rng.choice((-1, 1000, 10**9)) + rng.choice((0, 1))
        case _:
            other, where = rng.choice(list(places(document)))
            holder[key] = copy.deepcopy(other[where])
    return document


def _column(rng: np.random.Generator, form: Form, count: int) -> Any:
    walk = rng.integers(-30, 31, count).cumsum()
    values = np.where(rng.random(count) < 0.1, 7, np.abs(walk) if form is Form.UINT else walk)
    if form is Form.FLOAT:
        return np.where(rng.random(count) < 0.1, np.nan, values / 3)
    return values.astype(form.dtype)


def drive(seed: int, duration_ms: int) -> list[Columns]:
    """One batch of each group: about as often as it should come, with bursts, gaps and equal stamps."""
    rng = np.random.default_rng(seed)
    parts = []
    for number, group in enumerate(SCHEMA.groups):
        period_us = group.period_us or 100_000
        count = max(1, int(duration_ms * 1000 / period_us * rng.choice((0.3, 1, 1, 4))))
        t_us = np.sort(rng.integers(0, duration_ms * 1000, count))
        if rng.random() < 0.3:
            t_us = t_us[(t_us < duration_ms * 300) | (t_us > duration_ms * 600)]
        if rng.random() < 0.3:
            t_us = t_us // 5000 * 5000
        values = tuple(_column(rng, signal.form, len(t_us)) for signal in group.signals)
        parts.append(Columns(number, t_us * 1000, values))
    return parts


def batches(
    rng: Random, parts: Sequence[Columns], until_ns: int, sizes_ms: Sequence[int] = (20, 100, 900, 5000)
) -> Iterator[tuple[list[Columns], int]]:
    """Cut anywhere: parts and how far they go, the last up to `until_ns`."""
    size_ms = rng.choice(sizes_ms)
    done_ns = -1
    while done_ns < until_ns:
        end_ns = min(until_ns, done_ns + rng.randint(1, size_ms * MS))
        yield [between(part, done_ns, end_ns) for part in rng.sample(list(parts), len(parts))], end_ns
        done_ns = end_ns


def between(part: Columns, after_ns: int, until_ns: int) -> Columns:
    """The rows later than the one, up to the other."""
    first, end = (int(part.t_ns.searchsorted(t_ns, "right")) for t_ns in (after_ns, until_ns))
    return cut(part, first, end)


def encode_campaigns(campaigns: CampaignSet) -> bytes:
    """As campaigns.json: every default said, and keys sorted."""
    content = campaigns.model_dump(mode="json", by_alias=True)
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
