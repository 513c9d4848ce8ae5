"""The vehicle's way to its receiver: link and uplink, its certificate renewed in time, its clock set by signed time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Final

import structlog
from cryptography import x509

from agent.config import LinkSection
from agent.pairing import Paired, PairingRefused, fetch_time, renew, renewal_is_due, tls_context
from agent.status import CloudStatus
from ecu.clock import SECOND_NS, Clock, OffsetClock
from ecu.keys import KeyStore, RenewalUnfinished
from telemetry.links.link import LinkError
from telemetry.links.mqtt import MqttLink
from telemetry.uplink.backlog import Backlog
from telemetry.uplink.config import UplinkConfig
from telemetry.uplink.uplink import Hooks, Uplink

RENEWAL_LOOK_NS: Final = 60 * SECOND_NS
TIME_FLOOR_WALL_NS: Final = 1_767_225_600 * SECOND_NS  # 2026-01-01: this software is no older

log = structlog.get_logger()


class TimeRefused(LinkError):
    """The receiver's time is older than this software: it isn't believed."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Who we are, whom we believe, and the wall clock that both of us correct."""

    paired: Paired
    keys: KeyStore
    wall: OffsetClock


class CloudSide:
    """Runs the uplink of a paired vehicle. Everything it can't do is retried; its records wait on flash."""

    def __init__(
        self,
        trust: Trust,
        backlog: Backlog,
        clock: Clock,
        rng: Random,
        link: LinkSection,
        uplink: UplinkConfig,
    ) -> None:
        self._trust = trust
        self._clock = clock
        self._kind = link.kind
        self._context = tls_context(trust.paired, trust.keys)
        self._mqtt = MqttLink(
            link.host or trust.paired.host,
            link.port or trust.paired.mqtt_port,
            trust.paired.vehicle,
            self._context,
            trust.wall,
            timeout_s=link.timeout_s,
            in_flight=uplink.window,
        )
        hooks = Hooks(clock_untrusted=self._set_clock, connected=self._connected)
        self._uplink = Uplink(self._mqtt, backlog, clock, rng, uplink, hooks)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._uplink.run())
            group.create_task(self._keep_certificate())

    def status(self) -> CloudStatus:
        paired = self._trust.paired
        return CloudStatus(
            paired_with=paired.host,
            vehicle=paired.vehicle,
            link=self._kind,
            certificate_ends_ns=_ends_ns(self._trust.keys.certificate()),
            uplink=self._uplink.status(),
        )

    async def _set_clock(self) -> None:
        """Corrects the wall clock by the receiver's signed time. Raises LinkError when it can't be had."""
        time = await asyncio.to_thread(fetch_time, self._trust.paired, self._clock)
        if time.wall_ns < TIME_FLOOR_WALL_NS:
            raise TimeRefused("The receiver's time lies before this software was made; it isn't believed.")
        error_ns = time.wall_ns + time.within_ns // 2 - self._trust.wall.wall_ns()
        self._trust.wall.offset_ns += error_ns
        log.info("clock_set", by_ns=error_ns, within_ns=time.within_ns)
        self._uplink.nudge()

    async def _keep_certificate(self) -> None:
        while True:
            certificate = self._trust.keys.certificate()
            trusted = self._trust.wall.wall_ns() >= TIME_FLOOR_WALL_NS
            if certificate is not None and trusted and renewal_is_due(certificate, self._trust.wall.wall_ns()):
                await self._renew()
            await self._clock.sleep_until(self._clock.boot_ns() + RENEWAL_LOOK_NS)

    async def _renew(self) -> None:
        """A new key and certificate, used at once; the pair before it stays until this one has connected."""
        try:
            await asyncio.to_thread(renew, self._trust.paired, self._trust.keys, self._trust.wall)
        except RenewalUnfinished:
            # The last one never connected: what worked before is used again, and renewed at the next look.
            self._trust.keys.revert()
        except (LinkError, PairingRefused) as refusal:
            log.warning("renewal_failed", reason=str(refusal))
            return
        self._trust.keys.load_identity(self._context)
        await self._mqtt.close()
        log.info("identity_changed")

    def _connected(self) -> None:
        self._trust.keys.retire_previous()


def _ends_ns(certificate_pem: bytes | None) -> int | None:
    if certificate_pem is None:
        return None
    ends = x509.load_pem_x509_certificate(certificate_pem).not_valid_after_utc
    return int(ends.timestamp()) * SECOND_NS


def never_paired(link: LinkSection) -> CloudStatus:
    """The status of a vehicle with nobody to send to."""
    return CloudStatus(None, None, link.kind, None, None)
