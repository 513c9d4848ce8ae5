"""The link contract's world behind AWS IoT Core: a real receiver, reached through mosquitto and AWS's double."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

from ecu.clock import SteppingClock, SystemClock
from ecu.disk import RealDisk
from receiver.pki import CA_FILE
from receiver.service import Receiver
from simulator.clouds.aws import CLAIM, CLAIM_RULES, SERVICES, SERVICES_RULES, AwsDouble, running_aws
from simulator.clouds.awsprovisioning import Provisioning
from simulator.clouds.mosquitto import HOST, Mosquitto
from telemetry.links.aws import AwsLink
from telemetry.links.link import Link
from tests.contracts.brokerworld import BrokerWorld, a_broker
from tests.receiver.fleet import VEHICLE, a_receiver

TEMPLATE = "outrider-vehicles"


class AwsWorld(BrokerWorld):
    def __init__(
        self, aws: AwsDouble, broker: Mosquitto, receiver: Receiver, folder: Path, clock: SteppingClock | None
    ) -> None:
        super().__init__(broker, receiver, folder, clock)
        self.aws = aws
        self._asked = itertools.count(1)

    async def link(self, vehicle: str = VEHICLE, **settings: object) -> Link:
        paired = await self.vehicle(vehicle)
        given: dict[str, object] = {
            "host": HOST,
            "port": self.broker.port,
            "thing": vehicle,
            "keys": paired.keys,
            "clock": paired.clock,
            "ca_pem": self.receiver.authority.pem,
        }
        return AwsLink(**(given | settings))  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def an_aws_world(folder: Path, clock: SteppingClock | None = None, **settings: object) -> AsyncIterator[AwsWorld]:
    rules = {SERVICES: SERVICES_RULES, CLAIM: CLAIM_RULES}
    async with a_broker(folder, rules) as broker:
        settings |= {"broker": broker.url}
        async with a_receiver(folder, clock, **settings) as receiver:
            assert receiver.behind is not None
            await receiver.behind.ready.wait()
            authority = receiver.authority
            provisioning = Provisioning(RealDisk(folder / "receiver").read(CA_FILE), frozenset({TEMPLATE}))
            context = authority.client_context(SERVICES, authority.pem)
            async with running_aws(HOST, broker.port, context, provisioning, SystemClock()) as aws:
                yield AwsWorld(aws, broker, receiver, folder, clock)
