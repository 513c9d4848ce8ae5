"""campaigns.json is closed and canonical, and what is wrong with it is said with its place."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from telemetry.capture.campaigns.campaign import MAX_CAMPAIGNS_BYTES, CampaignsRefused
from telemetry.capture.campaigns.parsing import parse_campaigns
from tests.telemetry.capture.campaigns import fleet
from tests.telemetry.capture.campaigns.world import SPEED, anomaly, campaign, campaigns, periodic, when

GOOD = campaign("fast", when(f"{SPEED} > 5"), SPEED)


def text(*those: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"revision": 1, "campaigns": those, **more}).encode()


def refused(data: bytes) -> tuple[str, ...]:
    with pytest.raises(CampaignsRefused) as error:
        parse_campaigns(data)
    assert str(error.value).startswith("These campaigns can't be used: ")
    return error.value.reasons


def test_campaigns_are_read_as_they_were_written_and_written_in_one_way() -> None:
    for seed in range(20):
        those = campaigns(*fleet.some(Random(seed)))
        data = fleet.encode_campaigns(those)
        assert parse_campaigns(data) == those
        assert fleet.encode_campaigns(parse_campaigns(data)) == data
        assert fleet.encode_campaigns(parse_campaigns(json.dumps(json.loads(data), indent=1).encode())) == data


def changed(**changes: Any) -> bytes:
    return text({**GOOD, **changes})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (changed(more=1), "campaigns[0].more: Extra inputs are not permitted"),
        (changed(name="Fast"), "campaigns[0].name: String should match"),
        (changed(lane="p4"), "campaigns[0].lane: Input should be"),
        (changed(purpose="fun"), "campaigns[0].purpose: Input should be"),
        (changed(revision="1"), "campaigns[0].revision: Input should be a valid integer"),
        (changed(trigger={"kind": "periodic"}), "campaigns[0].trigger.period_ms: Field required"),
        (changed(trigger={"kind": "never"}), "campaigns[0].trigger: Input tag 'never'"),
        (changed(trigger=anomaly(SPEED, {"test": "stuck", "for_ms": 0})), "campaigns[0].trigger.anomaly.for_ms: Input"),
        (changed(trigger=when(f"{SPEED} >")), "campaigns[0].trigger.when: column"),
        (changed(trigger=when(f"{SPEED} + 1")), "campaigns[0].trigger.when: column 1: it is a number"),
        (
            changed(trigger=anomaly(SPEED, {"test": "residual", "expected": f"{SPEED} > 1", "limit": 1.0})),
            "campaigns[0].trigger.anomaly.expected: column 1: it is true or false",
        ),
        (changed(signals=[{"path": SPEED}, {"path": SPEED}]), f"campaigns[0].signals: {SPEED} comes 2 times"),
        (changed(trigger=periodic(), clip={}), "campaigns[0].clip: periodic has no instant"),
        (text(GOOD, GOOD), "campaigns[1].name: fast is campaigns[0]'s already"),
        (text(GOOD, revision=0), "revision: Input should be greater"),
        (text(schema=2), "schema: Input should be 1"),
        (b"[]", "the whole: "),
        (b"{", "they are no JSON"),
        (b'{"revision": 1, "revision": 2}', "they are no JSON that this version reads: the key revision comes twice"),
        (b"[" * 50_000, "they are no JSON"),
        (b"\xff\xfe", "they are no JSON"),
        (b" " * (MAX_CAMPAIGNS_BYTES + 1), f"they are {MAX_CAMPAIGNS_BYTES + 1} bytes, the most is"),
        (changed(budget={"bytes_per_day": float("nan")}), "campaigns[0].budget.bytes_per_day"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(data: bytes, reason: str) -> None:
    (told,) = refused(data)[:1]
    assert told.startswith(reason), told


def test_all_that_is_wrong_is_said_up_to_a_number() -> None:
    reasons = refused(text(*[{**GOOD, "name": f"c{number}", "more": 1} for number in range(20)]))
    assert len(reasons) == 9
    assert reasons[-1] == "and 12 more"
