"""A vehicle's place at Azure IoT Hub: registering with the certificate it has, and the whole vehicle going that way."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from random import Random

import msgspec
import pytest
from typer.testing import CliRunner

from agent.azure import Assigned, RegistrationFile, load_assigned, read_registration_file, register
from agent.cloud import CloudSide
from agent.config import LinkSection
from agent.links import Trust
from agent.paircli import app as pair_app
from agent.pairing import KEYS_FOLDER, pair
from ecu.clock import OffsetClock, SystemClock
from ecu.disk import RealDisk, state_folder
from ecu.errors import UsageFault
from ecu.keys import FileKeyStore
from simulator.clouds.hub import PORT, listen_anywhere
from telemetry.links.link import Refused, Unauthorized, Unreachable
from telemetry.uplink.config import UplinkConfig
from telemetry.uplink.memory import MemoryBacklog
from telemetry.uplink.status import UplinkState
from tests.agent.test_cloud import running
from tests.contracts.azureworld import AzureWorld, an_azure_world
from tests.contracts.test_link import WITHOUT_AZURE
from tests.receiver.fleet import VEHICLE, Vehicle, make_block, until

if WITHOUT_AZURE:
    pytest.skip(WITHOUT_AZURE, allow_module_level=True)

QUICK = UplinkConfig(backoff_base_s=0.02, backoff_cap_s=0.1, unauthorized_pause_s=30.0)


@pytest.fixture(autouse=True)
def _asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK asks what became of a registration after 2 s, whatever the service says of when. A vehicle that goes
    through the whole cloud waits for it: tests/simulator/clouds/test_azure_cloud.py."""
    monkeypatch.setattr("azure.iot.device.provisioning.pipeline.constant.DEFAULT_POLLING_INTERVAL", 0.0)


def file_for(world: AzureWorld, **changes: str) -> RegistrationFile:
    return read_registration_file(msgspec.json.encode(world.azure.registration_file(VEHICLE) | changes))


async def registered(world: AzureWorld, vehicle: Vehicle, timeout_s: float = 20.0, **changes: str) -> Assigned:
    file = file_for(world, **changes)
    return await register(file, vehicle.paired, vehicle.keys, vehicle.disk, vehicle.clock, timeout_s)


# --- registering -----------------------------------------------------------------------------------------------------


async def test_a_vehicle_registers_with_its_receivers_certificate_and_remembers_its_hub(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world:
        vehicle, hub = await world.vehicle(), world.azure.hub
        expected = Assigned(hub=hub.host, device=VEHICLE, ca=hub.ca_pem)
        for _ in range(2):  # again after a power cut
            assert await registered(world, vehicle) == expected
        assert load_assigned(vehicle.disk) == expected
        assert list(hub.devices) == [VEHICLE]


async def test_without_a_name_in_the_file_a_vehicle_registers_under_its_own(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world:
        assert (await registered(world, await world.vehicle(), registration="")).device == VEHICLE
        with pytest.raises(UsageFault, match="certificate says veh-001"):
            await registered(world, await world.vehicle(), registration="veh-002")


async def test_a_nonsensical_answer_of_the_service_is_given_up_in_time(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world:
        world.azure.hub.tells_registrations = False
        async with asyncio.timeout(10):
            with pytest.raises((Unreachable, Refused)):
                await registered(world, await world.vehicle(), timeout_s=1.0)
        world.azure.hub.tells_registrations = True
        assert await registered(world, await world.vehicle())


async def test_another_scope_or_authority_is_refused_in_words(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path / "ours") as ours, an_azure_world(tmp_path / "theirs") as theirs:
        with pytest.raises(Unauthorized, match="doesn't let this vehicle in"):
            await registered(ours, await ours.vehicle(), scope="0ne00OTHER")
        with pytest.raises(Unauthorized, match="refused this vehicle's certificate"):
            await registered(ours, await theirs.vehicle())


async def test_a_service_that_is_silent_or_not_there_is_unreachable_in_time(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world:
        vehicle = await world.vehicle()
        with contextlib.closing(listen_anywhere(PORT, Random(5))) as silent:
            host = silent.getsockname()[0]
            async with asyncio.timeout(5):
                with pytest.raises(Unreachable):
                    await registered(world, vehicle, timeout_s=0.3, dps=host)
        with pytest.raises(Unreachable, match="can't be reached"):
            await registered(world, vehicle, dps=host)


def test_a_file_that_is_none_is_refused_with_what_is_wrong() -> None:
    for data in (b"", b"{}", b'{"format":"outrider-pairing-1"}', b'{"format":"outrider-azure-1","scope":"s","x":1}'):
        with pytest.raises(UsageFault, match=r"docs/clouds\.md"):
            read_registration_file(data)


def test_without_a_registration_the_link_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="registered at no hub"):
        load_assigned(RealDisk(tmp_path))


async def test_pair_takes_a_registration_file_of_a_paired_vehicle(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world:
        state, file = tmp_path / "state", tmp_path / "azure.json"
        disk, keys = state_folder(state), FileKeyStore.open(state / KEYS_FOLDER)
        await asyncio.to_thread(pair, await world.receiver.operator.enrol(VEHICLE), keys, disk, SystemClock())
        del keys
        file.write_bytes(msgspec.json.encode(world.azure.registration_file(VEHICLE)))
        told = await asyncio.to_thread(CliRunner().invoke, pair_app, [str(file), "--state", str(state), "--json"])
        assert told.exception is None, told.output
        assert msgspec.json.decode(told.stdout) == {"vehicle": VEHICLE, "hub": world.azure.hub.host}
        assert load_assigned(disk).device == VEHICLE


# --- the whole vehicle -----------------------------------------------------------------------------------------------


async def test_a_vehicle_configured_for_azure_sends_everything_and_frees_only_what_is_stored(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world:
        vehicle, backlog = await world.vehicle(), MemoryBacklog()
        await registered(world, vehicle)
        trust = Trust(vehicle.paired, vehicle.keys, OffsetClock(SystemClock()), vehicle.disk)
        for n in range(20):
            backlog.add(make_block(3 * n))
        side = CloudSide(trust, backlog, SystemClock(), Random(7), LinkSection(kind="azure"), QUICK)
        async with running(side):
            await until(lambda: backlog.freed == 60)
            status = side.status()
            assert status.link == "azure"
            assert status.uplink is not None
            assert status.uplink.state is UplinkState.CONNECTED
            assert status.uplink.law6_held
        assert len(await world.stored()) == 20


async def test_in_accepted_mode_the_status_says_that_law_6_is_not_held(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world:
        vehicle, backlog = await world.vehicle(), MemoryBacklog()
        await registered(world, vehicle)
        trust = Trust(vehicle.paired, vehicle.keys, OffsetClock(SystemClock()), vehicle.disk)
        link, freely = LinkSection(kind="azure", acks="accepted"), QUICK.model_copy(update={"free_on_acceptance": True})
        with pytest.raises(UsageFault, match="free_on_acceptance"):
            CloudSide(trust, backlog, SystemClock(), Random(7), link, QUICK)
        side = CloudSide(trust, backlog, SystemClock(), Random(7), link, freely)
        backlog.add(make_block())
        with world.holding():
            async with running(side):
                await until(lambda: backlog.freed == 3)
                status = side.status().uplink
                assert status is not None
                assert not status.law6_held
