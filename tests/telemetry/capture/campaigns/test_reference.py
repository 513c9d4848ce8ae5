"""The engine tells what a plain reading of the rules gives, sample by sample."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.records import LastKnownState, Triggered
from tests.telemetry.capture.campaigns import fleet, reference
from tests.telemetry.capture.campaigns.world import MS, PEDAL, SPEED, Vehicle

SPAN_MS = 4000
SIMPLE = (f"{SPEED} > {{0}}", f"{SPEED} > {{0}} and {PEDAL} < {{1}}")


def a_campaign(rng: Random) -> dict[str, Any]:
    while True:
        made = fleet.one(rng, "c")
        trigger = made["trigger"]
        if trigger["kind"] == "on_condition":
            trigger["when"] = rng.choice(SIMPLE).format(rng.randrange(5), rng.randrange(20, 200))
        elif trigger["kind"] == "once" or trigger.get("anomaly", {}).get("test") == "residual":
            continue
        return made


def differences(seed: int) -> list[str]:
    """In what the engine's account differs from the plain one's."""
    rng = Random(seed)
    made, parts, until = a_campaign(rng), fleet.drive(seed, SPAN_MS), SPAN_MS * MS
    vehicle = Vehicle().adopt(made)
    for batch, until_ns in fleet.batches(rng, parts, until):
        vehicle.feed(until_ns / MS, *batch)
    vehicle.close()
    wanted = reference.expected(made, parts, until)
    triggers = [(record.captured_ns, record.event.why, record.event.signals) for record in vehicle.of(Triggered)]  # type: ignore[union-attr]
    states = [event.signals for event in vehicle.told(LastKnownState)]
    found = []
    # As text: among NaNs nothing comes first, and sorting leaves them where they were.
    if sorted(map(repr, vehicle.samples())) != sorted(map(repr, wanted.samples)):
        found.append("samples")
    if triggers != wanted.triggers:
        found.append("triggers")
    if states != wanted.states:
        found.append("states")
    return found


@settings(max_examples=40)
@given(st.integers(0, 1 << 32))
def test_the_engine_tells_what_the_rules_say(seed: int) -> None:
    assert not differences(seed)


@pytest.mark.soak
def test_the_engine_tells_what_the_rules_say_of_thousands() -> None:
    assert not [seed for seed in range(5000) if differences(seed)]
