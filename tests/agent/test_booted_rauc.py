"""The whole way of a system with Debian's RAUC: signed by our roles and by RAUC's chain, written into a slot, started
by a bootloader that counts, kept or refused. Skips, saying so, where RAUC isn't installed.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.updates import TICK_NS
from ecu.disk import RealDisk
from ota.denied import Denied
from ota.floors import Floors
from ota.kinds import Kind
from ota.system.memory import STARTS, MemorySystem
from tests.agent.computers import NEW, OLD, Computer, a_trip
from tests.agent.test_started import Car
from tests.contracts.systemworlds import RaucWorld, a_rauc_world, unmount
from tests.ota.fleet import Fleet

pytestmark = pytest.mark.peer
PAYLOAD = b"a newer system".ljust(1 << 20, b"-")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[RaucWorld]:
    async with a_rauc_world(tmp_path / "computer") as world:
        yield world


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    return Computer(tmp_path / "car", MemorySystem())


def release(fleet: Fleet, bundle: Path) -> None:
    fleet.assign(fleet.release("1.0", 1, kind=Kind.SYSTEM, files={"system.raucb": bundle.read_bytes()}))


@asynccontextmanager
async def a_drive(fleet: Fleet, computer: Computer, world: RaucWorld) -> AsyncIterator[Car]:
    computer.boots += 1
    async with a_trip(fleet, computer, world.installer, f"boot {computer.boots}") as car:
        yield car


async def until(car: Car, what: str) -> str:
    """RAUC takes its own time: seconds go by no faster than it answers."""
    async with asyncio.timeout(30):
        while what not in car.told():
            car.clock.advance(car.clock.boot_ns() + TICK_NS)
            await asyncio.sleep(0.01)
    return next(notice.words for notice in car.notices if notice.what == what)


async def rebooted(car: Car, computer: Computer, world: RaucWorld) -> None:
    async with asyncio.timeout(30):
        while not computer.reboots:
            car.clock.advance(car.clock.boot_ns() + TICK_NS)
            await asyncio.sleep(0.01)
    computer.reboots = 0


async def arm(fleet: Fleet, computer: Computer, world: RaucWorld, bundle: Path) -> None:
    release(fleet, bundle)
    async with a_drive(fleet, computer, world) as car:
        await until(car, "armed")
        await rebooted(car, computer, world)


async def called_good(world: RaucWorld, bootname: str = "B") -> None:
    """Until the start of that system is forgiven."""
    async with asyncio.timeout(30):
        while (world.folder / f"starts.{bootname}").read_text() != str(STARTS):
            await asyncio.sleep(0.01)


async def writing(car: Car, world: RaucWorld) -> None:
    """Until the spare slot begins to change: looked at more often than time goes by, for a fast disk takes little."""
    async with asyncio.timeout(30):
        for look in itertools.count():
            if not begins(world.slot_file(NEW), b"delivered"):
                return
            if look % 10 == 0:
                car.clock.advance(car.clock.boot_ns() + TICK_NS)
            await asyncio.sleep(0.001)


def begins(path: Path, what: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(what)) == what


async def test_a_system_is_written_by_rauc_started_by_the_bootloader_called_good_and_kept(
    fleet: Fleet, computer: Computer, world: RaucWorld, tmp_path: Path
) -> None:
    await arm(fleet, computer, world, world.bundle(tmp_path / "system.raucb", PAYLOAD))
    assert world.content(NEW) == PAYLOAD
    assert await world.power_on() == NEW
    async with a_drive(fleet, computer, world) as car:
        await until(car, "committed")
    assert Floors(RealDisk(computer.folder)).release(Kind.SYSTEM) == 1
    for _ in range(STARTS + 1):
        assert await world.power_on() == NEW
        async with a_drive(fleet, computer, world) as car:
            await called_good(world)
            assert car.told() == []


@pytest.mark.parametrize(("what", "words"), [("foreign", "wrong-signer"), ("tampered", "tampered")])
async def test_a_bundle_that_raucs_chain_refuses_is_denied_with_nothing_changed(
    fleet: Fleet, computer: Computer, world: RaucWorld, tmp_path: Path, what: str, words: str
) -> None:
    bundle = world.bundle(tmp_path / "system.raucb", PAYLOAD, chain="foreign" if what == "foreign" else "ours")
    if what == "tampered":
        data = bytearray(bundle.read_bytes())
        data[2000] ^= 1
        bundle.write_bytes(data)
    release(fleet, bundle)
    content, reading = world.content(NEW), await world.installer.read()
    async with a_drive(fleet, computer, world) as car:
        assert words in await until(car, "rolled_back")
    assert len(Denied(RealDisk(computer.folder))) == 1
    assert (world.content(NEW), (await world.installer.read()).slots) == (content, reading.slots)


@pytest.mark.soak
async def test_a_system_that_never_comes_to_itself_is_denied_by_the_one_before(
    fleet: Fleet, computer: Computer, world: RaucWorld, tmp_path: Path
) -> None:
    await arm(fleet, computer, world, world.bundle(tmp_path / "system.raucb", PAYLOAD))
    assert [await world.power_on() for _ in range(4)] == [NEW, NEW, NEW, OLD]
    async with a_drive(fleet, computer, world) as car:
        await until(car, "rolled_back")
    assert len(Denied(RealDisk(computer.folder))) == 1


async def test_a_power_cut_while_rauc_writes_begins_the_installation_again(
    fleet: Fleet, computer: Computer, world: RaucWorld, tmp_path: Path
) -> None:
    release(fleet, world.bundle(tmp_path / "system.raucb", bytes(range(256)) * (1 << 17)))
    async with a_drive(fleet, computer, world) as car:
        await until(car, "staged")
        await writing(car, world)
        world.stop()
    unmount(world.folder)
    assert await world.power_on() == OLD
    async with a_drive(fleet, computer, world) as car:
        await until(car, "armed")
        await rebooted(car, computer, world)
    assert len(Denied(RealDisk(computer.folder))) == 0
    assert await world.power_on() == NEW


@pytest.mark.soak
async def test_a_rauc_that_ends_while_it_installs_is_tried_again_and_then_left(
    fleet: Fleet, computer: Computer, world: RaucWorld, tmp_path: Path
) -> None:
    bundle = world.bundle(tmp_path / "system.raucb", PAYLOAD)
    (world.folder / "B.img").unlink()
    (world.folder / "B.img").mkdir()
    release(fleet, bundle)
    async with a_drive(fleet, computer, world) as car:
        await until(car, "inconclusive")
        assert car.told() == ["staged", "inconclusive"]
    assert len(Denied(RealDisk(computer.folder))) == 0


async def test_an_agent_that_was_never_paired_calls_what_was_delivered_good(world: RaucWorld, tmp_path: Path) -> None:
    config = tmp_path / "outrider.toml"
    config.write_text('[updates]\nsystem = "rauc"\n')
    command = (sys.executable, "-m", "agent.process", "--state", str(tmp_path / "state"), "--config", str(config))
    environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": world.address}
    assert (world.folder / "starts.A").read_text() == str(STARTS - 1)
    agent = await asyncio.create_subprocess_exec(*command, env=environment)
    try:
        await called_good(world, "A")
    finally:
        agent.terminate()
        assert await agent.wait() == 0
