"""The demo's Azure: a receiver's settings, a vehicle's settings, and a network between that can fail."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from agent.azure import open_hub_link, read_registration_file, register
from agent.config import LinkSection
from ecu.clock import SystemClock
from ecu.toml import load_toml
from receiver.config import SECTION, ReceiverConfig
from receiver.service import running
from simulator.demo.clouds.azure import AzureCloud
from simulator.demo.settings import write_settings
from simulator.faults.net import FaultProxy
from telemetry.links.link import Unreachable
from telemetry.records import Lane
from telemetry.uplink.config import UplinkConfig
from tests.contracts.test_link import WITHOUT_AZURE
from tests.receiver.fleet import VEHICLE, a_vehicle, make_block

if WITHOUT_AZURE:
    pytest.skip(WITHOUT_AZURE, allow_module_level=True)


async def test_a_vehicle_goes_through_the_cloud_and_over_a_network_that_fails(tmp_path: Path) -> None:
    cloud, file = AzureCloud(tmp_path / "azure", Random()), tmp_path / "outrider.toml"
    await cloud.start()
    try:
        write_settings(file, {SECTION: {"mqtt_port": 0, "https_port": 0}, **cloud.receiver_sections})
        config = load_toml(file, ReceiverConfig, section=SECTION)
        host, port = cloud.door
        async with (
            running(config, tmp_path / "receiver") as receiver,
            FaultProxy(*cloud.target, host=host, port=port) as net,
        ):
            await cloud.join("localhost", receiver.address.https_port, receiver.authority.pem)
            car = await a_vehicle(receiver, tmp_path)
            registration = read_registration_file(cloud.registration(VEHICLE).read_bytes())
            await register(registration, car.paired, car.keys, car.disk, SystemClock())
            section = LinkSection.model_validate({**cloud.link_section, "timeout_s": 5.0})
            link = open_hub_link(section, UplinkConfig(), VEHICLE, car.keys, SystemClock(), car.disk)
            await link.connect()
            await link.publish(Lane.P1, make_block())
            net.cut()
            with pytest.raises(Unreachable):
                await anext(link.hints())
            with pytest.raises(Unreachable):
                await link.connect()
            net.restore()
            await link.connect()
            await link.publish(Lane.P1, make_block(3))
            await link.close()
            assert receiver.counters.blocks_stored == 2
    finally:
        await cloud.stop()
