"""The contract of whoever installs systems: RAUC itself over D-Bus, and the one in memory with its bootloader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ota.errors import Attack, TrustError
from ota.system.memory import STARTS, MemorySystem
from ota.system.port import InstallerAway, InstallFailed, Marking
from tests.contracts.systemworlds import MemoryWorld, RaucWorld, SystemWorld, a_bus, a_system_world

OLD, NEW = "rootfs.0", "rootfs.1"
PAYLOAD = b"a newer system".ljust(1 << 16, b"-")


@pytest.fixture(params=["memory", pytest.param("rauc", marks=pytest.mark.peer)])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SystemWorld]:
    async with a_system_world(request.param, tmp_path / "computer") as world:
        yield world


async def installed(world: SystemWorld, path: Path) -> None:
    await world.installer.install(world.bundle(path, PAYLOAD), lambda percent, what: None)


async def test_a_computer_tells_which_slot_runs_and_which_is_spare(world: SystemWorld) -> None:
    reading = await world.installer.read()
    assert reading.booted is not None
    assert reading.spare is not None
    assert (reading.booted.name, reading.spare.name, reading.primary) == (OLD, NEW, OLD)
    assert reading.images(NEW) == {}
    assert not reading.booted.is_bad


async def test_what_is_installed_lies_in_the_spare_slot_and_is_not_started(world: SystemWorld, tmp_path: Path) -> None:
    heard: list[int] = []
    bundle = world.bundle(tmp_path / "new.raucb", PAYLOAD)
    await world.installer.install(bundle, lambda percent, what: heard.append(percent))
    reading = await world.installer.read()
    assert heard[-1] == 100
    assert set(reading.images(NEW)) == {NEW}
    assert reading.images(OLD) == {}
    assert world.content(NEW) in (None, PAYLOAD)
    assert [await world.power_on() for _ in range(STARTS - 1)] == [OLD] * (STARTS - 1)
    assert (await world.installer.read()).images(NEW) == reading.images(NEW)


async def test_the_same_bundle_installed_again_is_the_same(world: SystemWorld, tmp_path: Path) -> None:
    await installed(world, tmp_path / "new.raucb")
    once = (await world.installer.read()).images(NEW)
    await installed(world, tmp_path / "new.raucb")
    assert (await world.installer.read()).images(NEW) == once


async def test_what_was_made_active_has_its_starts_and_then_gives_way(world: SystemWorld, tmp_path: Path) -> None:
    await installed(world, tmp_path / "new.raucb")
    await world.installer.mark(Marking.ACTIVE, NEW)
    assert (await world.installer.read()).primary == NEW
    assert [await world.power_on() for _ in range(STARTS + 1)] == [NEW] * STARTS + [OLD]
    slot = (await world.installer.read()).slot(NEW)
    assert slot is not None
    assert slot.is_bad


async def test_what_was_called_good_is_started_on_and_on(world: SystemWorld, tmp_path: Path) -> None:
    await installed(world, tmp_path / "new.raucb")
    await world.installer.mark(Marking.ACTIVE, NEW)
    for _ in range(STARTS + 2):
        assert await world.power_on() == NEW
        await world.installer.mark(Marking.GOOD, NEW)


async def test_what_was_called_bad_is_started_no_more(world: SystemWorld, tmp_path: Path) -> None:
    await installed(world, tmp_path / "new.raucb")
    await world.installer.mark(Marking.ACTIVE, NEW)
    assert await world.power_on() == NEW
    await world.installer.mark(Marking.ACTIVE, OLD)
    await world.installer.mark(Marking.BAD, NEW)
    assert await world.power_on() == OLD


@pytest.mark.parametrize(
    ("what", "attack"),
    [
        ("foreign", Attack.WRONG_SIGNER),
        ("for another computer", Attack.WRONG_HARDWARE),
        ("one byte changed", Attack.TAMPERED),
        ("cut short", Attack.MALFORMED),
    ],
)
async def test_a_bundle_that_isnt_for_this_computer_changes_nothing(
    world: SystemWorld, tmp_path: Path, what: str, attack: Attack
) -> None:
    path = tmp_path / "other.raucb"
    match what:
        case "foreign":
            world.bundle(path, PAYLOAD, chain="foreign")
        case "for another computer":
            world.bundle(path, PAYLOAD, compatible="lorry")
        case "one byte changed":
            data = bytearray(world.bundle(path, PAYLOAD).read_bytes())
            data[200] ^= 1
            path.write_bytes(data)
        case _:
            path.write_bytes(world.bundle(path, PAYLOAD).read_bytes()[:30])
    before, content = await world.installer.read(), world.content(NEW)
    with pytest.raises(TrustError) as refused:
        await world.installer.install(path, lambda percent, what: None)
    assert refused.value.attack is attack
    assert (await world.installer.read(), world.content(NEW)) == (before, content)


async def test_a_power_cut_while_it_is_written_leaves_the_old_one_and_it_can_be_done_again(
    world: SystemWorld, tmp_path: Path
) -> None:
    await world.cut_while_writing(world.bundle(tmp_path / "large.raucb", bytes(range(256)) * (1 << 16)))
    reading = await world.installer.read()
    assert reading.booted is not None
    assert (reading.booted.name, reading.primary, reading.images(NEW)) == (OLD, OLD, {})
    await installed(world, tmp_path / "new.raucb")
    assert set((await world.installer.read()).images(NEW)) == {NEW}


async def test_a_slot_that_isnt_there_is_told(world: SystemWorld) -> None:
    with pytest.raises(InstallFailed):
        await world.installer.mark(Marking.ACTIVE, "rootfs.7")


async def test_one_in_memory_fails_on_command_and_once(tmp_path: Path) -> None:
    system = MemorySystem()
    system.failures["read"].append(InstallerAway("gone"))
    system.failures["install"].append(InstallFailed("no"))
    with pytest.raises(InstallerAway):
        await system.read()
    with pytest.raises(InstallFailed):
        await system.install(tmp_path, lambda percent, what: None)
    assert (await system.read()).primary == OLD


async def test_two_at_once_are_refused_in_memory_as_by_rauc(tmp_path: Path) -> None:
    world = MemoryWorld()
    bundle = world.bundle(tmp_path / "new", PAYLOAD)
    world.installer.hold = asyncio.Event()
    work = asyncio.create_task(world.installer.install(bundle, lambda percent, what: None))
    await world.installer.writing.wait()
    with pytest.raises(InstallFailed):
        await world.installer.install(bundle, lambda percent, what: None)
    world.installer.hold.set()
    await work


@pytest.mark.peer
async def test_a_rauc_that_is_gone_is_away_and_one_that_ends_has_failed(tmp_path: Path) -> None:
    async with a_system_world("rauc", tmp_path / "computer") as world:
        assert isinstance(world, RaucWorld)
        world.stop()
        with pytest.raises(InstallerAway):
            await world.installer.read()
        with pytest.raises(InstallerAway):
            await world.installer.install(tmp_path / "none.raucb", lambda percent, what: None)


@pytest.mark.peer
async def test_systemd_is_asked_how_services_are(tmp_path: Path) -> None:
    """By a systemd that speaks D-Bus and is otherwise played: none runs where tests do."""
    async with a_bus(tmp_path) as address:
        from agent.systemd import SystemdServices
        from tests.contracts.playedsystemd import played

        services = SystemdServices(["radio.service", "can.service"], address)
        with pytest.raises(InstallerAway):
            await services.states()
        async with played(address, {"radio.service": "failed", "can.service": "active"}):
            assert await services.states() == {"radio.service": "failed", "can.service": "active"}
