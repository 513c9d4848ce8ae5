"""The demo over AWS IoT Core: mosquitto and a double of AWS's services, wired as docs/clouds.md wires the real ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from agent.aws import FORMAT, demand_sdk
from ecu.clock import SystemClock
from ecu.disk import RealDisk
from receiver.pki import CA_FILE
from simulator.clouds.aws import CLAIM, CLAIM_RULES, SERVICES, SERVICES_RULES, AwsDouble, running_aws
from simulator.clouds.awsprovisioning import Provisioning
from simulator.clouds.mosquitto import HOST
from simulator.demo.clouds.broker import BrokerCloud

TEMPLATE = "outrider-vehicles"


class AwsCloud(BrokerCloud):
    """Each vehicle is provisioned there by a claim; the certificate that it connects with is then AWS's own."""

    rules: Mapping[str, str] = {SERVICES: SERVICES_RULES, CLAIM: CLAIM_RULES}
    aws: AwsDouble

    async def start(self) -> None:
        """Raises UsageFault where the SDK isn't installed, EnvironmentFault where mosquitto isn't."""
        demand_sdk()
        await super().start()

    async def run_broker(self, authority_pem: str) -> None:
        await super().run_broker(authority_pem)
        issuer = RealDisk(self.folder / "broker-authority").read(CA_FILE)
        context = self.authority.client_context(SERVICES, self.authority.pem)
        provisioning = Provisioning(issuer, frozenset({TEMPLATE}))
        double = running_aws(HOST, self.port, context, provisioning, SystemClock())
        self.aws = await self.exits.enter_async_context(double)

    @property
    def link_section(self) -> Mapping[str, Any]:
        return {"kind": "aws"}

    def registration(self, vehicle: str) -> Path | None:
        key, certificate = self.aws.claim()
        file = self.folder / f"{vehicle}.claim.json"
        file.touch(mode=0o600)
        claim = {
            "format": FORMAT, "endpoint": HOST, "port": self.port, "template": TEMPLATE,
            "claim_certificate": certificate, "claim_key": key, "ca": self.authority.pem,
        }  # fmt: skip
        file.write_bytes(msgspec.json.encode(claim))
        return file
