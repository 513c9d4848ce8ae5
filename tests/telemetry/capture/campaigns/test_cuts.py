"""Law 7 for campaigns: the same samples give the same records, however they were cut into batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.capture.campaigns.engine import CampaignEngine, EngineOutput
from telemetry.signals.schema import Columns
from tests.telemetry.capture.campaigns import fleet
from tests.telemetry.capture.campaigns.world import MS, Vehicle

SPAN_MS = 12_000
UNTIL_NS = SPAN_MS * MS
Feeder = Callable[[CampaignEngine, list[Columns], Random], Iterator[EngineOutput]]


def at_once(engine: CampaignEngine, parts: list[Columns], rng: Random) -> Iterator[EngineOutput]:
    yield engine.feed(parts, UNTIL_NS)


def in_batches(engine: CampaignEngine, parts: list[Columns], rng: Random) -> Iterator[EngineOutput]:
    for batch, until_ns in fleet.batches(rng, parts, UNTIL_NS):
        yield engine.feed(batch, until_ns)


def lazily(engine: CampaignEngine, parts: list[Columns], rng: Random) -> Iterator[EngineOutput]:
    """The hot groups as they come, the others within a second or when a trigger waits for them."""
    hot = [part for part in parts if part.group in engine.hot]
    cold = [part for part in parts if part.group not in engine.hot]
    all_ns = -1
    for batch, until_ns in fleet.batches(rng, hot, UNTIL_NS, (20, 50, 900)):
        yield engine.feed(batch, until_ns, hot_only=True)
        if engine.behind_ns is not None or until_ns - all_ns > 1000 * MS or until_ns == UNTIL_NS:
            yield engine.feed([fleet.between(part, all_ns, until_ns) for part in cold], until_ns)
            all_ns = until_ns
    assert all_ns == UNTIL_NS


def told(those: list[dict[str, Any]], parts: list[Columns], feeder: Feeder, rng: Random) -> object:
    engine = Vehicle().adopt(*those).engine
    feeds = [*feeder(engine, parts, rng), engine.close(UNTIL_NS)]
    records = [record for fed in feeds for record in fed.records]
    return records, [clip for fed in feeds for clip in fed.clips], engine.counts()


def differs(seed: int, feeder: Feeder) -> bool:
    rng = Random(seed)
    those, parts = fleet.some(rng), fleet.drive(seed, SPAN_MS)
    return told(those, parts, feeder, rng) != told(those, parts, at_once, rng)


@settings(max_examples=15)
@given(seed=st.integers(0, 1 << 32))
def test_no_cut_changes_what_is_told(seed: int) -> None:
    assert not differs(seed, in_batches)


@settings(max_examples=15)
@given(seed=st.integers(0, 1 << 32))
def test_groups_that_come_later_change_nothing(seed: int) -> None:
    assert not differs(seed, lazily)


@pytest.mark.soak
@pytest.mark.parametrize("feeder", [in_batches, lazily])
def test_no_cut_changes_what_is_told_by_thousands_of_sets(feeder: Feeder) -> None:
    assert not [seed for seed in range(2000) if differs(seed, feeder)]
