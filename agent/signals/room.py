"""All that the daemon has to do with signals and campaigns: which process runs, what it is told, and where what it says
goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from agent.config import AgentConfig
from agent.perception.settings import Supervision
from agent.signals.campaigns import CampaignShelf
from agent.signals.messages import Admission, PicturesWanted, TimeHeard, Work
from agent.signals.plans import PlanShelf
from agent.signals.seen import SeenSignals
from agent.signals.side import SignalSide, SignalSideStatus
from agent.uses import Use
from ecu.clock import SECOND_NS, Clock
from ecu.disk import RealDisk, state_folder
from inference.messages import Seen
from ota.kinds import Kind
from telemetry.capture.campaigns.floor import CampaignFloor
from telemetry.privacy.policy import PrivacyPolicy
from telemetry.records import Purpose, Record
from telemetry.signals import vss
from telemetry.spool.format import max_wire_bytes
from telemetry.spool.packing import max_event_bytes

FOLDER: Final = "signals"
LOOK_EVERY_NS: Final = SECOND_NS
RESTART_WITHIN_S: Final = 2.0
OF_GNSS: Final = frozenset({vss.LATITUDE, vss.LONGITUDE, vss.HEADING, vss.ALTITUDE})
"""The paths that a GNSS receiver tells."""


@dataclass(frozen=True, slots=True)
class SignalSettings:
    """`bus` is a URL of one, or empty; `plan` the owner's plan for it, `campaigns` the owner's own campaigns.json, each
    empty for none: what was signed goes before both. `told` are the paths that the agent's own rules look at;
    `most_event_bytes` is the longest event that the spool takes; `gnss` a receiver's serial line, or empty.
    `has_camera`: somebody takes pictures for campaigns."""

    bus: str
    plan: str
    campaigns: str
    told: tuple[str, ...]
    privacy: PrivacyPolicy
    floor: CampaignFloor
    most_event_bytes: int
    realtime: bool
    camera: str = "front"
    has_camera: bool = True
    gnss: str = ""
    gnss_baud: int = 9600


def signal_settings(config: AgentConfig, *, realtime: bool) -> SignalSettings:
    signals, campaigns = config.signals, config.campaigns
    return SignalSettings(
        bus=signals.bus,
        plan=signals.plan,
        campaigns=campaigns.file,
        told=tuple(sorted({*config.capture.signals, vss.SPEED, vss.LONGITUDINAL, *_place_for(config.privacy)})),
        privacy=config.privacy,
        floor=CampaignFloor.model_validate(campaigns.model_dump(exclude={"file"})),
        most_event_bytes=max_event_bytes(max_wire_bytes(config.spool.segment_bytes)),
        realtime=realtime,
        camera=config.camera.name,
        has_camera=config.objects.enabled and bool(config.camera.source),
        gnss=signals.gnss if realtime else "",
        gnss_baud=signals.gnss_baud,
    )


def _place_for(privacy: PrivacyPolicy) -> tuple[str, ...]:
    """Where there are zones, the agent's own privacy stage has to hear where the vehicle is, whatever is captured."""
    return (vss.LATITUDE, vss.LONGITUDE) if privacy.zones else ()


@dataclass(frozen=True, slots=True)
class SignalRoomStatus:
    """A reading for status and doctor. `side` is None where nothing is to be done: no bus, no GNSS receiver, and no
    campaign. `plan` is empty while the bus waits for one; `fault` is why the campaigns in force couldn't be kept,
    `plan_fault` what is wrong with the newest plan."""

    bus: str
    plan: str
    fault: str
    side: SignalSideStatus | None
    gnss: str = ""
    plan_fault: str = ""


Signed = Callable[[Kind], Sequence[Path]]
"""Where the signed releases of that kind lie, in the order in which they are to be used; none before the first."""


class SignalRoom:
    """`on_values` hears what a bus says of the paths that were asked for, `on_captured` each record that a campaign
    made, `on_pictures` a campaign's wish for pictures: what for, from which instant on, and how many from before and
    after it. `wall_s` is the time that is believed, 0 for none."""

    def __init__(
        self,
        state: Path,
        settings: SignalSettings,
        signed: Signed,
        clock: Clock,
        wall_s: Callable[[], int],
        supervision: Supervision,
        on_values: Callable[[int, dict[str, float]], None],
        on_captured: Callable[[Record], None],
        on_pictures: Callable[[str, int, int, int], None],
        on_health: Callable[[str, str], None],
    ) -> None:
        self._folder = state / FOLDER
        self._settings = settings
        self._clock = clock
        self._wall_s = wall_s
        self._on_values = on_values
        self._on_captured = on_captured
        self._on_pictures = on_pictures
        self._on_health = on_health
        state_folder(self._folder)
        self._shelf = CampaignShelf(
            RealDisk(self._folder),
            lambda: next(iter(signed(Kind.CAMPAIGN)), None),
            Path(settings.campaigns) if settings.campaigns else None,
        )
        self._seen = SeenSignals(settings.camera)
        self._plans = PlanShelf(partial(signed, Kind.CONFIG), settings.plan)
        self._plan = self._plans.path()
        self._side = SignalSide(self._work, self._shelf, self, supervision, on_health)
        self._is_on = False
        self.time_heard: TimeHeard | None = None
        """What the GNSS receiver said last of the time; unsigned."""

    # --- life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled. Raises UsageFault for a bus or plan of the owner's that can't be used."""
        while not self._is_needed():
            await self._clock.sleep_until(self._clock.boot_ns() + LOOK_EVERY_NS)
        self._is_on = True
        async with asyncio.TaskGroup() as group:
            group.create_task(self._side.run())
            group.create_task(self._look_again_and_again())

    async def _look_again_and_again(self) -> None:
        while True:
            self._side.tell_wall(self._wall_s())
            self._side.look()
            if self._plans.path() != self._plan:
                await self._side.restart(self._clock.boot_ns(), RESTART_WITHIN_S)
            await self._clock.sleep_until(self._clock.boot_ns() + LOOK_EVERY_NS)

    async def close(self, within_s: float) -> list[Record]:
        """The ignition is off: what was captured is handed on, as far as that goes in time; in lockstep it is these."""
        if not self._is_on:
            return []
        self._is_on = False
        await self._side.finish(self._clock.boot_ns(), within_s)
        await self._side.stop()
        return self._side.taken_records()

    async def forget(self, purpose: Purpose) -> None:
        """What campaigns retain in memory goes with its process, whatever it is for; another one follows."""
        if self._is_on:
            await self._side.renew()

    async def begin(self) -> None:
        """Lockstep. Raises UsageFault, EnvironmentFault."""
        if self._is_needed():
            self._is_on = True
            await self._side.begin()

    async def advance(self, t_ns: int) -> list[Record]:
        """Lockstep: what comes of all that was told or is on the bus up to and including `t_ns`."""
        if not self._is_on:
            return []
        values, records = await self._side.advance(t_ns)
        for said in values:
            self._on_values(said.t_ns, said.values)
        return records

    def use_of(self, folder: Path) -> tuple[Use, str]:
        """How far the plan in that release's folder has got."""
        if why := self._plans.why_not(folder):
            return Use.REFUSED, why
        return (Use.USED if self._plans.is_ready(folder) else Use.AWAITED), ""

    def status(self) -> SignalRoomStatus:
        side = self._side.status() if self._is_on else None
        return SignalRoomStatus(
            self._settings.bus, self._plan, self._shelf.fault, side, self._settings.gnss, self._plans.refused
        )

    # --- in ---------------------------------------------------------------------------------------

    def tell(self, t_ns: int, values: Mapping[str, float]) -> None:
        """Signals of a source of the agent's own."""
        if self._is_on:
            self._side.tell(t_ns, values)

    def see(self, seen: Seen, disagreement: float | None) -> None:
        """What the model saw: at real time it is true from now on, in lockstep since its frame."""
        if self._is_on:
            t_ns = self._clock.boot_ns() if self._settings.realtime else seen.t_ns
            self._side.tell(t_ns, self._seen.values(seen, disagreement))

    # --- as the side's Hears ----------------------------------------------------------------------

    def on_values(self, t_ns: int, values: dict[str, float]) -> None:
        self._on_values(t_ns, values)

    def on_time_heard(self, heard: TimeHeard) -> None:
        self.time_heard = heard

    def on_captured(self, record: Record) -> None:
        self._on_captured(record)

    def on_pictures_wanted(self, wanted: PicturesWanted) -> None:
        self._on_pictures(f"{wanted.campaign} {wanted.number}", wanted.t_ns, wanted.before, wanted.after)

    def on_admission(self, admission: Admission) -> None:
        if admission.refused:
            self._on_health("campaigns_refused", admission.refused)

    def on_ready(self) -> None:
        self._plans.settle(self._plan)

    def on_unusable(self, why: str) -> bool:
        if not self._plans.refuse(self._plan, why):
            return False
        self._on_health("plan_refused", why)
        return True

    # --- inside -----------------------------------------------------------------------------------

    def _is_needed(self) -> bool:
        self._plan = self._plans.path()
        if self._settings.gnss:
            return True
        if self._settings.bus:
            return bool(self._plan)
        return self._settings.floor.enabled and bool(self._shelf.candidates())

    def _work(self) -> Work:
        settings = self._settings
        self._plan = self._plans.path()
        return Work(
            source=settings.bus if self._plan else "",
            plan=self._plan,
            privacy=settings.privacy.model_dump_json(),
            floor=settings.floor.model_dump_json(),
            told=self._told(),
            folder=str(self._folder),
            most_event_bytes=settings.most_event_bytes,
            realtime=settings.realtime,
            from_ns=self._clock.boot_ns(),
            gnss=settings.gnss,
            gnss_baud=settings.gnss_baud,
            has_camera=settings.has_camera,
        )

    def _told(self) -> tuple[str, ...]:
        """Without a bus the receiver's alone: the agent needn't hear again what it has told itself."""
        told = self._settings.told
        return told if self._settings.bus else tuple(path for path in told if self._settings.gnss and path in OF_GNSS)
