"""The time of a GNSS receiver: taken when nobody's signed time can be had, and never otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.anchors import ClockAnchors
from agent.cloud import CloudSide, _validity_ns
from agent.config import LinkSection
from agent.gnsstime import OLDEST_NS, at, why_not
from agent.links import Trust
from agent.signals.messages import TimeHeard
from ecu.clock import SECOND_NS, OffsetClock, SystemClock
from telemetry.links.link import LinkError
from telemetry.records import ClockAnchor, Lane
from telemetry.uplink.memory import MemoryBacklog
from tests.agent.test_cloud import QUICK, running
from tests.receiver.fleet import Vehicle, a_receiver, a_vehicle, make_block, until

DAY_NS = 24 * 3600 * SECOND_NS
BEGIN_NS, END_NS = 1000 * DAY_NS, 1090 * DAY_NS


@given(st.integers(-DAY_NS, DAY_NS), st.integers(900 * DAY_NS, 1200 * DAY_NS))
def test_no_time_is_taken_that_is_old_or_beyond_what_was_signed(age_ns: int, wall_ns: int) -> None:
    heard, now_ns = TimeHeard(2 * DAY_NS, wall_ns), 2 * DAY_NS + age_ns
    usable = 0 <= age_ns <= OLDEST_NS and BEGIN_NS <= at(heard, now_ns) <= END_NS
    assert (why_not(heard, now_ns, (BEGIN_NS, END_NS)) == "") is usable


@pytest.mark.parametrize(
    ("age_s", "wall_ns", "words"),
    [
        (60, BEGIN_NS, ""),
        (61, BEGIN_NS, "too long ago"),
        (0, BEGIN_NS - 1, "before"),
        (0, END_NS + 1, "beyond"),
    ],
)
def test_the_bounds_are_a_minute_and_the_certificate(age_s: int, wall_ns: int, words: str) -> None:
    told = why_not(TimeHeard(0, wall_ns), age_s * SECOND_NS, (BEGIN_NS, END_NS))
    assert words in told
    assert bool(told) is bool(words)


def test_without_a_receiver_or_a_certificate_nothing_is_taken() -> None:
    assert why_not(None, 0, (BEGIN_NS, END_NS))
    assert why_not(TimeHeard(0, BEGIN_NS), 0, None)


class Away:
    """A vehicle whose clock is in 1970, and what its GNSS receiver says: by how much that is wrong, and how old."""

    def __init__(self, vehicle: Vehicle, *, off_ns: int = 0, age_ns: int = 0) -> None:
        self.wall = OffsetClock(SystemClock(), -SystemClock().wall_ns())
        self.told: list[ClockAnchor] = []
        self.backlog = MemoryBacklog()
        anchors = ClockAnchors(self.wall, "boot", {Lane.P1: bytes(16)}, self.told.append)
        clock = SystemClock()
        heard = TimeHeard(clock.boot_ns() - age_ns, clock.wall_ns() - age_ns + off_ns)
        self.side = CloudSide(
            Trust(vehicle.paired, vehicle.keys, self.wall, vehicle.disk), self.backlog, clock, Random(7),
            LinkSection(), anchors=anchors, time_heard=lambda: heard, uplink=QUICK,
        )  # fmt: skip

    @property
    def sources(self) -> list[str]:
        return [anchor.source for anchor in self.told]


async def test_the_receivers_signed_time_is_preferred_and_not_given_up_when_it_is_out_of_reach(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        away = Away(await a_vehicle(receiver, tmp_path), off_ns=3600 * SECOND_NS)
        await away.side._set_clock()
        assert abs(away.wall.offset_ns) < SECOND_NS
    with pytest.raises(LinkError):
        await away.side._set_clock()
    assert abs(away.wall.offset_ns) < SECOND_NS
    assert away.sources == ["receiver"]


async def test_what_is_left_is_taken_unproven_within_its_bounds(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
    certificate = vehicle.keys.certificate()
    assert certificate is not None
    begin_ns, end_ns = (bound - SystemClock().wall_ns() for bound in _validity_ns(certificate))
    for off_ns, age_ns, is_taken in (
        (0, 0, True),
        (0, 61 * SECOND_NS, False),
        (begin_ns - SECOND_NS, 0, False),
        (end_ns + SECOND_NS, 0, False),
    ):
        away = Away(vehicle, off_ns=off_ns, age_ns=age_ns)
        if is_taken:
            await away.side._set_clock()
            assert abs(away.wall.offset_ns) < SECOND_NS
        else:
            with pytest.raises(LinkError):
                await away.side._set_clock()
            assert away.wall.wall_ns() < DAY_NS
        assert away.sources == ["unproven"] * is_taken


async def test_where_only_the_signed_time_is_out_of_reach_the_link_connects_by_gnss(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        nobody = msgspec.structs.replace(vehicle.paired, https_port=1)
        away = Away(replace(vehicle, paired=nobody))
        away.backlog.add(make_block())
        async with running(away.side):
            await until(lambda: away.backlog.freed == 3)
    assert away.sources == ["unproven", "certificates"]


async def test_a_clock_that_was_proven_is_so_no_more_once_it_was_set_by_gnss(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        away = Away(await a_vehicle(receiver, tmp_path))
    assert away.side._anchors is not None
    away.side._anchors.proven()
    await away.side._set_clock()
    away.side._anchors.proven()
    assert away.sources == ["certificates", "unproven", "certificates"]
