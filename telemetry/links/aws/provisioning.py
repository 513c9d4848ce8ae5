"""Fleet provisioning at AWS IoT Core: a claim lets a vehicle ask, once, for a certificate of a key that it made itself.

CreateCertificateFromCsr and RegisterThing, by the SDK's own client.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from awscrt import mqtt_request_response
from awsiot import iotidentity

from ecu.clock import Clock
from telemetry.links.aws.crt import CrtConnection, Peer, client_tls
from telemetry.links.aws.proof import Claim, Door, Greeting, SdkError, admitted
from telemetry.links.aws.services import done
from telemetry.links.link import Unreachable


@dataclass(frozen=True, slots=True)
class Provisioned:
    """The certificate and what the template called the thing."""

    certificate_pem: bytes
    thing: str


async def provision(
    door: Door, claim: Claim, template: str, serial: str, csr_pem: bytes, clock: Clock, timeout_s: float
) -> Provisioned:
    """Raises Unreachable, Untrusted, ClockUntrusted, Unauthorized, Throttled or Refused."""
    tls = client_tls(claim.key_pem, claim.certificate_pem, door)
    peer = Peer(door.host, door.port, f"claim-{serial}", tls)
    events = _Greeting()
    line = CrtConnection(peer, timeout_s, True, events)
    try:
        async with asyncio.timeout(timeout_s):
            line.start()
            await admitted(events.greeting, door, peer.client_id, claim, clock, timeout_s)
            return await _asked(line.live(), template, serial, csr_pem, timeout_s)
    except SdkError as error:
        raise Unreachable(f"The connection to {door.host} ended: {error}. Try again.") from error
    except TimeoutError as error:
        raise Unreachable(f"{door.host} took too long to answer. Check the network, and try again.") from error
    finally:
        await line.end()


async def _asked(client: Any, template: str, serial: str, csr_pem: bytes, timeout_s: float) -> Provisioned:
    options = mqtt_request_response.ClientOptions(4, 1, max(1, round(timeout_s)))
    identities = iotidentity.IotIdentityClientV2(client, options)
    request = iotidentity.CreateCertificateFromCsrRequest(certificate_signing_request=csr_pem.decode())
    issued = await done(identities.create_certificate_from_csr(request))
    registration = iotidentity.RegisterThingRequest(
        template_name=template,
        certificate_ownership_token=issued.certificate_ownership_token,
        parameters={"SerialNumber": serial},
    )
    registered = await done(identities.register_thing(registration))
    return Provisioned(issued.certificate_pem.encode(), registered.thing_name)


class _Greeting:
    """Events of which only the beginning matters (crt.Events)."""

    def __init__(self) -> None:
        self.greeting: Greeting = asyncio.get_running_loop().create_future()

    def connected(self, receive_maximum: int) -> None:
        if not self.greeting.done():
            self.greeting.set_result(None)

    def failed(self, code: int | None, words: str) -> None:
        if not self.greeting.done():
            self.greeting.set_result((code, words))

    def arrived(self, topic: str, payload: bytes) -> None: ...

    def lost(self, words: str) -> None:
        """The request under way fails by itself."""
