"""Two stages look at what a campaign tells of a bus: where the vehicle was is the same to both."""

from __future__ import annotations

import numpy as np
import pytest

from agent.signals.capturing import Capturing
from telemetry.capture.campaigns.book import CampaignBook, MemoryShelf
from telemetry.privacy.policy import Position, PrivacyPolicy, Zone
from telemetry.privacy.stage import Privacy
from telemetry.records import Purpose, Record
from telemetry.signals import vss
from telemetry.signals.frames import Frames
from telemetry.signals.plan import Cut, GroupCut, SignalPlan
from telemetry.signals.schema import Form, Group, Schema, SignalSpec
from tests.agent.signals.bus import MS, SPEED, campaign, campaigns
from tests.agent.signals.test_capturing import FLOOR, _add, told_of

PLACED = SignalPlan(
    Schema(
        (
            Group("motion", (SignalSpec(SPEED, Form.INT, 0.1, unit="km/h"),), 100_000),
            Group(
                "here", (SignalSpec(vss.LATITUDE, Form.INT, 1e-6), SignalSpec(vss.LONGITUDE, Form.INT, 1e-6)), 100_000
            ),
        )
    ),
    (GroupCut(0, 0x100, (), (Cut(0, 16),)), GroupCut(0, 0x200, (), (Cut(0, 32), Cut(32, 32)))),
)
HOME = Zone(latitude=48.0, longitude=11.0, radius_m=200.0)
POLICY = PrivacyPolicy(consents=frozenset(Purpose), position=Position.EXACT, zones=(HOME,))


def away(seconds: int, leaves_s: float) -> Frames:
    """At home until it leaves, and far from it at once; speed and place ten times a second."""
    t_ns = np.repeat(np.arange(seconds * 10, dtype=np.int64) * 100 * MS, 2)
    latitude = np.where(t_ns >= leaves_s * 1e9, 49_000_000, 48_000_000).astype(np.uint64)
    is_place = np.arange(len(t_ns)) % 2 == 1
    data = np.where(is_place, latitude | np.uint64(11_000_000 << 32), np.uint64(500)).astype("<u8")
    can_id = np.where(is_place, 0x200, 0x100).astype(np.uint32)
    count = len(t_ns)
    return Frames(
        t_ns, np.zeros(count, np.uint8), can_id, np.full(count, 8, np.uint8), data.view(np.uint8).reshape(count, 8)
    )


@pytest.mark.parametrize(("period_s", "seconds", "step_ms"), [(1, 9, 50), (1, 9, 730), (600, 610, 1000)])
def test_what_was_told_outside_of_a_zone_passes_the_agents_own_stage(period_s: int, seconds: int, step_ms: int) -> None:
    """In whatever steps a bus is looked at, and however old a block's first sample is by then."""
    here = Capturing(PLACED, POLICY, FLOOR, CampaignBook(None, MemoryShelf(), 0), 90_000, (SPEED,))
    periodic = campaign("steady", {"kind": "periodic", "period_ms": period_s * 1000}, SPEED, vss.LATITUDE)
    here.take(campaigns(periodic), -1, None)
    here.hear(away(seconds, leaves_s=4.2))
    agent, passed = Privacy(POLICY), list[Record]()
    for end_ms in [*range(step_ms, seconds * 1000, step_ms), seconds * 1000]:
        output = here.step(end_ms * MS)
        if end_ms == seconds * 1000:
            _add(output, here.close(end_ms * MS))
        for fix in output.fixes:
            agent.fix(fix.t_ns, fix.latitude, fix.longitude)
        agent.hear(end_ms * MS, output.values)
        passed += [kept for record in output.records if isinstance(kept := agent.apply(record), Record)]
    assert agent.dropped == {}
    assert [t_ns for t_ns, _ in told_of(passed, SPEED)] == [ms * MS for ms in range(4_200, seconds * 1000, 100)]


def test_nobody_is_told_where_the_vehicle_was_where_there_are_no_zones() -> None:
    policy = POLICY.model_copy(update={"zones": ()})
    here = Capturing(PLACED, policy, FLOOR, CampaignBook(None, MemoryShelf(), 0), 90_000, (SPEED,))
    here.hear(away(2, leaves_s=1.0))
    assert here.step(2000 * MS).fixes == []
