"""Rescue mode: whatever took the agent down, signed updates still come in, and nothing else is loaded or written."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.apiclient import ask_status
from agent.cli import rescue_lines
from agent.folders import SOCKET_NAME
from agent.pairing import KEYS_FOLDER
from agent.rescue import Rescue, Settings, is_runtime_armed, settings_in
from ecu.clock import SECOND_NS, OffsetClock, SystemClock
from ecu.disk import RealDisk, state_folder
from ecu.keys import FileKeyStore
from ota.denied import Denied
from ota.facts import Peer
from ota.floors import Floors
from ota.kinds import Kind
from ota.machine import State
from ota.slots import BootRecord, Installed, Slot, Slots
from ota.updates import Updates
from tests.agent.test_cli import paired_in
from tests.end_to_end.world import until
from tests.ota.fleet import HARDWARE, Fleet
from tests.receiver.fleet import VEHICLE, a_receiver

WHY = "it ended 3 times within ten minutes: exit 1, exit 1, exit 1"
DAY_NS = 24 * 3600 * SECOND_NS
EVERY_SECOND = Settings(hardware=HARDWARE, poll_s=0.05)
MAY_BREAK = (
    "agent.config", "agent.daemon", "agent.parts", "agent.perception", "agent.signals", "agent.learning",
    "agent.updates", "inference", "telemetry.spool", "telemetry.uplink", "telemetry.capture", "telemetry.privacy",
    "numpy", "cv2", "paho",
)  # fmt: skip
BAD = ("", "nonsense", "\x00", "updates = 3", "[updates]\nenabled = 'no'\nhardware = 7\npoll_s = -1", "[camera]\nno=1")


@pytest.mark.parametrize("text", BAD)
def test_no_configuration_keeps_rescue_mode_from_starting(tmp_path: Path, text: str) -> None:
    (tmp_path / "outrider.toml").write_text(text)
    assert settings_in(tmp_path / "outrider.toml") == settings_in(None) == settings_in(tmp_path / "none") == Settings()


def test_what_its_owner_said_of_updates_holds_in_rescue_mode_too(tmp_path: Path) -> None:
    (tmp_path / "outrider.toml").write_text("[updates]\nenabled = false\nhardware = 'gateway-2'\npoll_s = 30\n[wrong]")
    assert settings_in(tmp_path / "outrider.toml") == Settings(enabled=False, hardware="gateway-2", poll_s=30)


def test_rescue_mode_loads_nothing_that_may_be_why_it_runs() -> None:
    script = "import sys, agent.process; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    for name in MAY_BREAK:
        assert not [module for module in loaded if module == name or module.startswith(f"{name}.")]


@contextlib.asynccontextmanager
async def rescued(state: Path, days_off: int = 0) -> AsyncIterator[Rescue]:
    stop = asyncio.Event()
    wall = OffsetClock(SystemClock(), days_off * DAY_NS)
    rescue = Rescue(state, EVERY_SECOND, WHY, {"OUTRIDER_SLOT": "factory"}, is_runtime_armed, wall)
    running = asyncio.create_task(rescue.run(stop))
    try:
        yield rescue
        stop.set()
        assert not await running
    finally:
        running.cancel()


async def test_one_that_was_never_paired_says_so_and_waits_for_it(tmp_path: Path) -> None:
    async with rescued(tmp_path / "state") as rescue:
        await until(lambda: rescue.status().looks > 1)
        status = await asyncio.to_thread(ask_status, tmp_path / "state" / SOCKET_NAME)
        assert (status["rescue"], status["slot"], status["paired_with"]) == (WHY, "factory", None)
        assert "isn't paired" in status["trouble"]
        assert WHY in next(rescue_lines(status))
        assert len(list(rescue_lines(status))) >= 4


@contextlib.asynccontextmanager
async def paired(folder: Path) -> AsyncIterator[Path]:
    """The state of a vehicle whose receiver has something for it."""
    fleet, state = Fleet(folder / "fleet", SystemClock()), folder / "state"
    fleet.assign(fleet.release("1.0", 1, kind=Kind.PLAN), fleet.release("1.0", 1), vehicle=VEHICLE)
    async with a_receiver(folder, updates=str(fleet.repo)) as receiver:
        await asyncio.to_thread(paired_in, state, await receiver.operator.enrol(VEHICLE))
        yield state


async def test_a_signed_release_comes_in_and_nothing_is_written_but_updates(tmp_path: Path) -> None:
    async with paired(tmp_path) as state, rescued(state) as rescue:
        await until(lambda: rescue.status().looks > 0)
        status = rescue.status()
        assert (status.trouble, status.vehicle) == ("", VEHICLE)
        kinds = {of.kind: of for of in status.updates}
        assert kinds[Kind.PLAN].good is not None
        # What would be tried on frames waits until there are some.
        assert (kinds[Kind.MODEL].state, kinds[Kind.MODEL].good) == (State.COMMITTED, None)
        assert {path.name for path in state.iterdir()} == {"keys", "paired.json", "updates", SOCKET_NAME}


async def test_once_a_release_is_armed_it_asks_to_be_started_again(tmp_path: Path) -> None:
    def has_plan(updates: Updates) -> bool:
        return updates.slots(Kind.PLAN).record.good != "factory"

    async with paired(tmp_path) as state, asyncio.timeout(30):
        rescue = Rescue(state, EVERY_SECOND, WHY, {}, has_plan, OffsetClock(SystemClock()))
        assert await rescue.run(asyncio.Event())


@contextlib.asynccontextmanager
async def offered(folder: Path, fleet: Fleet) -> AsyncIterator[Path]:
    """The state of a vehicle whose receiver has that fleet's releases."""
    async with a_receiver(folder, updates=str(fleet.repo)) as receiver:
        await asyncio.to_thread(paired_in, folder / "state", await receiver.operator.enrol(VEHICLE))
        yield folder / "state"


async def is_over_by_itself(state: Path) -> bool:
    environment = {"OUTRIDER_SLOT": "factory"}
    rescue = Rescue(state, EVERY_SECOND, WHY, environment, is_runtime_armed, OffsetClock(SystemClock()))
    async with asyncio.timeout(30):
        return await rescue.run(asyncio.Event())


async def test_a_release_that_does_not_fit_or_cannot_be_written_keeps_no_runtime_from_its_place(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path / "fleet", SystemClock())
    lonely = fleet.release("1.0", 1, kind=Kind.CROPS, requires=(Peer(kind=Kind.STATE, name="drive", least=2),))
    barred = fleet.release("1.0", 1, kind=Kind.PLAN)
    fleet.assign(lonely, barred, fleet.release("1.0", 1, kind=Kind.RUNTIME), vehicle=VEHICLE)
    async with offered(tmp_path, fleet) as state:
        (state / "updates/plan").mkdir(parents=True)
        (state / "updates/plan/a").write_bytes(b"something else stands here")
        assert await is_over_by_itself(state)
        assert Slots(RealDisk(state / "updates"), Kind.RUNTIME).record.state is State.ARMED


@pytest.mark.parametrize("state_of_it", [State.STAGED, State.ARMED, State.TRIAL])
async def test_no_trial_of_a_system_keeps_a_runtime_from_its_rescue(tmp_path: Path, state_of_it: State) -> None:
    fleet = Fleet(tmp_path / "fleet", SystemClock())
    fleet.assign(fleet.release("1.0", 1, kind=Kind.RUNTIME), vehicle=VEHICLE)
    async with offered(tmp_path, fleet) as state:
        disk = state_folder(state / "updates")
        slots = {Slot.A: Installed("a" * 64, 1, "system")}
        Slots(disk, Kind.SYSTEM).write(BootRecord(trial=Slot.A, state=state_of_it, slots=slots))
        assert await is_over_by_itself(state)
        record = Slots(disk, Kind.SYSTEM).record
        assert (record.state, record.trial) == (State.INCONCLUSIVE, None)
        assert len(Denied(disk)) == 0


async def test_a_model_that_has_to_run_comes_again_and_then_rescue_mode_is_over(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path / "fleet", SystemClock())
    fleet.assign(fleet.release("2.0", 2, minimum_bootable=2), vehicle=VEHICLE)
    async with offered(tmp_path, fleet) as state:
        disk = state_folder(state / "updates")
        Floors(disk).raise_release(Kind.MODEL, 2, 2)
        assert await is_over_by_itself(state)
        record = Slots(disk, Kind.MODEL).record
        assert (record.state, record.good) == (State.COMMITTED, Slot.A)


async def test_a_computer_whose_clock_is_wrong_takes_the_receivers_signed_time(tmp_path: Path) -> None:
    async with paired(tmp_path) as state, rescued(state, days_off=-9000) as rescue:
        await until(lambda: rescue.status().looks > 0)
        assert rescue.status().trouble == ""
        assert any(of.kind is Kind.PLAN and of.good is not None for of in rescue.status().updates)


async def test_a_certificate_is_renewed_in_rescue_mode_too(tmp_path: Path) -> None:
    async with paired(tmp_path) as state:
        before = FileKeyStore(RealDisk(state / KEYS_FOLDER)).certificate()
        async with rescued(state, days_off=10) as rescue:
            await until(lambda: rescue.status().looks > 0)
        keys = FileKeyStore(RealDisk(state / KEYS_FOLDER))
        assert keys.certificate() != before
        assert keys.previous_certificate() is None
