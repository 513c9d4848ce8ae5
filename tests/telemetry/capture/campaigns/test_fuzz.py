"""Whatever a set says: it is refused as a decision, or it runs within what was admitted."""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Any

import pytest

from telemetry.capture.campaigns import costs
from telemetry.capture.campaigns.admission import Admitted, admit
from telemetry.capture.campaigns.book import VEHICLE
from telemetry.capture.campaigns.campaign import CampaignsRefused
from telemetry.capture.campaigns.floor import CampaignFloor
from telemetry.capture.campaigns.parsing import parse_campaigns
from tests.telemetry.capture.campaigns import fleet
from tests.telemetry.capture.campaigns.world import OPEN, SCHEMA, Vehicle, retained_bytes

SPAN_MS = 1500
FLOORS = (
    CampaignFloor(),
    CampaignFloor(shortest_period_ms=100, ring_bytes=1 << 26, bytes_per_day=1 << 40, flash_bytes_per_day=1 << 40),
    CampaignFloor(shortest_period_ms=100, ring_bytes=400_000, bytes_per_day=30_000, flash_bytes_per_day=40_000),
)


def a_text(rng: Random) -> bytes:
    """Valid about every other time."""
    document: dict[str, Any] = {"revision": rng.randrange(1, 9), "campaigns": fleet.some(rng)}
    for one in document["campaigns"]:
        one["budget"] = {"bytes_per_day": rng.choice((1024, 1 << 34, 1 << 34, 1 << 34))}
    for _ in range(rng.choice((0, 0, 0, 1, 1, 3))):
        document = fleet.spoilt(rng, document)
    data = json.dumps(document).encode("utf-8", "surrogatepass")
    if rng.random() < 0.05:
        at = rng.randrange(len(data))
        data = data[:at] + bytes([rng.randrange(256)]) + data[at + rng.randrange(3) :]
    return data


def outcome(seed: int) -> str:
    """What became of one text. Any error but a refusal is let through."""
    rng = Random(seed)
    floor = rng.choices(FLOORS, (1, 4, 1))[0]
    try:
        those = parse_campaigns(a_text(rng))
    except CampaignsRefused:
        return "unreadable"
    assert parse_campaigns(fleet.encode_campaigns(those)) == those
    try:
        admitted = admit(those, SCHEMA, floor, OPEN, rng.choice((None, 1_900_000_000.0)))
    except CampaignsRefused:
        return "refused"
    return run(admitted, floor, seed)


def run(admitted: Admitted, floor: CampaignFloor, seed: int) -> str:
    vehicle = Vehicle(floor)
    vehicle.engine.set_wall(None if seed % 2 else 1_900_000_000 * 10**9)
    told = vehicle.engine.adopt(admitted, -1)
    for batch, until_ns in fleet.batches(Random(seed), fleet.drive(seed, SPAN_MS), SPAN_MS * 10**6):
        more = vehicle.engine.feed(batch, until_ns)
        told.records += more.records
        assert retained_bytes(vehicle.engine) <= admitted.cost.ring_bytes
    told.records += vehicle.engine.close(SPAN_MS * 10**6).records
    assert vehicle.book.bytes_used(VEHICLE, 0) <= floor.bytes_per_day
    for task in admitted.tasks:
        counts = vehicle.engine.counts().get(task.campaign.name, {})
        assert counts.get("bytes", 0) <= task.campaign.budget.bytes_per_day
        assert not counts.get("untold_cut_short")
        assert not counts.get("untold_incomplete")
    return "ran and told" if told.records else "ran"


def tally(seeds: range) -> Counter[str]:
    return Counter(outcome(seed) for seed in seeds)


def test_no_text_breaks_anything() -> None:
    found = tally(range(700))
    valid = found["ran"] + found["ran and told"] + found["refused"]
    assert valid >= 0.3 * found.total(), found
    assert min(found["unreadable"], found["refused"], found["ran and told"]) > 20, found


@pytest.mark.soak
def test_none_of_a_hundred_thousand_texts_breaks_anything() -> None:
    found = tally(range(100_000))
    assert found["ran"] + found["ran and told"] >= 0.3 * found.total(), found


def test_an_estimate_of_memory_that_is_too_low_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "row_ring_bytes", lambda most, columns: 100)
    with pytest.raises(AssertionError):
        tally(range(100))
