"""The claim about campaigns holds on what is sound, and on nothing else."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from simulator.demo.proofs import StoredRecord
from simulator.demo.signalclaims import claims
from simulator.demo.signalproof import SignalProof, campaign, watch_signals
from telemetry.capture.campaigns.parsing import parse_campaigns
from telemetry.columns.block import Naming, encode
from telemetry.records import AnyEvent, SignalBlock, Stored, Triggered, VehicleSummary, encode_event
from telemetry.signals.schema import Columns, Group, Schema, SignalSpec
from telemetry.signals.vss import BRAKE_PEDAL, SPEED
from tests.simulator.demo.sound import sound_signals

SCHEMA = Schema((Group(SPEED, (SignalSpec(SPEED),)),))
PERIOD_NS = 50_000_000


def stored(captured_ns: int, event: AnyEvent) -> StoredRecord:
    return StoredRecord(1, bytes(16), 0, 0, Stored(captured_ns, 0, msgspec.Raw(encode_event(event))))


def summaries(count: int) -> list[StoredRecord]:
    return [stored(n * PERIOD_NS, VehicleSummary({SPEED: float(n), BRAKE_PEDAL: 0.0})) for n in range(count)]


def block(first: int, values: list[float], late_ns: int = 0) -> StoredRecord:
    times = (first + np.arange(len(values))) * PERIOD_NS + late_ns
    columns = encode([Columns(0, times, (np.array(values),))], SCHEMA, Naming.INLINE)
    return stored(int(times[0]), SignalBlock("steady", 1, columns))


def is_held(proof: SignalProof) -> bool:
    (claim,) = claims(proof)
    return claim.ok


def test_what_is_sound_holds() -> None:
    assert is_held(sound_signals())


@pytest.mark.parametrize(
    "damage",
    [{"different": 1}, {"unread": 1}, {"alone": 51}, {"triggers": 0}, {"samples": 399}, {"blocks": 0}],
    ids=str,
)
def test_the_smallest_damage_fails_it(damage: dict[str, int]) -> None:
    assert not is_held(replace(sound_signals(), **damage))


def test_samples_are_held_against_the_summary_of_their_instant() -> None:
    records = [*summaries(100), block(10, [10.0, 11.0, 12.0], late_ns=20_000_000), block(50, [50.0, 49.0])]
    records.append(stored(0, Triggered("braking", 1, 1, "", {})))
    assert watch_signals(records) == SignalProof(2, 5, same=4, different=1, alone=0, triggers=1)


def test_a_sample_whose_summary_was_lost_is_alone_and_a_block_that_cannot_be_read_is_counted() -> None:
    records = [*summaries(5), block(50, [50.0]), stored(0, SignalBlock("steady", 1, b"\x01"))]
    assert watch_signals(records) == SignalProof(2, 1, same=0, different=0, alone=1, unread=1)


def test_the_demos_campaign_is_one() -> None:
    assert [one.name for one in parse_campaigns(campaign()).campaigns] == ["braking", "steady"]
    assert json.loads(campaign())["revision"] == 1
