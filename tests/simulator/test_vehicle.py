"""The simulated vehicle: its motion in closed form, its route, and its process over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecu.channel import Advance, Done, pair
from ecu.clock import SECOND_NS, SystemClock
from ecu.process import PARENT_VARIABLE
from simulator.motion import CYCLE_S, DrivePlan
from simulator.route import EARTH_RADIUS_M, HIGHWAY, Route
from simulator.vehicle import PERIOD_NS, Plan, Vehicle, main, signals_at
from telemetry.capture import CaptureRules
from telemetry.records import HardBrake
from telemetry.signals import SignalState, SocketSignals, unix_dial, vss
from telemetry.signals.conversation import Conversation
from telemetry.signals.messages import Begin, FromSource, Signals, SourceHello
from telemetry.signals.source import SignalSample

seeds = st.integers(0, 1 << 32)
drive_times = st.floats(0, 3 * 3_600)


@settings(max_examples=200)
@given(seeds, drive_times)
def test_speed_is_the_integral_of_acceleration_and_the_way_that_of_speed(seed: int, t_s: float) -> None:
    drive, h = DrivePlan(seed), 1e-3
    before, at, after = (drive.motion(max(0.0, t_s + dt)) for dt in (-h, 0.0, h))
    width = 2 * h if t_s >= h else t_s + h
    assert (after.speed_ms - before.speed_ms) / width == pytest.approx(at.acceleration_ms2, abs=0.02)
    assert (after.driven_m - before.driven_m) / width == pytest.approx(at.speed_ms, abs=0.02)


@given(seeds, drive_times)
def test_the_vehicle_never_stands_or_flies_and_never_drives_backwards(seed: int, t_s: float) -> None:
    motion = DrivePlan(seed).motion(t_s)
    assert 15.0 < motion.speed_ms < 30.0
    assert DrivePlan(seed).motion(t_s + 0.05).driven_m > motion.driven_m


def brakes_told(plan: Plan, seconds: float) -> list[int]:
    """When the default capture rules find a hard brake in this drive."""
    rules, state, told = CaptureRules(), SignalState(), []
    for t_ns in range(plan.start_ns, plan.start_ns + int(seconds * SECOND_NS), PERIOD_NS):
        state.put(t_ns, signals_at(t_ns, plan))
        told += [r.captured_ns for r in rules.on_signals(t_ns, state) if isinstance(r.event, HardBrake)]
    return told


@settings(max_examples=10)
@given(seeds)
def test_there_is_one_hard_brake_in_every_twenty_seconds(seed: int) -> None:
    told = brakes_told(Plan(drive=DrivePlan(seed)), 5 * CYCLE_S)
    assert [t_ns // int(CYCLE_S * SECOND_NS) for t_ns in told] == [0, 1, 2, 3, 4]


def test_hard_brakes_come_when_asked_for() -> None:
    told = brakes_told(Plan(drive=DrivePlan(brakes_s=[3.0, 14.0])), 60.0)
    assert [t_ns / SECOND_NS for t_ns in told] == pytest.approx([3.6, 14.6], abs=0.2)
    assert brakes_told(Plan(drive=DrivePlan(brakes_s=[])), 60.0) == []


def test_brakes_that_no_car_could_do_are_refused() -> None:
    for brakes in ([1.0, 5.0], [-1.0]):
        with pytest.raises(ValueError, match="s apart"):
            DrivePlan(brakes_s=brakes)


def metres(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Great-circle distance (haversine)."""
    (lat1, lon1), (lat2, lon2) = (tuple(map(math.radians, p)) for p in (a, b))
    h = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(math.sqrt(h))


@settings(max_examples=50)
@given(st.integers(0, 10**13), seeds)
def test_the_position_moves_as_fast_as_the_vehicle_says(t_ns: int, seed: int) -> None:
    plan = Plan(drive=DrivePlan(seed))
    here, there = (signals_at(t, plan) for t in (t_ns, t_ns + SECOND_NS))
    way_m = metres((here[vss.LATITUDE], here[vss.LONGITUDE]), (there[vss.LATITUDE], there[vss.LONGITUDE]))
    slower, faster = sorted((here[vss.SPEED] / 3.6, there[vss.SPEED] / 3.6))
    # A second that turns around at the end of the road covers less ground than way.
    assert way_m < faster + 7.0
    turns = abs(here[vss.HEADING] - there[vss.HEADING]) > 30
    assert turns or way_m > slower - 7.0


def test_the_route_is_closed_and_of_a_plausible_length() -> None:
    route = Route()
    start, end = route.at(0.0), route.at(route.length_m)
    assert (start.latitude, start.longitude) == pytest.approx(HIGHWAY[0])
    assert (end.latitude, end.longitude) == pytest.approx(HIGHWAY[0])
    assert 25_000 < route.length_m < 45_000


@given(st.integers(0, 1 << 62), seeds)
def test_the_same_instant_always_says_the_same(t_ns: int, seed: int) -> None:
    assert signals_at(t_ns, Plan(drive=DrivePlan(seed))) == signals_at(t_ns, Plan(drive=DrivePlan(seed)))


@contextlib.contextmanager
def vehicle(*arguments: str, fds: tuple[int, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "simulator.vehicle", *arguments]
    environment = {**os.environ, PARENT_VARIABLE: str(os.getpid())}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, pass_fds=fds, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("listening ")
    return line.removeprefix("listening ").strip()


def test_it_does_not_outlive_its_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "simulator.vehicle", "--socket", f"{tmp_path}/v.sock"]
    orphan = {**os.environ, PARENT_VARIABLE: "1"}
    assert subprocess.run(command, env=orphan, capture_output=True, timeout=20, check=True).stdout == b""


async def test_lockstep_replays_the_plan_exactly_for_every_reader_from_where_it_begins(tmp_path: Path) -> None:
    async def replay(url: str, grants: list[int], from_ns: int = 0) -> list[SignalSample]:
        signals = SocketSignals(unix_dial(url), SystemClock(), Random(1))
        with contextlib.closing(signals):
            await signals.begin(from_ns)
            return [sample for grant in grants for sample in await signals.advance(grant)]

    plan = Plan(0, DrivePlan(9))
    with vehicle("--socket", f"{tmp_path}/v.sock", "--seed", "9") as process:
        url = ready(process)
        fine = await replay(url, [*range(0, 30 * SECOND_NS, 109_375_000), 30 * SECOND_NS])
        coarse = await replay(url, [30 * SECOND_NS])
        later = await replay(url, [30 * SECOND_NS], from_ns=9 * PERIOD_NS + 1)
    assert fine == coarse
    assert [(s.t_ns, s.seq) for s in fine] == [(k * PERIOD_NS, k) for k in range(601)]
    assert later == fine[10:]
    assert all(sample.payload == signals_at(sample.t_ns, plan) for sample in fine)


async def test_in_lockstep_a_slow_reader_is_waited_for_and_nothing_is_left_out() -> None:
    ours, theirs = pair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    reader: Conversation[FromSource] = Conversation(ours, FromSource)
    with contextlib.closing(reader):
        telling = asyncio.create_task(Vehicle(Plan(), SystemClock()).tell(theirs))
        assert isinstance(await reader.receive(), SourceHello)
        await reader.send(Begin(realtime=False, from_ns=0))
        await reader.send(Advance(10 * SECOND_NS))
        for _ in range(100):  # turns in which the vehicle fills the buffer and we don't read
            await asyncio.sleep(0)
        told = [await reader.receive() for _ in range(202)]
    assert [message.seq for message in told if isinstance(message, Signals)] == list(range(201))
    assert told[-1] == Done(10 * SECOND_NS)
    await telling


@contextlib.asynccontextmanager
async def heard(url: str) -> AsyncIterator[AsyncIterator[SignalSample]]:
    signals = SocketSignals(unix_dial(url), SystemClock(), Random(1))
    async with contextlib.aclosing(signals.samples()) as samples:
        yield samples


async def test_in_real_time_a_reader_that_comes_again_meets_the_same_drive_further_on(tmp_path: Path) -> None:
    with vehicle("--socket", f"{tmp_path}/v.sock", "--period-ms", "5") as process:
        url = ready(process)
        lives = []
        for _ in range(3):
            before_ns = SystemClock().boot_ns()
            async with heard(url) as samples:
                lives.append([await anext(samples) for _ in range(10)])
            assert before_ns <= lives[-1][0].t_ns
            assert lives[-1][-1].t_ns <= SystemClock().boot_ns()
    told = [sample for life in lives for sample in life]
    assert [s.seq for s in told] == sorted({s.seq for s in told})
    starts = {s.t_ns - s.seq * 5_000_000 for s in told}
    assert len(starts) == 1, "the drive began anew"
    assert all(s.payload == signals_at(s.t_ns, Plan(starts.copy().pop())) for s in told)


async def test_a_killed_vehicles_socket_is_taken_over_but_a_living_ones_is_not(tmp_path: Path) -> None:
    path = tmp_path / "v.sock"
    with vehicle("--socket", str(path)) as process:
        ready(process)
        assert main(["--socket", str(path)]) == 3
    assert path.exists()
    with vehicle("--socket", str(path)) as process:
        async with heard(ready(process)) as samples:
            await anext(samples)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    assert not path.exists()


async def test_it_speaks_over_an_inherited_descriptor_and_ends_with_its_reader() -> None:
    ours, theirs = pair()
    with vehicle("--fd", str(theirs.fileno()), fds=(theirs.fileno(),)) as process:
        theirs.close()
        signals = SocketSignals(lambda: ours, SystemClock(), Random(1))
        with contextlib.closing(signals):
            await signals.begin(0)
            assert len(await signals.advance(SECOND_NS)) == 21
        assert await asyncio.to_thread(process.wait, 20) == 0


@pytest.mark.parametrize(
    "arguments", [[], ["--socket", "x", "--hard-brake-at", "1", "2"], ["--fd", "0", "--period-ms", "0"]]
)
def test_wrong_usage_says_so(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "--" in capsys.readouterr().err


def test_a_socket_that_cannot_be_made_is_the_environments_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--socket", "/nonexistent/folder/v.sock"]) == 3
    assert "/nonexistent/folder/v.sock" in capsys.readouterr().err
