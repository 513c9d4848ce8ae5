"""Which link a vehicle has, by its configuration. A cloud's SDK is loaded here, and only when it is configured."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import assert_never

from agent.azure import open_hub_link
from agent.config import LinkSection
from agent.pairing import Paired
from ecu.clock import OffsetClock
from ecu.disk import Disk
from ecu.errors import UsageFault
from ecu.keys import KeyStore
from telemetry.links.link import Link
from telemetry.links.mqtt import MqttLink
from telemetry.uplink.config import UplinkConfig


@dataclass(frozen=True, slots=True)
class Trust:
    """Who we are, whom we believe, and the wall clock that both of us correct."""

    paired: Paired
    keys: KeyStore
    wall: OffsetClock
    disk: Disk  # the vehicle's state


def open_link(link: LinkSection, uplink: UplinkConfig, trust: Trust, context: ssl.SSLContext) -> Link:
    """Not connected yet. `context` proves the vehicle to its receiver. Raises UsageFault for what can't be had."""
    match link.kind:
        case "mqtt":
            return _mqtt(link, uplink, trust, context)
        case "aws":
            raise UsageFault('[link] kind = "aws" isn\'t in this version.')
        case "azure":
            return open_hub_link(link, uplink, trust.paired.vehicle, trust.keys, trust.wall, trust.disk)
        case "none":
            raise UsageFault('[link] kind = "none" is no link.')
        case _:
            assert_never(link.kind)


def _mqtt(link: LinkSection, uplink: UplinkConfig, trust: Trust, context: ssl.SSLContext) -> Link:
    return MqttLink(
        link.host or trust.paired.host,
        link.port or trust.paired.mqtt_port,
        trust.paired.vehicle,
        context,
        trust.wall,
        timeout_s=link.timeout_s,
        in_flight=uplink.window,
    )
