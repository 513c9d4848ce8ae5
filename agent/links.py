"""Which link a vehicle has, by its configuration. A cloud's SDK is loaded here, and only when it is configured."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Final, assert_never

from agent.aws import open_aws_link
from agent.azure import open_hub_link
from agent.config import LinkSection, read_ca
from agent.pairing import Paired
from ecu.clock import OffsetClock
from ecu.disk import RealDisk
from ecu.errors import UsageFault
from ecu.keys import KeyStore
from telemetry.links.link import Acks, Link
from telemetry.links.mqtt import MqttLink
from telemetry.links.tls import broker_context
from telemetry.uplink.config import UplinkConfig

BROKER_PORT: Final = 8883


@dataclass(frozen=True, slots=True)
class Trust:
    """Who we are, whom we believe, and the wall clock that both of us correct."""

    paired: Paired
    keys: KeyStore
    wall: OffsetClock
    disk: RealDisk  # the vehicle's state


def open_link(link: LinkSection, uplink: UplinkConfig, trust: Trust, context: ssl.SSLContext) -> Link:
    """Not connected yet. `context` proves the vehicle to its receiver. Raises UsageFault for what can't be had."""
    match link.kind:
        case "mqtt":
            return _mqtt(link, uplink, trust, context)
        case "aws":
            return open_aws_link(link, uplink, trust.paired.vehicle, trust.keys, trust.wall, trust.disk)
        case "azure":
            return open_hub_link(link, uplink, trust.paired.vehicle, trust.keys, trust.wall, trust.disk)
        case "none":
            raise UsageFault('[link] kind = "none" is no link.')
        case _:
            assert_never(link.kind)


def ends_at_receiver(link: LinkSection) -> bool:
    """Whether what the peer says of this vehicle's certificate is the receiver's own word, not a broker's."""
    return link.kind == "mqtt" and not link.broker


def _mqtt(link: LinkSection, uplink: UplinkConfig, trust: Trust, context: ssl.SSLContext) -> Link:
    """To the receiver itself, or to a broker. `context` is kept up to date by its owner."""
    if not link.broker:
        if link.acks == "accepted":
            raise UsageFault(
                '[link] acks = "accepted" is for a broker or a cloud: the receiver itself says what is stored. '
                "Set [link] broker = true, or leave acks out."
            )
        host = link.host or trust.paired.host
    else:
        if not link.host:
            raise UsageFault("[link] broker = true needs a [link] host: the broker's.")
        host = link.host
    ca_pem = read_ca(link.ca_file) if link.ca_file else ""
    return MqttLink(
        host,
        link.port or (BROKER_PORT if link.broker else trust.paired.mqtt_port),
        trust.paired.vehicle,
        Trusting(ca_pem, trust.keys) if ca_pem else context,
        trust.wall,
        timeout_s=link.timeout_s,
        in_flight=uplink.window,
        broker=link.broker,
        acks=Acks(link.acks),
    )


class Trusting:
    """TLS to a broker of another authority than the receiver's, by the identity that is in use when it is called; made
    once for each: a vehicle without a network calls again and again, and it takes 2 ms of the event loop."""

    def __init__(self, ca_pem: str, keys: KeyStore) -> None:
        self._ca_pem = ca_pem
        self._keys = keys
        self._made: tuple[bytes | None, ssl.SSLContext] | None = None

    def __call__(self) -> ssl.SSLContext:
        certificate = self._keys.certificate()
        if self._made is None or self._made[0] != certificate:
            context = broker_context(self._ca_pem)
            self._keys.load_identity(context)
            self._made = certificate, context
        return self._made[1]
