"""What is made of a bus and of what the agent tells depends on what came, not on when it was looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.signals.capturing import COLD_EVERY_NS, MOST_TOLD, Capturing, Output
from telemetry.capture.campaigns.book import CampaignBook, MemoryShelf
from telemetry.capture.campaigns.campaign import CampaignsRefused
from telemetry.capture.campaigns.floor import CampaignFloor
from telemetry.columns.block import decode
from telemetry.privacy.policy import PrivacyPolicy, Zone
from telemetry.records import Purpose, Record, SignalBlock, Triggered
from telemetry.signals import vss
from telemetry.signals.frames import Frames, concat
from telemetry.signals.plan import Cut, GroupCut, SignalPlan
from telemetry.signals.schema import Form, Group, Schema, SignalSpec, physical
from tests.agent.signals.bus import BRAKING, MS, PEDAL, PEOPLE, PLAN, SEEN, SPEED, STEADY, campaign, campaigns, drive

OPEN = PrivacyPolicy(consents=frozenset(Purpose))
FLOOR = CampaignFloor(bytes_per_day=1 << 40, flash_bytes_per_day=1 << 40, ring_bytes=1 << 26)
SECONDS = 9
END_NS = SECONDS * 1000 * MS
NEVER = 1 << 62


def capturing(
    *, plan: bool = True, privacy: PrivacyPolicy = OPEN, floor: CampaignFloor = FLOOR, values: Iterable[str] = ()
) -> Capturing:
    book = CampaignBook(None, MemoryShelf(), 0)
    return Capturing(PLAN if plan else None, privacy, floor, book, 90_000, frozenset(values))


def ran(here: Capturing, cuts_ms: Iterable[int], told: Iterable[tuple[int, float]] = ()) -> Output:
    """All that a drive of nine seconds brings when it is looked at at these instants."""
    frames, output = drive(SECONDS), Output()
    for t_ns, people in told:
        here.tell(t_ns, {SEEN: people})
    begin_ns = -1
    for end_ms in [*sorted(cuts_ms), SECONDS * 1000]:
        first, last = np.searchsorted(frames.t_ns, [begin_ns, end_ms * MS], side="right")
        here.hear(frames.rows(slice(int(first), int(last))))
        _add(output, here.step(end_ms * MS))
        begin_ns = end_ms * MS
    _add(output, here.close(END_NS))
    return output


def _add(output: Output, more: Output) -> None:
    output.records += more.records
    output.clips += more.clips
    output.values.update(more.values)


def told_of(records: Iterable[Record], path: str) -> list[tuple[int, float]]:
    found: dict[int, float] = {}
    for record in records:
        if isinstance(record.event, SignalBlock):
            block = decode(record.event.columns, lambda _: None)
            for part in block.parts:
                for spec, raw in zip(block.schema.groups[part.group].signals, part.values, strict=True):
                    if spec.path == path and raw is not None:
                        found |= dict(zip(part.t_ns.tolist(), physical(spec, raw).tolist(), strict=True))
    return sorted(found.items())


def everything_from(here: Capturing) -> None:
    here.take(campaigns(STEADY, BRAKING, PEOPLE), -1, None)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, SECONDS * 1000 - 1), max_size=40, unique=True))
def test_when_it_is_looked_at_changes_nothing(cuts_ms: list[int]) -> None:
    told = [(1_100 * MS, 1.0), (1_700 * MS, 0.0), (5_000 * MS, 2.0)]
    once, often = capturing(), capturing()
    everything_from(once)
    everything_from(often)
    assert ran(often, cuts_ms, told).records == ran(once, [], told).records


def test_a_minute_looked_at_at_once_says_what_it_says_looked_at_often() -> None:
    before = campaign("before", {"kind": "on_condition", "when": f"{PEDAL} > 20", "pre_ms": 1000}, SPEED, PEDAL)
    frames, told = drive(60), []
    for step_ms in (20, 60_000):
        here, output = capturing(), Output()
        here.take(campaigns(before), -1, None)
        here.hear(frames)
        for end_ms in range(step_ms, 60_001, step_ms):
            _add(output, here.step(end_ms * MS))
        _add(output, here.close(60_000 * MS))
        told.append((output.records, here.counts()))
    assert told[0] == told[1]
    assert "untold_cut_short" not in told[0][1]["before"]
    assert len([record for record in told[0][0] if isinstance(record.event, Triggered)]) == 15


def test_every_sample_of_a_steady_campaign_is_told_once_as_it_was() -> None:
    here = capturing()
    here.take(campaigns(STEADY), -1, None)
    records = ran(here, range(20, SECONDS * 1000, 20)).records
    frames = drive(SECONDS)
    speeds = frames.rows(frames.can_id == 0x100)
    told = told_of(records, SPEED)
    assert [t_ns for t_ns, _ in told] == speeds.t_ns.tolist()
    assert [value for _, value in told] == pytest.approx((speeds.data.view("<u8").ravel() * 0.1).tolist())
    assert len(told_of(records, PEDAL)) == SECONDS * 10


def test_a_trigger_is_told_in_the_step_that_saw_it() -> None:
    here = capturing()
    here.take(campaigns(BRAKING), -1, None)
    frames = drive(SECONDS)
    for end_ms in range(20, SECONDS * 1000, 20):
        first, last = np.searchsorted(frames.t_ns, [(end_ms - 20) * MS, end_ms * MS], side="right")
        here.hear(frames.rows(slice(int(first), int(last))))
        output = here.step(end_ms * MS)
        if any(isinstance(record.event, Triggered) for record in output.records):
            break
    [record] = output.records
    assert isinstance(record.event, Triggered)
    assert end_ms * MS - 20 * MS < record.captured_ns <= end_ms * MS
    assert here._hot_ns - here._cold_ns < COLD_EVERY_NS


def test_what_the_agent_sees_is_a_signal_like_any_other() -> None:
    here = capturing()
    here.take(campaigns(PEOPLE), -1, None)
    records = ran(here, [], [(1_100 * MS, 1.0), (1_700 * MS, 0.0)]).records
    [fired] = [record for record in records if isinstance(record.event, Triggered)]
    assert fired.captured_ns == 1_100 * MS
    assert told_of(records, SEEN) == [(1_100 * MS, 1.0)]
    speeds = [t_ns for t_ns, _ in told_of(records, SPEED)]
    assert (speeds[0], speeds[-1]) == (600 * MS, 1_600 * MS)


def test_without_a_plan_whatever_the_agent_tells_has_a_name() -> None:
    here = capturing(plan=False)
    here.take(campaigns(campaign("all", {"kind": "periodic", "period_ms": 1000}, "Vehicle.Anything")), -1, None)
    here.tell(5, {"Vehicle.Anything": 2.5, "Vehicle.Other": 1.0})
    assert told_of(here.close(10).records, "Vehicle.Anything") == [(0, 2.5)]


def test_with_a_plan_only_its_signals_and_the_agents_own_may_be_named() -> None:
    with pytest.raises(CampaignsRefused, match=r"no signal Vehicle\.Sped, the nearest is Vehicle\.Speed"):
        capturing().take(campaigns(campaign("typo", {"kind": "periodic", "period_ms": 1000}, "Vehicle.Sped")), 0, None)


def test_refused_campaigns_leave_those_before_as_they_were() -> None:
    here, undisturbed = capturing(), capturing()
    for one in (here, undisturbed):
        one.take(campaigns(STEADY), -1, None)
    for wrong in (
        b"{",
        campaigns(campaign("x", {"kind": "periodic", "period_ms": 1}, SPEED)),
        campaigns(STEADY, STEADY),
    ):
        with pytest.raises(CampaignsRefused):
            here.take(wrong, 500 * MS, None)
    assert ran(here, []).records == ran(undisturbed, []).records


def test_a_campaign_that_stays_in_a_new_set_goes_on_although_another_names_what_nobody_knew() -> None:
    here = capturing()
    here.take(campaigns(STEADY), -1, None)
    frames = drive(SECONDS)
    half = int(np.searchsorted(frames.t_ns, 4_500 * MS, side="right"))
    here.hear(frames.rows(slice(0, half)))
    records = here.step(4_500 * MS).records
    _, output = here.take(campaigns(STEADY, PEOPLE, revision=2), 4_500 * MS, None)
    here.hear(frames.rows(slice(half, None)))
    records += output.records + here.step(END_NS).records + here.close(END_NS).records
    assert len(told_of(records, SPEED)) == SECONDS * 50


def test_what_waits_for_its_time_is_still_its_own_signals_when_a_new_set_names_others_before_it() -> None:
    here, other = capturing(), "Vehicle.Outrider.Another"
    here.take(campaigns(PEOPLE), -1, None)
    here.step(1_000 * MS)
    here.tell(1_500 * MS, {SEEN: 7.0})
    both = campaign("both", {"kind": "periodic", "period_ms": 1000}, other, SEEN)
    here.take(campaigns(PEOPLE, both, revision=2), 1_000 * MS, None)
    records = here.close(3_000 * MS).records
    assert (told_of(records, SEEN), told_of(records, other)) == ([(1_500 * MS, 7.0)], [])


def test_denied_signals_and_purposes_without_consent_are_told_by_nobody() -> None:
    private = PrivacyPolicy(consents=frozenset(Purpose), deny=(SPEED,))
    here = capturing(privacy=private)
    here.take(campaigns(STEADY, BRAKING), -1, None)
    records = ran(here, []).records
    assert told_of(records, SPEED) == []
    assert told_of(records, PEDAL) != []
    assert not any(isinstance(record.event, Triggered) for record in records)
    closed = capturing(privacy=PrivacyPolicy())
    closed.take(campaigns(STEADY), -1, None)
    assert ran(closed, []).records == []
    assert closed.idle == {"steady": "no_consent"}


def test_stamps_are_rounded_as_the_owner_wants_them() -> None:
    here = capturing(privacy=PrivacyPolicy(consents=frozenset(Purpose), time_round_ms=1000))
    here.take(campaigns(STEADY), -1, None)
    assert {t_ns % (1000 * MS) for t_ns, _ in told_of(ran(here, []).records, SPEED)} == {0}


def test_the_agents_own_rules_get_the_last_value_of_each_step() -> None:
    here = capturing(values=(SPEED,))
    here.hear(drive(1))
    assert here.step(500 * MS).values == {SPEED: pytest.approx(70.0)}
    assert here.step(510 * MS).values == {}


def test_what_comes_late_is_counted_and_takes_no_time_back() -> None:
    here = capturing()
    here.take(campaigns(STEADY, PEOPLE), -1, None)
    here.step(2_000 * MS)
    here.hear(drive(1))
    here.tell(5, {SEEN: 1.0})
    records = here.close(3_000 * MS).records
    assert (here.counts()[""]["late"], here.counts()[""]["restamped"]) == (60, 1)
    assert [r.captured_ns for r in records if isinstance(r.event, Triggered)] == [2_000 * MS + 1]


def test_what_the_agent_tells_is_bounded_while_time_stands_still() -> None:
    here = capturing()
    here.take(campaigns(PEOPLE), -1, None)
    for t_ns in range(MOST_TOLD + 3):
        here.tell(t_ns, {SEEN: 0.0})
    assert here.counts()[""]["untaken"] == 3


def test_frames_that_are_shorter_than_the_plan_says_are_counted_over_every_new_set() -> None:
    here = capturing()
    here.take(campaigns(STEADY), -1, None)
    frames = drive(2)
    here.hear(replace(frames, length=np.where(frames.can_id == 0x100, 1, 8).astype(np.uint8)))
    here.take(campaigns(STEADY, BRAKING, revision=2), 1_000 * MS - 1, None)
    assert told_of(here.close(2_000 * MS).records, SPEED) == []
    assert here.counts()[""]["short"] == 100


def test_where_the_vehicle_is_stays_known_when_a_new_set_names_what_nobody_knew() -> None:
    private = PrivacyPolicy(consents=frozenset(Purpose), zones=(Zone(latitude=48.0, longitude=11.0, radius_m=200),))
    here = capturing(plan=False, privacy=private)
    steady = campaign("steady", {"kind": "periodic", "period_ms": 1000}, SPEED)
    here.take(campaigns(steady), -1, None)
    here.tell(1_000 * MS, {vss.LATITUDE: 50.0, vss.LONGITUDE: 12.0, SPEED: 1.0})
    here.step(1_500 * MS)
    another = campaign("another", {"kind": "periodic", "period_ms": 1000}, "Vehicle.Another")
    records = here.take(campaigns(steady, another, revision=2), 1_500 * MS, None)[1].records
    here.tell(2_000 * MS, {SPEED: 2.0})
    here.tell(9_000 * MS, {SPEED: 3.0})
    records += here.close(9_500 * MS).records
    assert told_of(records, SPEED) == [(1_000 * MS, 1.0), (2_000 * MS, 2.0)]
    assert here.counts()[""]["private_place_unknown"] == 1


PLACED = SignalPlan(
    Schema(
        (
            *PLAN.schema.groups,
            Group(
                "place",
                (SignalSpec(vss.LATITUDE, Form.INT, 1e-6, unit="degrees"), SignalSpec(vss.LONGITUDE, Form.INT, 1e-6)),
                1_000_000,
            ),
        )
    ),
    (*PLAN.sources, GroupCut(0, 0x300, (), (Cut(0, 32), Cut(32, 32)))),
)


def passing_a_zone() -> Frames:
    """Nine seconds, a position each; from 3 s to 5 s the vehicle is in its zone."""
    t_ns = np.arange(SECONDS, dtype=np.int64) * 1_000 * MS
    latitude = np.where((t_ns >= 3_000 * MS) & (t_ns <= 5_000 * MS), 48_000_000, 50_000_000)
    data = (latitude | (11_000_000 << 32)).astype("<u8").view(np.uint8).reshape(SECONDS, 8)
    place = Frames(
        t_ns, np.zeros(SECONDS, np.uint8), np.full(SECONDS, 0x300, np.uint32), np.full(SECONDS, 8, np.uint8), data
    )  # fmt: skip
    return concat([place, drive(SECONDS)])


@pytest.mark.parametrize("step_ms", [20, 350, 4_000])
def test_what_is_only_stored_is_told_from_no_zone_and_of_no_denied_signal(step_ms: int) -> None:
    zone = Zone(latitude=48.0, longitude=11.0, radius_m=200)
    private = PrivacyPolicy(consents=frozenset(Purpose), zones=(zone,), deny=(PEDAL,))
    here = Capturing(PLACED, private, FLOOR, CampaignBook(None, MemoryShelf(), 0), 90_000)
    here.take(campaigns(STEADY), -1, None)
    frames, records, begin_ns = passing_a_zone(), [], -1
    for end_ns in range(step_ms * MS, (SECONDS * 1000 + step_ms) * MS, step_ms * MS):
        here.hear(frames.rows((frames.t_ns > begin_ns) & (frames.t_ns <= end_ns)))
        records += here.step(end_ns).records
        begin_ns = end_ns
    records += here.close((SECONDS + 1) * 1000 * MS).records
    times = [t_ns for t_ns, _ in told_of(records, SPEED)]
    assert times == [t_ms * MS for t_ms in range(0, SECONDS * 1000, 20) if not 3_000 <= t_ms < 6_000]
    assert told_of(records, PEDAL) == []
