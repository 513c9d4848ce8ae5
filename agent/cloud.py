"""The vehicle's way to its receiver: link and uplink, its certificate renewed in time, its clock set by signed time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final, ParamSpec, TypeVar, assert_never

import structlog
from cryptography import x509

from agent import gnsstime
from agent.anchors import ClockAnchors
from agent.checkpoints import Contradicted, checkpoint
from agent.config import LinkSection
from agent.links import Trust, ends_at_receiver, open_link
from agent.objectlink import HttpsObjectLink
from agent.pairing import PairingRefused, fetch_time, prove, renew, tls_context
from agent.renewal import TIME_FLOOR_WALL_NS, Renewal, due
from agent.report import is_urgent
from agent.signals.messages import TimeHeard
from agent.status import CloudStatus
from agent.updatesource import ReceiverSource
from ecu.clock import SECOND_NS, Clock, SystemClock, boot_id
from ecu.disk import Disk, DiskError
from ecu.keys import KeyStoreError
from ecu.network import LinuxNetwork
from ota.trust import Roots
from telemetry.links.link import Hint, LinkError, Unreachable
from telemetry.links.statusreport import StatusReport, pack_status
from telemetry.objects import ObjectKeeper, ObjectsConfig
from telemetry.objects.uplink import ObjectUplink
from telemetry.records import Lane
from telemetry.uplink.backlog import Backlog
from telemetry.uplink.config import UplinkConfig
from telemetry.uplink.daybook import DayBook
from telemetry.uplink.meter import Meter
from telemetry.uplink.networks import NetworkConfig
from telemetry.uplink.status import UplinkState
from telemetry.uplink.uplink import Hooks, Uplink

RENEWAL_LOOK_NS: Final = 60 * SECOND_NS
RENEWAL_AGAIN_NS: Final = 3600 * SECOND_NS
CHECKPOINT_AFTER_NS: Final = 300 * SECOND_NS
CHECKPOINT_EVERY_NS: Final = 3600 * SECOND_NS
DAYBOOK_NAME: Final = "network"
REPORT_LOOK_NS: Final = SECOND_NS
REPORT_EVERY_NS: Final = 60 * SECOND_NS
"""For counts alone: a cloud takes money for each."""

log = structlog.get_logger()

P = ParamSpec("P")
T = TypeVar("T")


class TimeRefused(LinkError):
    """The receiver tells no time, or one that is older than this software and isn't believed."""


class CloudSide:
    """Runs the uplink of a paired vehicle. Everything it can't do is retried; its records wait on flash.
    `time_heard` gives what a GNSS receiver said last of the time."""

    def __init__(
        self,
        trust: Trust,
        backlog: Backlog,
        clock: Clock,
        rng: Random,
        link: LinkSection,
        uplink: UplinkConfig,
        on_hint: Callable[[], None] | None = None,
        report: Callable[[], StatusReport] | None = None,
        meter: Meter | None = None,
        anchors: ClockAnchors | None = None,
        time_heard: Callable[[], TimeHeard | None] = lambda: None,
    ) -> None:
        self._trust = trust
        self._anchors = anchors
        self._time_heard = time_heard
        self._holds_signed_time = False
        self._meter = meter or Meter(clock)
        self._clock = clock
        self._kind = link.kind
        self._report = report
        self._told: StatusReport | None = None
        self._hinted_until_ns = 0
        self._on_hint = on_hint
        self._rng = rng
        self._waits = uplink
        self._context = tls_context(trust.paired, trust.keys)
        self._link_tells = ends_at_receiver(link)
        self._link = open_link(link, uplink, trust, self._context)
        self._loaded = self._connecting_as = trust.keys.certificate()
        hooks = Hooks(
            clock_untrusted=self._set_clock,
            connecting=self._connecting,
            connected=self._connected,
            hint=self._hint,
        )
        self._uplink = Uplink(self._link, backlog, clock, rng, uplink, hooks, self._meter)
        self._objects: ObjectUplink | None = None

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._uplink.run())
            group.create_task(self._keep_certificate())
            group.create_task(self._keep_checkpoints())
            group.create_task(self._meter.watch(self._nudge))
            if self._report is not None:
                group.create_task(self._tell_status(self._report))

    async def last_call(self) -> None:
        """Once `run` has ended: P0 goes if it can within [uplink] last_call_s, and what went is written down."""
        await self._uplink.last_call(self._waits.last_call_s)
        await asyncio.to_thread(self._meter.close)

    @property
    def vehicle(self) -> str:
        return self._trust.paired.vehicle

    @property
    def roots(self) -> Roots | None:
        """Who may sign for this vehicle, as its pairing file said; None when it said nothing."""
        paired = self._trust.paired
        if not (paired.director_root and paired.image_root):
            return None
        return Roots(paired.director_root.encode(), paired.image_root.encode())

    def status(self) -> CloudStatus:
        paired = self._trust.paired
        return CloudStatus(
            paired_with=paired.host,
            vehicle=paired.vehicle,
            link=self._kind,
            certificate_ends_ns=_ends_ns(self._trust.keys.certificate()),
            uplink=self._uplink.status(),
        )

    def certificate_holds(self) -> bool:
        """Whether this vehicle's own certificate holds by its clock as it is now."""
        certificate = self._trust.keys.certificate()
        if certificate is None:
            return False
        from_ns, ends_ns = _validity_ns(certificate)
        return from_ns <= self._trust.wall.wall_ns() <= ends_ns

    def update_source(self) -> ReceiverSource:
        """The receiver's shelf, asked with the certificate that this vehicle has then."""
        paired = self._trust.paired
        return ReceiverSource(
            paired.host, paired.https_port, self._context, self._trust.wall, downloads=self._meter.downloads
        )

    async def until_releases_let(self) -> None:
        """Until what takes room may be fetched: over another network, or on another day."""
        await self._meter.until_releases_let()

    def object_uplink(self, keeper: ObjectKeeper, config: ObjectsConfig) -> ObjectUplink:
        """Brings what `keeper` holds to the receiver, by the same meter as the records."""
        paired, wall = self._trust.paired, self._trust.wall
        first, second = (HttpsObjectLink(paired.host, paired.https_port, self._context, wall) for _ in range(2))
        self._objects = ObjectUplink(
            first, keeper, self._clock, self._rng, config, self._waits, self._meter, second=second
        )  # fmt: skip
        return self._objects

    async def _set_clock(self) -> None:
        """Corrects the wall clock by the receiver's signed time; by a GNSS receiver's when that can't be had. Raises
        LinkError when neither can."""
        try:
            await self._set_by_receiver()
        except LinkError as failure:
            if not self._set_by_gnss(failure):
                raise
        self._nudge()

    async def _set_by_receiver(self) -> None:
        try:
            time = await self._asked(fetch_time, self._trust.paired, self._clock)
        except PairingRefused as refused:
            raise TimeRefused(f"The receiver tells no time: {refused}") from refused
        if time.wall_ns < TIME_FLOOR_WALL_NS:
            raise TimeRefused("The receiver's time lies before this software was made; it isn't believed.")
        wall_ns = time.wall_ns + time.within_ns // 2
        log.info("clock_set", by_ns=wall_ns - self._trust.wall.wall_ns(), within_ns=time.within_ns)
        self._trust.wall.correct(wall_ns)
        if self._anchors is not None:
            self._anchors.corrected(time.within_ns // 2)
        self._holds_signed_time = True

    def _set_by_gnss(self, failure: LinkError) -> bool:
        """Whether it was. Time that was signed in this life goes on by boot time, and isn't given up for it."""
        heard, wall = self._time_heard(), self._trust.wall
        if heard is None or self._holds_signed_time:
            return False
        now_ns, certificate = wall.boot_ns(), self._trust.keys.certificate()
        why = gnsstime.why_not(heard, now_ns, None if certificate is None else _validity_ns(certificate))
        if why:
            log.warning("gnss_time_unused", reason=why)
            return False
        wall_ns = gnsstime.at(heard, now_ns)
        log.warning("clock_set_by_gnss", by_ns=wall_ns - wall.wall_ns(), instead_of=str(failure))
        wall.correct(wall_ns)
        if self._anchors is not None:
            self._anchors.unproven()
        return True

    async def _asked(self, act: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """One question on a connection of its own, which costs no more than making it."""
        failure: LinkError | None = None
        try:
            return await asyncio.to_thread(act, *arguments, **named)
        except LinkError as error:
            failure = error
            raise
        finally:
            self._meter.attempted(failure)

    def _nudge(self) -> None:
        self._uplink.nudge()
        if self._objects is not None:
            self._objects.nudge()

    def _hint(self, hint: Hint) -> None:
        self._hinted_until_ns = self._trust.wall.boot_ns() + REPORT_EVERY_NS
        if self._on_hint is not None:
            self._on_hint()

    # --- what it reports ---------------------------------------------------------------------------

    async def _tell_status(self, report: Callable[[], StatusReport]) -> None:
        """At each connect, when somebody may wait for it, and otherwise when enough time has passed."""
        told_at_ns = self._trust.wall.boot_ns()
        while True:
            now_ns = self._trust.wall.boot_ns()
            await self._trust.wall.sleep_until(now_ns + REPORT_LOOK_NS)
            if not self._uplink.status().connected:
                continue
            news = report()
            is_due = news != self._told and now_ns >= told_at_ns + REPORT_EVERY_NS
            urgent = is_urgent(news, self._told, hinted=now_ns < self._hinted_until_ns)
            if (is_due or urgent) and self._meter.held(Lane.P0 if urgent else Lane.P2) is None:
                await self._tell(news)
                told_at_ns = now_ns

    async def _tell(self, news: StatusReport) -> None:
        packed = pack_status(news)
        self._meter.reported(len(packed))
        await self._meter.written()
        try:
            await self._link.report(packed)
        except LinkError as failure:
            # The uplink sees for itself whether the connection is over; the next report tells all of it anyway.
            log.warning("report_failed", reason=str(failure))
        self._told = news

    # --- the certificate --------------------------------------------------------------------------

    async def _keep_certificate(self) -> None:
        """Looks every minute, and an hour after the receiver or this computer said no: a refused fleet mustn't drum."""
        while True:
            pause_ns = RENEWAL_LOOK_NS
            try:
                renewal = self._due()
                await self._do(renewal)
                if renewal is Renewal.RENEW:
                    pause_ns = 0  # whether it is let in is asked at once
            except (LinkError, PairingRefused, KeyStoreError, DiskError) as failure:
                log.warning("renewal_failed", reason=str(failure))
                # Who is only out of reach is asked again soon: the next drive may be short.
                pause_ns = RENEWAL_LOOK_NS if isinstance(failure, Unreachable) else RENEWAL_AGAIN_NS
            await self._clock.sleep_until(self._clock.boot_ns() + pause_ns)

    async def _keep_checkpoints(self) -> None:
        """A few minutes after the start, and once an hour, each side signs where the other's audit stands."""
        pause_ns = CHECKPOINT_AFTER_NS
        while True:
            await self._clock.sleep_until(self._clock.boot_ns() + pause_ns)
            pause_ns = CHECKPOINT_EVERY_NS
            if self._uplink.status().state is not UplinkState.CONNECTED:
                continue
            trust = self._trust
            try:
                await self._asked(checkpoint, trust.paired, trust.keys, trust.wall, trust.disk)
            except (LinkError, PairingRefused, KeyStoreError, DiskError, Contradicted) as failure:
                log.warning("audit_not_countersigned", reason=str(failure))

    def _due(self) -> Renewal:
        """By the link's word where the receiver is its peer: a broker that doesn't let a vehicle in knows nothing of
        renewals, and may change its mind."""
        return self._settling(self._link_tells and self._uplink.status().state is UplinkState.UNAUTHORIZED)

    def _settling(self, refused: bool) -> Renewal:
        keys = self._trust.keys
        certificate, previous = keys.certificate(), keys.previous_certificate()
        return due(certificate, previous, refused, self._trust.wall.wall_ns(), link_tells=self._link_tells)

    async def _do(self, renewal: Renewal) -> None:
        """The pair of key and certificate that was in use stays until the receiver has let the new one in."""
        match renewal:
            case Renewal.NONE:
                return
            case Renewal.RENEW:
                await self._asked(renew, self._trust.paired, self._trust.keys, self._trust.wall)
            case Renewal.REVERT:
                self._trust.keys.revert()
            case Renewal.PROVE:
                await self._prove()
                return
            case _:
                assert_never(renewal)
        self._take_identity()
        await self._link.close()
        self._nudge()
        log.info("identity_changed", how=renewal.value)

    async def _prove(self) -> None:
        """Settles a renewal by the receiver's own answer."""
        try:
            await self._asked(prove, self._trust.paired, self._trust.keys, self._trust.wall)
        except PairingRefused:
            await self._do(self._settling(refused=True))
            raise
        self._trust.keys.retire_previous()

    def _take_identity(self) -> None:
        self._trust.keys.load_identity(self._context)
        self._loaded = self._trust.keys.certificate()

    def _connecting(self) -> None:
        self._connecting_as = self._loaded

    def _connected(self) -> None:
        """Only the identity that has connected to the receiver makes the one before it superfluous."""
        self._told = None
        self._meter.proven(self._trust.wall.wall_ns())  # certificates hold by it
        if self._anchors is not None:
            self._anchors.proven()
        if not self._link_tells or self._connecting_as != self._trust.keys.certificate():
            return
        try:
            self._trust.keys.retire_previous()
        except DiskError as failure:
            log.warning("previous_identity_kept", reason=str(failure))


def _ends_ns(certificate_pem: bytes | None) -> int | None:
    return None if certificate_pem is None else _validity_ns(certificate_pem)[1]


def _validity_ns(certificate_pem: bytes) -> tuple[int, int]:
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return int(begins.timestamp()) * SECOND_NS, int(ends.timestamp()) * SECOND_NS


def never_paired(link: LinkSection) -> CloudStatus:
    """The status of a vehicle with nobody to send to."""
    return CloudStatus(None, None, link.kind, None, None)


def open_meter(config: NetworkConfig, disk: Disk) -> Meter:
    """What goes and comes, metered by the computer's own network and time, whatever time a drive lives in."""
    clock = SystemClock()
    return Meter(clock, config, open_network(config), DayBook.open(disk, DAYBOOK_NAME, clock, boot_id()))


def open_network(config: NetworkConfig) -> LinuxNetwork:
    """Says which network the computer is on."""
    return LinuxNetwork(config.kinds(), Path(config.roaming_file) if config.roaming_file else None)
