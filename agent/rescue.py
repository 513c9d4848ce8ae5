"""Rescue mode: the agent without all that could take it down, so that an update can still come in.

It knows its receiver, keeps its certificate, and looks for signed releases. No perception, no signals, no spool: what
fails there may be why it runs. It imports nothing of them, and reads of the configuration the two lines that it needs.
The launcher starts it (docs/launcher.md), a person by `outrider agent run --rescue`, and a runtime below what its fleet
still allows to run goes on as this. It lasts until a start without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import platform
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final, assert_never

import structlog

from agent.api import LocalApi
from agent.folders import SOCKET_NAME, UPDATES_FOLDER
from agent.launcherslot import slot_in
from agent.pairing import (
    KEYS_FOLDER,
    NotPaired,
    Paired,
    PairingRefused,
    fetch_time,
    load_paired,
    prove,
    renew,
    tls_context,
)
from agent.renewal import TIME_FLOOR_WALL_NS, Renewal, due
from agent.systemgood import open_standing
from agent.updatesource import ReceiverSource
from ecu.clock import OffsetClock, SystemClock, boot_id
from ecu.disk import DiskError, state_folder
from ecu.errors import OutriderError, shown
from ecu.keys import FileKeyStore, KeyStoreError
from ecu.process import forbid_core_dumps, notify
from ota.errors import FetchError, OtaError
from ota.kinds import Kind
from ota.machine import Event, State
from ota.slots import Slot
from ota.source import Source
from ota.trust import Offer, Roots, Vehicle
from ota.updates import Notice, Updates, UpdateStatus
from telemetry.links.link import ClockUntrusted, LinkError

VARIABLE: Final = "OUTRIDER_RESCUE"
"""Why, by the launcher's word; empty or missing where there is nothing to rescue."""
_NOT_TRIED_HERE: Final = (Kind.MODEL, Kind.STATE, Kind.CONFIG, Kind.SYSTEM)
"""Kinds that are tried on frames, of which there are none, or by asking the bootloader."""
_MOST_POLL_S: Final = 300.0
_TELL_S: Final = 1.0

log = structlog.get_logger()


class UpdatesOnly(OutriderError):
    """The runtime that is good may not run any more, but to be replaced. The message is why."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Of [updates], as in agent/config.py."""

    enabled: bool = True
    hardware: str = ""
    poll_s: float = _MOST_POLL_S
    system: str = ""


@dataclass(frozen=True, slots=True)
class RescueStatus:
    """The answer of `GET /status` in rescue mode. `rescue` is why; `trouble` why the last look came to nothing."""

    rescue: str
    version: str
    pid: int
    slot: str
    paired_with: str | None
    vehicle: str | None
    updates: tuple[UpdateStatus, ...]
    looks: int
    trouble: str


def settings_in(config: Path | None) -> Settings:
    """What can be read of it: a configuration that stops the agent must not stop its rescue."""
    found: Any = {}
    if config is not None:
        with contextlib.suppress(OSError, ValueError):
            found = tomllib.loads(config.read_text("utf-8")).get("updates", {})
    found = found if isinstance(found, dict) else {}
    enabled, hardware, poll_s = found.get("enabled"), found.get("hardware"), found.get("poll_s")
    system = found.get("system")
    return Settings(
        enabled=enabled if isinstance(enabled, bool) else True,
        hardware=hardware if isinstance(hardware, str) else "",
        poll_s=min(_MOST_POLL_S, poll_s) if isinstance(poll_s, (int, float)) and poll_s > 0 else _MOST_POLL_S,
        system="rauc" if system == "rauc" else "",
    )


class Rescue:
    """`state` is made when missing; `is_armed` says of updates that a start would try a release; `wall` is corrected
    where the receiver's signed time says otherwise."""

    def __init__(
        self,
        state: Path,
        settings: Settings,
        why: str,
        environment: Mapping[str, str],
        is_armed: Callable[[Updates], bool],
        wall: OffsetClock,
    ) -> None:
        self._why = shown(why)
        self._settings = settings
        self._environment = environment
        self._is_armed = is_armed
        self._rng = Random(os.urandom(16))
        self._disk = state_folder(state)
        self._folder = state / UPDATES_FOLDER
        self._running = slot_in(environment, self._folder)
        self._keys = FileKeyStore.open(state / KEYS_FOLDER)
        self._wall = wall
        self._api = LocalApi(state / SOCKET_NAME, self.status)
        self._paired: Paired | None = None
        self._updates: Updates | None = None
        self._source: ReceiverSource | None = None
        self._is_below = False
        self._looks = 0
        self._trouble = ""

    async def run(self, stop: asyncio.Event) -> bool:
        """Until `stop` is set; or a release is armed, or what may run came again: then True, and a start goes on."""
        forbid_core_dumps()
        await self._api.start()
        standing = self._open_standing()
        try:
            notify("READY=1", self._environment)
            log.error("rescue_mode", reason=self._why)
            return await self._look_until(stop)
        finally:
            if standing is not None:
                standing.cancel()
            if self._source is not None:
                self._source.close()
            await self._api.stop()

    def status(self) -> RescueStatus:
        return RescueStatus(
            rescue=self._why,
            version=_version(),
            pid=os.getpid(),
            slot=self._running or "",
            paired_with=self._paired.host if self._paired is not None else None,
            vehicle=self._paired.vehicle if self._paired is not None else None,
            updates=self._updates.status() if self._updates is not None else (),
            looks=self._looks,
            trouble=self._trouble,
        )

    # --- life -------------------------------------------------------------------------------------

    def _open_standing(self) -> asyncio.Task[None] | None:
        """The system under a runtime that needs rescue may be as good as ever."""
        try:
            standing = open_standing(self._settings.system, self._folder.parent, SystemClock(), boot_id())
        except (OutriderError, OtaError) as trouble:
            self._told(trouble)
            return None
        return asyncio.create_task(standing.call_good()) if standing is not None else None

    async def _look_until(self, stop: asyncio.Event) -> bool:
        """Looks in a thread, and feeds who watches: each read there ends by itself."""
        stopped = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                await self._fed(asyncio.create_task(asyncio.to_thread(self._look)), stopped)
                if over := self._why_over():
                    log.info("rescue_over", reason=over)
                    return True
                # Not all at once: a fleet that crashed together must not return together.
                pause_s = self._rng.uniform(self._settings.poll_s / 2, self._settings.poll_s)
                await self._fed(asyncio.create_task(asyncio.sleep(pause_s)), stopped)
        finally:
            stopped.cancel()
        return False

    def _why_over(self) -> str:
        """Empty while another start would change nothing."""
        if self._updates is None:
            return ""
        if self._is_armed(self._updates):
            return "a release is armed; the next start tries it"
        return "what may run is there again" if self._is_below and not self._updates.below_bootable() else ""

    async def _fed(self, act: asyncio.Task[None], stopped: asyncio.Task[Any]) -> None:
        """Returns when `act` is done or it is stopped. Raises what `act` raises, a bug."""
        while not act.done() and not stopped.done():
            notify("WATCHDOG=1", self._environment)
            await asyncio.wait((act, stopped), timeout=_TELL_S, return_when=asyncio.FIRST_COMPLETED)
        if act.done():
            act.result()
        elif self._source is not None:
            self._source.close()  # a read that waits for the network must not hold up the ignition
        act.cancel()

    # --- one look, in a thread --------------------------------------------------------------------

    def _look(self) -> None:
        self._trouble = ""
        try:
            source = self._opened()
            if source is not None and self._updates is not None:
                self._keep_certificate()
                self._take(self._updates, source)
        except (OutriderError, OtaError, LinkError) as trouble:
            self._told(trouble)
        self._looks += 1

    def _opened(self) -> ReceiverSource | None:
        """The receiver's shelf, once this vehicle is paired; None where nobody may sign for it. Raises NotPaired."""
        if self._source is not None:
            return self._source
        paired = load_paired(self._disk)
        if self._keys.certificate() is None:
            raise NotPaired("The pairing was cut short. Run: outrider pair FILE, once more.")
        self._paired = paired
        if not (paired.director_root and paired.image_root and self._settings.enabled):
            return None
        self._updates = self._begun(paired)
        self._context = tls_context(paired, self._keys)
        self._source = ReceiverSource(paired.host, paired.https_port, self._context, self._wall)
        return self._source

    def _begun(self, paired: Paired) -> Updates:
        roots = Roots(paired.director_root.encode(), paired.image_root.encode())
        vehicle = Vehicle(paired.vehicle, self._settings.hardware or platform.machine())
        updates = Updates(state_folder(self._folder), roots, vehicle, self._wall, _tell)
        for kind, (_, step) in updates.begin(self._running or Slot.FACTORY).items():
            if kind in _NOT_TRIED_HERE and step is not None:
                updates.give_up(kind, f"rescue mode tries no {kind}")
        if self._running is not None:
            updates.keep_running(f"slot {self._running} runs, since what was good can't: {self._why}")
        self._arm(updates)
        self._is_below = bool(updates.below_bootable())
        updates.audit().note("rescue_mode", self._why)
        return updates

    def _take(self, updates: Updates, source: Source) -> None:
        """What is wrong with one release keeps no other from its place. Raises for what is wrong with all."""
        for offer in self._offers(updates, source):
            if self._is_taken(updates, offer):
                try:
                    updates.install(source, offer, lambda progress: None)
                    self._arm(updates)
                except (OtaError, DiskError) as trouble:
                    self._told(trouble)

    def _is_taken(self, updates: Updates, offer: Offer) -> bool:
        if offer.kind in _NOT_TRIED_HERE:
            return updates.comes_again(offer)
        return offer.kind is not Kind.RUNTIME or self._running is not None

    def _arm(self, updates: Updates) -> None:
        """A runtime that waits to be started waits for nothing here: there is no drive to be disturbed."""
        if self._running is not None and updates.slots(Kind.RUNTIME).record.state is State.STAGED:
            updates.handle(Kind.RUNTIME, Event.ALLOWED, "rescue mode disturbs no drive")

    def _offers(self, updates: Updates, source: Source) -> tuple[Offer, ...]:
        try:
            return updates.check(source)
        except FetchError as away:
            if not _is_clock_wrong(away):
                raise
            self._set_clock()
            return updates.check(source)

    def _set_clock(self) -> None:
        """By the receiver's signed time. Raises LinkError, PairingRefused."""
        assert self._paired is not None
        time = fetch_time(self._paired, self._wall)
        if time.wall_ns >= TIME_FLOOR_WALL_NS:
            self._wall.correct(time.wall_ns + time.within_ns // 2)

    def _keep_certificate(self) -> None:
        """Who is turned away can't be updated. What can't be done now is tried at the next look."""
        assert self._paired is not None
        keys = self._keys
        try:
            match due(keys.certificate(), keys.previous_certificate(), False, self._wall.wall_ns(), link_tells=False):
                case Renewal.NONE:
                    return
                case Renewal.RENEW:
                    renew(self._paired, keys, self._wall)
                    self._prove(self._paired)
                case Renewal.PROVE:
                    self._prove(self._paired)
                case Renewal.REVERT:
                    keys.revert()
                case never:
                    assert_never(never)
            keys.load_identity(self._context)
        except (LinkError, PairingRefused, KeyStoreError, DiskError) as trouble:
            log.warning("renewal_failed", reason=str(trouble))

    def _prove(self, paired: Paired) -> None:
        try:
            prove(paired, self._keys, self._wall)
        except PairingRefused:
            self._keys.revert()
            raise
        self._keys.retire_previous()

    def _told(self, trouble: Exception) -> None:
        log.warning("rescue_hindered", reason=str(trouble))
        self._trouble = self._trouble or str(trouble)


def _is_clock_wrong(error: BaseException) -> bool:
    """Whether that is among its reasons, however deep; these may lead back to each other."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if isinstance(one, ClockUntrusted):
            return True
        seen.add(id(one))
        waiting += [its for its in (one.__cause__, one.__context__) if its is not None and id(its) not in seen]
    return False


def _tell(notice: Notice) -> None:
    title = notice.release.title if notice.release is not None else ""
    log.info("update", what=notice.what, title=title, words=notice.words)


def _version() -> str:
    try:
        return importlib.metadata.version("outrider")
    except importlib.metadata.PackageNotFoundError:
        return ""


def is_runtime_armed(updates: Updates) -> bool:
    """Whether the launcher's next start tries a runtime."""
    return updates.slots(Kind.RUNTIME).record.state is State.ARMED
