"""A system, installed into the computer's spare slot while the vehicle is at rest, tried by the bootloader's next
start, and called good once it has shown that it works.

The bootloader is right about what runs: it is asked at each start, and again before it is told anything. What it is
told comes after our record of why, but for "good", which comes before the release is kept: a power cut between the two
lets the trial go on, and never leaves a kept system that the bootloader may still give up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from agent.updates.conduct import TICK_NS, Attempt, Ground
from agent.updates.proof import Proof, Surroundings
from ecu.clock import SECOND_NS
from ecu.disk import DiskError
from ota.errors import Attack, TrustError
from ota.kinds import Kind
from ota.machine import ATTEMPTS, RESTS, Effect, Event, State
from ota.system.placed import Placements
from ota.system.port import InstallerAway, InstallFailed, Marking, Reading, SystemInstaller
from ota.system.reconcile import (
    Finding,
    Found,
    Known,
    known_of,
    may_be_called_good,
    reconcile,
    way_back,
    where_trial_lies,
)

AGAIN_AFTER_NS: Final = 60 * SECOND_NS
"""Between an installation that couldn't be done and the next try."""
INSTALLED_WITHIN_NS: Final = 3600 * SECOND_NS
ASK_AGAIN_NS: Final = 10 * SECOND_NS
SUFFIX: Final = ".raucb"

log = structlog.get_logger()

Reboot = Callable[[], Awaitable[None]]
ServiceStates = Mapping[str, str]
"""systemd's word for how each of them is: "active", "failed", ..."""


class Services(Protocol):
    """What of a system has to run, beside the agent."""

    async def states(self) -> ServiceStates:
        """Raises InstallerAway."""
        ...


class NoServices:
    """Nothing beside the agent is asked for."""

    async def states(self) -> ServiceStates:
        return {}


class Booted:
    """Of the system. `reboot` restarts the computer; None where that is for the next ignition. `boot_id` is of this
    boot."""

    def __init__(
        self,
        installer: SystemInstaller,
        placements: Placements,
        surroundings: Surroundings,
        boot_id: str,
        reboot: Reboot | None = None,
        services: Services | None = None,
    ) -> None:
        self._installer = installer
        self._placements = placements
        self._surroundings = surroundings
        self._boot_id = boot_id
        self._reboot = reboot
        self._services = services or NoServices()
        self._proof = Proof(surroundings)
        self._attempt: Attempt | None = None
        self._found: Finding | None = None
        self._state = State.STAGED
        self._telling = asyncio.Lock()
        self._writes = False
        self._calls_good = False
        self._was_asked_to_reboot = False
        self._not_before_ns = 0

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return (Kind.SYSTEM,)

    async def start(self, ground: Ground) -> None:
        """Asks what runs, for as long as nobody answers; until then nothing is installed."""
        while self._found is None:
            try:
                async with self._telling:
                    self._found = await self._reconciled(ground)
            except (InstallerAway, InstallFailed) as trouble:
                log.warning("bootloader_not_asked", reason=str(trouble))
                await ground.clock.sleep_until(ground.clock.boot_ns() + ASK_AGAIN_NS)
        await self._follow(ground, self._found)

    async def act(self, ground: Ground, kind: Kind, effect: Effect) -> None:
        # Once what came of the last installation has been told and taken, the next may begin.
        self._writes = effect is Effect.INSTALL
        match effect:
            case Effect.AWAIT_REST | Effect.WATCH:
                self._attempt = ground.begin(kind)
                self._proof.begin()
                if effect is Effect.WATCH:
                    ground.spawn(self._watch_services(ground, self._attempt))
            case Effect.INSTALL:
                # Nobody can be told to stop writing: from here on it can't be cancelled.
                ground.over()
                self._attempt = None
                ground.spawn(self._install(ground))
            case Effect.SWITCH_BACK:
                ground.over()
                await self._switch_back(ground)
            case Effect.RESTART if ground.record(kind).state is State.ARMED:
                ground.spawn(self._begin_trial(ground))
            case Effect.RESTART:
                await self._leave(ground)
            case _:
                raise AssertionError(f"{effect} is nothing for what is booted")

    def has_time_passed(self) -> bool:
        """What waits for the next ignition waits for a person. A new system that can't find the way to updates isn't
        to blame while there is no network."""
        if self._state is State.ARMED:
            return self._was_asked_to_reboot
        return self._state is not State.TRIAL or self._surroundings.has_network()

    def seen(self, ground: Ground, state: State) -> tuple[Event, str] | None:
        self._state = state
        if self._found is None:
            return None
        if state is State.STAGED:
            return self._beginning(ground)
        proof = self._proof.given(ground) if state is State.TRIAL else ""
        if proof and not self._calls_good and self._attempt is not None:
            self._calls_good = True
            ground.spawn(self._call_good(ground, self._attempt, proof))
        return None

    # --- at a start -------------------------------------------------------------------------------

    async def _reconciled(self, ground: Ground) -> Finding:
        reading = await self._installer.read()
        finding = reconcile(self._known(ground), reading, self._boot_id)
        log.info("system_found", found=finding.found.value, words=finding.words)
        await self._mark(finding.marks)
        return finding

    async def _follow(self, ground: Ground, finding: Finding) -> None:
        state = ground.record(Kind.SYSTEM).state
        if finding.event is not None:
            self._tell(finding.event, finding.words)
        elif finding.found is Found.WAITS and state is State.ARMED:
            await self._begin_trial(ground)
        elif finding.found is Found.OLDER and state in RESTS:
            await ground.fell_back(Kind.SYSTEM, finding.lies, finding.words)
        elif finding.found in (Found.FOREIGN, Found.UNASKED, Found.OLDER):
            await ground.tell(Kind.SYSTEM, finding.found, finding.words)
        if finding.restart:
            await self._reboot_at_rest(ground)
        elif finding.found in (Found.FOREIGN, Found.UNASKED):
            await self._keep_alive(ground)

    async def _keep_alive(self, ground: Ground) -> None:
        """What runs isn't ours to keep, and must not use up its starts for that: once it has shown that it works, the
        bootloader needn't count them."""
        proof = Proof(self._surroundings)
        while not proof.given(ground):
            await ground.clock.sleep_until(ground.clock.boot_ns() + TICK_NS)
        try:
            async with self._telling:
                booted = (await self._installer.read()).booted
                if booted is not None and ground.record(Kind.SYSTEM).state is not State.TRIAL:
                    await self._installer.mark(Marking.GOOD, booted.name)
        except (InstallerAway, InstallFailed) as trouble:
            log.warning("bootloader_not_told", reason=str(trouble))

    # --- installing -------------------------------------------------------------------------------

    def _beginning(self, ground: Ground) -> tuple[Event, str] | None:
        assert self._found is not None
        if self._writes or self._attempt is None:
            return None
        if ground.record(Kind.SYSTEM).attempts >= ATTEMPTS:
            return Event.EXHAUSTED, f"none of its {ATTEMPTS} installations came to an end"
        if ground.clock.boot_ns() < self._not_before_ns or self._found.found in (Found.UNASKED, Found.UNKNOWN):
            return None
        rest = self._surroundings.may_restart()
        return (Event.ALLOWED, rest) if rest else None

    async def _install(self, ground: Ground) -> None:
        known = self._known(ground)
        assert known.trial is not None
        try:
            told = Event.INSTALLED, await self._installed(ground, known, known.trial)
        except TrustError as refusal:
            await ground.refused(Kind.SYSTEM, refusal)
            told = Event.UNFIT, str(refusal)
        except (InstallerAway, InstallFailed, DiskError) as trouble:
            log.warning("system_not_installed", reason=str(trouble))
            self._not_before_ns = ground.clock.boot_ns() + AGAIN_AFTER_NS
            told = Event.HINDERED, str(trouble)
        now = self._known(ground)
        if (now.state, now.trial) == (State.STAGED, known.trial):
            self._attempt = ground.begin(Kind.SYSTEM)
            self._attempt.tell(*told)
        else:
            self._writes = False

    async def _installed(self, ground: Ground, known: Known, trial: str) -> str:
        """Raises TrustError, InstallFailed, InstallerAway, DiskError."""
        bundle = _bundle(ground.trial_package(Kind.SYSTEM))
        before = await self._installer.read()
        spare = _spare(before)
        await ground.do(self._placements.begin, trial, known.good, before)
        try:
            await self._in_time(ground, self._installer.install(bundle, _say))
        except TrustError:
            await ground.do(self._placements.undo, known.notes)
            raise
        after = await self._installer.read()
        images = after.images(spare)
        if not images:
            raise InstallFailed(f"RAUC says that it is done, and nothing of what lies in {spare} now.")
        # One that tells the bootloader by itself is early: nothing is armed yet.
        await self._mark(_unarmed(after, spare))
        await ground.do(self._placements.finish, trial, spare, images)
        return f"RAUC wrote it into {spare}"

    async def _in_time(self, ground: Ground, installation: Coroutine[Any, Any, None]) -> None:
        """Raises InstallFailed for one that takes too long: RAUC can't be stopped, and refuses others until it ends."""
        work = asyncio.ensure_future(installation)
        limit = asyncio.ensure_future(ground.clock.sleep_until(ground.clock.boot_ns() + INSTALLED_WITHIN_NS))
        try:
            await asyncio.wait((work, limit), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise InstallFailed(f"RAUC hasn't installed it within {INSTALLED_WITHIN_NS // SECOND_NS} s.")
            work.result()
        finally:
            limit.cancel()
            work.cancel()

    # --- trying -----------------------------------------------------------------------------------

    async def _begin_trial(self, ground: Ground) -> None:
        """Once at rest. What is armed then is told to the bootloader, and that it was told is noted."""
        while ground.record(Kind.SYSTEM).state is State.ARMED:
            if self._surroundings.may_restart() and await self._is_bootloader_told(ground):
                await self._restart_computer()
                return
            await ground.clock.sleep_until(ground.clock.boot_ns() + TICK_NS)

    async def _is_bootloader_told(self, ground: Ground) -> bool:
        try:
            async with self._telling:
                known = self._known(ground)
                if known.state is not State.ARMED:
                    return False
                slot = where_trial_lies(known, await self._installer.read())
                if slot is None:
                    self._tell(Event.DAMAGED, "its slot doesn't hold what was installed there any more")
                    return False
                await self._installer.mark(Marking.ACTIVE, slot)
                await ground.do(self._placements.tell, self._boot_id)
        except (InstallerAway, InstallFailed, DiskError) as trouble:
            log.warning("bootloader_not_told", reason=str(trouble))
            return False
        return True

    async def _watch_services(self, ground: Ground, attempt: Attempt) -> None:
        """One that failed for good is the system's fault."""
        while ground.record(Kind.SYSTEM).state is State.TRIAL:
            try:
                failed = [unit for unit, state in (await self._services.states()).items() if state == "failed"]
                if failed:
                    attempt.tell(Event.UNFIT, f"{', '.join(failed)} failed")
                    return
            except InstallerAway as trouble:
                log.warning("services_not_asked", reason=str(trouble))
            await ground.clock.sleep_until(ground.clock.boot_ns() + ASK_AGAIN_NS)

    async def _call_good(self, ground: Ground, attempt: Attempt, proof: str) -> None:
        try:
            async with self._telling:
                waits = [unit for unit, state in (await self._services.states()).items() if state != "active"]
                if waits:
                    log.info("system_waits", services=waits)
                    return
                slot = may_be_called_good(self._known(ground), await self._installer.read())
                if slot is None:
                    attempt.tell(Event.DAMAGED, "what runs isn't what was installed for the trial")
                    return
                await self._installer.mark(Marking.GOOD, slot)
                attempt.tell(Event.PROVEN, proof)
        except (InstallerAway, InstallFailed) as trouble:
            log.warning("bootloader_not_told", reason=str(trouble))
        finally:
            self._calls_good = False

    # --- going back -------------------------------------------------------------------------------

    async def _switch_back(self, ground: Ground) -> None:
        """Where the bootloader can't be told now, the next start finds what was given up and tells it then."""
        try:
            async with self._telling:
                marks = way_back(self._known(ground), await self._installer.read())
                await self._mark(marks)
        except (InstallerAway, InstallFailed) as trouble:
            log.warning("bootloader_not_told", reason=str(trouble))

    async def _leave(self, ground: Ground) -> None:
        """What was given up still runs, if the bootloader hasn't gone back by itself."""
        try:
            finding = reconcile(self._known(ground), await self._installer.read(), self._boot_id)
        except (InstallerAway, InstallFailed) as trouble:
            log.warning("bootloader_not_asked", reason=str(trouble))
            return
        if finding.restart:
            ground.spawn(self._reboot_at_rest(ground))
        elif finding.found in (Found.UNASKED, Found.FOREIGN):
            ground.spawn(self._keep_alive(ground))

    async def _reboot_at_rest(self, ground: Ground) -> None:
        while not self._surroundings.may_restart():
            await ground.clock.sleep_until(ground.clock.boot_ns() + TICK_NS)
        await self._restart_computer()

    async def _restart_computer(self) -> None:
        if self._reboot is None:
            log.info("system_awaits_ignition")
            return
        self._was_asked_to_reboot = True
        await self._reboot()

    def _tell(self, event: Event, words: str) -> None:
        if self._attempt is not None:
            self._attempt.tell(event, words)

    async def _mark(self, marks: tuple[tuple[Marking, str], ...]) -> None:
        for marking, slot in marks:
            await self._installer.mark(marking, slot)

    def _known(self, ground: Ground) -> Known:
        return known_of(ground.record(Kind.SYSTEM), self._placements.notes)


def _say(percent: int, what: str) -> None:
    log.debug("system_installs", percent=percent, what=what)


def _bundle(folder: Path) -> Path:
    """Raises TrustError: signed or not, it is nothing that RAUC could install."""
    found = sorted(folder.iterdir())
    if len(found) != 1 or found[0].suffix != SUFFIX:
        names = ", ".join(path.name for path in found)
        raise TrustError(Attack.MALFORMED, f"a system is one {SUFFIX} file, not {names}")
    return found[0]


def _spare(reading: Reading) -> str:
    """The slot that is written next. Raises InstallFailed where that would leave nothing to go back to."""
    booted, spare = reading.booted, reading.spare
    if booted is None or spare is None:
        raise InstallFailed("RAUC doesn't know of one slot that runs and one that is spare.")
    if booted.is_bad:
        raise InstallFailed(f"{booted.name} runs, and no start would take it again: {spare.name} is not written over.")
    return spare.name


def _unarmed(reading: Reading, spare: str) -> tuple[tuple[Marking, str], ...]:
    """What keeps the spare slot from being started."""
    booted, slot = reading.booted, reading.slot(spare)
    if booted is None or slot is None or (slot.is_bad is not False and reading.primary != spare):
        return ()
    return ((Marking.ACTIVE, booted.name), (Marking.BAD, spare))
