"""What was kept, or delivered, is called good at each start, whatever else the agent can or can't do."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.config import UpdatesSection
from agent.rebooting import RebootCommand
from agent.rescue import settings_in
from agent.systemgood import AGAIN_AFTER_NS, Standing, open_installer, open_standing
from agent.systemslots import open_systems
from ecu.clock import SteppingClock
from ecu.disk import state_folder
from ecu.errors import UsageFault
from ota.kinds import Kind
from ota.machine import State
from ota.slots import BootRecord, Installed, Slot, Slots
from ota.system.memory import STARTS, MemorySystem
from ota.system.placed import Placements
from ota.system.port import InstallerAway, Marking
from tests.agent.computers import NEW, OLD
from tests.crash.test_system import Around

needs_dbus = pytest.mark.skipif(importlib.util.find_spec("dbus_fast") is None, reason="dbus-fast isn't installed")


async def test_what_was_delivered_never_runs_out_of_starts_though_nobody_tries_anything(tmp_path: Path) -> None:
    system = MemorySystem()
    for boot in range(STARTS + 2):
        assert system.power_on() == OLD
        await Standing(system, tmp_path, SteppingClock(), f"boot {boot}").call_good()


async def test_what_is_under_trial_is_not_called_good_here(tmp_path: Path) -> None:
    disk, system = state_folder(tmp_path / "updates"), MemorySystem()
    Placements(disk).begin("trial", "", await system.read())
    system.overwrite(NEW, b"newer")
    images = (await system.read()).images(NEW)
    Placements(disk).finish("trial", NEW, images)
    record = BootRecord(trial=Slot.A, state=State.TRIAL, slots={Slot.A: Installed("trial", 1, "system")})
    Slots(disk, Kind.SYSTEM).write(record)
    await system.mark(Marking.ACTIVE, NEW)
    assert system.power_on() == NEW
    await Standing(system, tmp_path, SteppingClock(), "boot").call_good()
    assert system.told == [(Marking.ACTIVE, NEW)]


async def test_an_installer_that_is_away_is_asked_until_it_answers(tmp_path: Path) -> None:
    system, clock = MemorySystem(), SteppingClock()
    system.failures["read"] = [InstallerAway("not started yet")] * 2
    work = asyncio.create_task(Standing(system, tmp_path, clock, "boot").call_good())
    for _ in range(2):
        await asyncio.sleep(0)
        clock.advance(clock.boot_ns() + AGAIN_AFTER_NS)
    await work
    assert system.told == [(Marking.GOOD, OLD)]


def test_without_a_word_in_the_configuration_systems_are_nobodys(tmp_path: Path) -> None:
    assert open_installer("") is None
    assert open_standing("", tmp_path, SteppingClock(), "boot") is None
    assert open_systems(UpdatesSection(), tmp_path, Around(), "boot") is None
    assert not list(tmp_path.iterdir())


@needs_dbus
def test_rauc_is_asked_where_the_configuration_names_it(tmp_path: Path) -> None:
    settings = UpdatesSection(system="rauc", reboot=("systemctl", "reboot"))
    systems = open_systems(settings, tmp_path, Around(), "boot")
    assert systems is not None
    assert systems.kinds == (Kind.SYSTEM,)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageFault, match=r"outrider\[rauc\]"):
        open_installer("rauc")


def test_rescue_mode_reads_who_installs_systems(tmp_path: Path) -> None:
    config = tmp_path / "outrider.toml"
    for text, system in (('[updates]\nsystem = "rauc"\n', "rauc"), ("[updates]\nsystem = 3\n", ""), ("[", "")):
        config.write_text(text)
        assert settings_in(config).system == system


async def test_the_computer_is_restarted_by_the_owners_command_without_a_shell(tmp_path: Path) -> None:
    told = tmp_path / "told; true"
    write = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('restarted')"
    await RebootCommand([sys.executable, "-S", "-c", write, str(told)])()
    assert told.read_text() == "restarted"


@pytest.mark.parametrize("command", [["/nowhere/reboot"], [sys.executable, "-S", "-c", "raise SystemExit(3)"]])
async def test_a_command_that_fails_is_told_and_ends_nothing(command: list[str]) -> None:
    with capture_logs() as told:
        await RebootCommand(command)()
    assert [line["event"] for line in told] == ["computer_restarts", "reboot_failed"]
