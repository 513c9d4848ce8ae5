"""The daemon: builds everything on the vehicle, runs it, and lets it go in order.

Ignition on: spool, cloud side, perception, signals. Ignition off (SIGTERM): everything pending becomes durable, sources
end and what they left becomes durable, P0 goes if the network allows, then all is quiet. A bug or an unfit model ends
the daemon; whoever launched it starts it again.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import os
import platform
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

import structlog

from agent.anchors import ClockAnchors
from agent.api import LocalApi
from agent.clocks import DriveClock, RoundedWall
from agent.cloud import CloudSide, never_paired, open_meter
from agent.config import AgentConfig, PicturesSection
from agent.folders import (
    COUNTERS_NAME,
    OBJECT_COUNTERS_NAME,
    OBJECTS_FOLDER,
    SOCKET_NAME,
    SPOOL_FOLDER,
    UPDATES_FOLDER,
)
from agent.frames import FrameAccount
from agent.gallery import Gallery
from agent.judging import ProcessJudge
from agent.learning.room import LearningRoom, Surroundings
from agent.links import Trust
from agent.lockstep import LockstepDrive
from agent.pairing import KEYS_FOLDER, NotPaired, load_paired
from agent.perception import Perception, PerceptionSettings, Supervision
from agent.perception.settings import LOCKSTEP_HANG_NS
from agent.pipeline import Pipeline
from agent.purge import (
    Held,
    Purged,
    PurgeLog,
    erase_objects,
    examples_in,
    purposes_named,
    records_erased,
    settle_state,
)
from agent.purging import Purger
from agent.redactor import PictureSettings, PictureSide
from agent.redactor.pictures import ANSWER_WITHIN_S
from agent.report import report_of
from agent.signals.room import SignalRoom, signal_settings
from agent.status import AgentStatus, ClockStatus, PrivacyStatus, WitnessStatus
from agent.updates import TrialRules, UpdateSide
from agent.view import View
from ecu.clock import MILLISECOND_NS, SECOND_NS, OffsetClock, SteppingClock, SystemClock, boot_id
from ecu.disk import RealDisk, state_folder
from ecu.errors import OutriderError
from ecu.keys import FileKeyStore
from ecu.ledger import Ledger
from ecu.process import forbid_core_dumps, notify
from inference.messages import Seen
from inference.package import find_package
from ota.kinds import Kind
from ota.trust import Vehicle
from ota.updates import Notice
from telemetry.capture import CaptureRules
from telemetry.confirmations import Confirmation, ConfirmationSocket
from telemetry.federated.plan import PLAN_FILE
from telemetry.objects import LEDGER_NAMES as OBJECT_LEDGER_NAMES
from telemetry.objects import ObjectKeeper, ObjectStore
from telemetry.privacy import Privacy
from telemetry.privacy.aliases import same_each_time
from telemetry.privacy.pictures import RedactedCrop, RedactedPicture
from telemetry.records import ClockAnchor, Learned, PictureTaken, Purpose, Record, UpdateReport
from telemetry.signals import SocketSignals, unix_dial
from telemetry.spool import LEDGER_NAMES, Spool, SpoolKeeper
from telemetry.uplink.status import UplinkState

STATUS_EVERY_S: Final = 0.25
CAPTURED_WITHIN_S: Final = 2.0

log = structlog.get_logger()


class Daemon:
    """One run of the agent. `state` is made when missing. Raises OutriderError for what can't be opened."""

    def __init__(self, config: AgentConfig, state: Path, environment: Mapping[str, str]) -> None:
        self._config = config
        self._state = state
        self._environment = environment
        self._rng = Random(os.urandom(16))
        self._disk = state_folder(state)
        self._drive_time = Ledger.open(state / "drive.ledger", ("t_ns",), boot_id().encode())
        self._stepping = SteppingClock(self._drive_time.values()["t_ns"]) if config.run.lockstep else None
        self._wall = OffsetClock(SystemClock(), int(config.run.wall_error_s * SECOND_NS))
        self._clock = DriveClock(self._stepping or SystemClock(), self._wall)
        self._since_ns = self._clock.boot_ns()
        self._version = importlib.metadata.version("outrider")
        self._privacy = Privacy(config.privacy, same_each_time if config.run.lockstep else os.urandom)
        self._crops_hidden = 0
        self._pipeline = Pipeline(config.camera.name, CaptureRules(config.capture), self._privacy, self._heard)
        self._views: list[Seen] = []
        self._drive_ended = False
        self._api = LocalApi(state / SOCKET_NAME, self.status, self._purge)
        self._witness = ConfirmationSocket(Path(config.witness.socket)) if config.witness.socket else None
        self._keys = FileKeyStore.open(state / KEYS_FOLDER)
        self._settle()
        self._object_counters: Ledger | None = None
        self._counters = Ledger.open(state / COUNTERS_NAME, LEDGER_NAMES, boot_id().encode())
        stamps = RoundedWall(self._clock, config.privacy.time_round_ms * MILLISECOND_NS)
        confirmed = self._confirmed if self._witness is not None else None
        self._keeper = SpoolKeeper(self._open_spool(), stamps, confirmed, self._private)
        # In lockstep records bear the drive's time, which is no boot's.
        self._anchors = None if self._stepping else ClockAnchors(
            self._clock, boot_id(), self._keeper.epochs, self._anchor
        )  # fmt: skip
        self._cloud = self._open_cloud()
        self._updates = self._open_updates(self._cloud)
        self._learning = self._open_learning()
        self._gallery = self._open_gallery(self._cloud)
        self._perception = self._open_perception()
        self._signals = self._open_signals()
        self._room = self._open_room()
        self._pictures_erased = 0
        self._purger = self._open_purger()

    # --- life -------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Raises OutriderError for what ends the daemon in words; anything else is a bug."""
        forbid_core_dumps()
        await self._api.start()
        try:
            notify("READY=1", self._environment)
            log.info("agent_ready", state=str(self._state), lockstep=self._config.run.lockstep)
            await self._work(stop)
        finally:
            await self._close()

    async def _work(self, stop: asyncio.Event) -> None:
        works = [self._keeper.run(), self._tell_status(), _raise_bugs(), *self._sources()]
        if self._cloud is not None:
            works.append(self._cloud.run())
        if self._gallery is not None:
            works.append(self._gallery.run())
        if self._anchors is not None:
            works.append(self._anchors.run(self._certificate_holds))
        works.append(self._learning.run())
        if self._stepping is None:
            works.append(self._room.run())
        if self._updates is not None:
            works.append(self._try_updates(self._updates, self._perception))
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(work) for work in works]
                await stop.wait()
                for task in tasks:
                    task.cancel()
        except* OutriderError as ended:
            # One sentence for people; what else failed at the same time is in the log.
            reasons = list(_leaves(ended))
            log.error("agent_ended", reasons=[str(reason) for reason in reasons])
            raise reasons[0] from ended

    async def _close(self) -> None:
        """Ignition off: everything pending becomes durable, sources end and what they left does, P0 goes if it can."""
        within_s = self._config.run.flush_within_s
        await self._flush(within_s)
        if self._perception is not None:
            await self._perception.stop()
        for record in await self._room.close(CAPTURED_WITHIN_S):
            self._captured(record)
        if self._gallery is not None:
            await self._gallery.close(within_s)
        await self._learning.close(within_s)
        if self._signals is not None:
            self._signals.close()
        if await self._flush(within_s) and self._cloud is not None:
            await self._cloud.last_call()
        if not await self._keeper.close(int(within_s * SECOND_NS)):
            log.error("flash_too_slow", within_s=within_s)
        if self._witness is not None:
            self._witness.close()
        await self._api.stop()
        log.info("agent_stopped", law_1_holds=self._keeper.counts().holds)
        self._counters.close()
        if self._object_counters is not None:
            self._object_counters.close()
        self._drive_time.close()

    async def _flush(self, within_s: float) -> bool:
        """Whether all that was offered is durable, or counted, by then."""
        try:
            async with asyncio.timeout(within_s):
                await self._keeper.flush()
        except TimeoutError:
            log.error("flash_too_slow", within_s=within_s)
            return False
        return True

    # --- what comes in ----------------------------------------------------------------------------

    def _sources(self) -> Sequence[Coroutine[Any, Any, None]]:
        if self._perception is None:
            return [] if self._signals is None else [self._follow_signals(self._signals)]
        if self._stepping is not None:
            return [self._drive(self._perception, self._stepping)]
        look = self._look(self._perception)
        return [look] if self._signals is None else [look, self._follow_signals(self._signals)]

    async def _look(self, perception: Perception) -> None:
        """A camera or model that takes its time, or hangs, holds up nothing else."""
        await perception.start()
        self._settled()
        await perception.watch()

    async def _try_updates(self, updates: UpdateSide, perception: Perception | None) -> None:
        """Once frames flow, or can't for now: a release is tried on the road."""
        if perception is not None:
            await perception.started.wait()
        await updates.run(perception)

    def _settled(self) -> None:
        """What is alive now lives as long as the daemon: the collector needn't look at it again and again."""
        gc.freeze()

    async def _follow_signals(self, signals: SocketSignals) -> None:
        async for sample in signals.samples():
            self._room.tell(sample.t_ns, sample.payload)
            self._signalled(sample.t_ns, sample.payload)

    def _signalled(self, t_ns: int, values: dict[str, float]) -> None:
        self._keep(self._pipeline.on_signals(t_ns, values))

    async def _drive(self, perception: Perception, clock: SteppingClock) -> None:
        """Lockstep: the drive as fast as it goes, then time alone goes on so that the link can finish."""
        await perception.start()
        if self._side is not None:
            await self._side.settled.wait()
        self._settled()
        drive = LockstepDrive(
            perception, self._views, self._config.camera.name, self._signals, self._pipeline, clock, self._room
        )
        step_ns = self._config.run.step_ms * MILLISECOND_NS
        async for step in drive.steps(clock.boot_ns(), step_ns, until_ns=None):
            for moment in step.moments:
                self._keep(moment.records)
            self._keep(step.captured)
            self._drive_time.set(t_ns=step.t_ns)
            await self._keeper.commit_due()
        self._drive_ended = True
        while True:
            await asyncio.sleep(step_ns / SECOND_NS)
            clock.advance(clock.boot_ns() + step_ns)

    def _seen(self, seen: Seen, latency_ns: int) -> None:
        if self._stepping is not None:
            self._views.append(seen)
        else:
            assert self._perception is not None
            self._room.see(seen, self._perception.disagreement)
            self._keep(self._pipeline.on_seen(seen))
        self._api.publish(
            "seen", View(seen.frame_id, self._live_model(), seen.t_ns, latency_ns, seen.model_ns, seen.tracks)
        )

    def _live_model(self) -> str:
        return (self._perception.live_title if self._perception is not None else None) or ""

    def _health(self, what: str, detail: str) -> None:
        log.warning(what, detail=detail)
        self._keep(self._pipeline.on_health(self._clock.boot_ns(), what, detail))
        self._api.publish("health", {"what": what, "detail": detail})

    def _update(self, notice: Notice) -> None:
        release = notice.release
        report = UpdateReport(
            what=notice.what,
            unit=notice.kind or "",
            title=release.title if release is not None else "",
            digest=release.digest if release is not None else "",
            attack=notice.attack or "",
            words=notice.words,
        )
        log.info("update", what=report.what, title=report.title, words=report.words)
        self._keep(self._pipeline.on_update(self._clock.boot_ns(), report))
        self._api.publish("update", report)

    def _anchor(self, anchor: ClockAnchor) -> None:
        self._keep(self._pipeline.on_clock(anchor.boot_ns, anchor))

    def _keep(self, records: Iterable[Record]) -> None:
        for record in records:
            self._keeper.offer(record)
            if self._side is not None:
                self._side.note(record)

    def _heard(self, t_ns: int, signals: Mapping[str, float]) -> None:
        self._learning.hear(t_ns, signals)

    def _confirmed(self, confirmations: Sequence[Confirmation]) -> None:
        if self._witness is not None:
            self._witness.tell(confirmations)

    def _private(self, record: Record) -> Record | None:
        kept = self._privacy.apply(record)
        return kept if isinstance(kept, Record) else None

    # --- what it says -----------------------------------------------------------------------------

    async def _tell_status(self) -> None:
        """Feeds systemd's watchdog by what got done, not by being alive."""
        progress = -1
        while True:
            status = self.status()
            self._api.publish("status", status)
            if self._witness is not None:
                self._witness.flush()
            done = self._progress(status)
            if done != progress or status.perception is None:
                notify("WATCHDOG=1", self._environment)
            progress = done
            await asyncio.sleep(STATUS_EVERY_S)

    def _progress(self, status: AgentStatus) -> int:
        frames = status.perception.frames.received if status.perception is not None else 0
        faults = status.perception.cameras_replaced if status.perception is not None else 0
        return frames + faults + sum(lane.durable for lane in status.spool.lanes)

    def status(self) -> AgentStatus:
        """A reading of everything, now."""
        perception = self._perception.status() if self._perception is not None else None
        spool = self._keeper.counts()
        cloud = self._cloud.status() if self._cloud is not None else never_paired(self._config.link)
        return AgentStatus(
            version=self._version,
            pid=os.getpid(),
            running_since_ns=self._since_ns,
            lockstep=self._stepping is not None,
            drive_ended=self._drive_ended,
            clock=ClockStatus(self._clock.boot_ns(), self._wall.wall_ns(), self._wall.offset_ns),
            perception=perception,
            signals=self._signals.status() if self._signals is not None else None,
            campaigns=self._room.status(),
            privacy=PrivacyStatus(
                self._privacy.passed,
                {reason.value: records for reason, records in self._privacy.dropped.items()},
                tuple(sorted(purpose.name.lower() for purpose in self._config.privacy.consents)),
                len(self._config.privacy.zones),
                self._privacy.hides(self._clock.boot_ns()) or "",
            ),
            spool=spool,
            law_1_holds=spool.holds,
            law_2_holds=perception.law_2_holds if perception is not None else None,
            law_6_holds=cloud.uplink is None or cloud.uplink.law6_held,
            cloud=cloud,
            updates=self._updates.status() if self._updates is not None else None,
            gallery=self._gallery.status() if self._gallery is not None else None,
            learning=self._learning.status(),
            witness=WitnessStatus(self._witness.told, self._witness.untold) if self._witness is not None else None,
            left_out=self._left_out(),
        )

    def _left_out(self) -> dict[str, int]:
        signals, side = self._signals, self._side
        return {
            **self._pipeline.left_out(),
            **self._learning.left_out(),
            "samples_missed": signals.status().missed if signals is not None else 0,
            "samples_late": signals.status().late if signals is not None else 0,
            "crops_hidden_by_zones": self._crops_hidden,
            "lights_not_cut_out": side.lights_left_out if side is not None else 0,
            "confirmations_untold": self._witness.untold if self._witness is not None else 0,
            "events_unheard": self._api.events_dropped,
        }

    # --- building ---------------------------------------------------------------------------------

    def _open_spool(self) -> Spool:
        disk = RealDisk(self._state / SPOOL_FOLDER)
        return Spool.open(disk, self._keys, self._clock, os.urandom, self._config.spool, self._counters)

    def _settle(self) -> None:
        """Before anything is opened: a purge that was cut short is finished, and what nobody consents to any more is
        erased. Raises OutriderError: nothing may be sent that should be gone."""
        config = self._config
        purged = settle_state(
            self._state, self._keys, self._clock, os.urandom, config.spool, config.objects, config.privacy.consents
        )
        if purged is not None:
            log.warning("purged_at_start", purposes=purged.purposes, why=purged.why, records=purged.records)

    def _open_purger(self) -> Purger:
        """Who hands on comes before who gets: no record of a picture that is gone is kept."""
        erasers = (self._forget, self._room.forget, self._erase_pictures, self._learning.erase, self._keeper.erase)
        return Purger(PurgeLog(self._disk, self._clock, os.urandom), self._held, erasers, self._withhold)

    def _withhold(self, purposes: Set[Purpose]) -> None:
        self._keeper.withhold(purposes)
        if self._gallery is not None:
            self._gallery.withhold(purposes)

    async def _purge(self, names: list[str]) -> Purged:
        """Raises UsageFault, PurgeUnfinished."""
        return await self._purger.purge(purposes_named(names))

    async def _forget(self, purpose: Purpose) -> None:
        self._pipeline.forget(purpose)

    async def _erase_pictures(self, purpose: Purpose) -> None:
        if self._gallery is not None:
            await self._gallery.erase(purpose)
        else:  # not wanted any more, but some may lie there
            erase = partial(erase_objects, self._state, self._keys, os.urandom, self._config.objects, purpose)
            self._pictures_erased += await asyncio.to_thread(erase)

    def _held(self) -> Held:
        pictures = self._gallery.status().objects.erased if self._gallery is not None else self._pictures_erased
        return Held(records_erased(self._keeper.counts()), pictures, examples_in(self._disk))

    def _open_cloud(self) -> CloudSide | None:
        if self._config.link.kind == "none":
            return None
        try:
            paired = load_paired(self._disk)
        except NotPaired as reason:
            log.warning("not_paired", reason=str(reason))
            return None
        if self._keys.certificate() is None:
            log.warning("not_paired", reason="The pairing was cut short. Run: outrider pair FILE, once more.")
            return None
        trust = Trust(paired, self._keys, self._wall, self._disk)
        return CloudSide(
            trust, self._keeper, self._clock, self._rng, self._config.link, self._config.uplink, self._hinted,
            lambda: report_of(self.status()), open_meter(self._config.network, self._disk),
            self._anchors, lambda: self._room.time_heard,
        )  # fmt: skip

    def _hinted(self) -> None:
        if self._updates is not None:
            self._updates.hint()

    def _open_updates(self, cloud: CloudSide | None) -> UpdateSide | None:
        """None where nobody could sign anything for this vehicle: it wasn't told by which roots."""
        if cloud is None or cloud.roots is None or not self._config.updates.enabled:
            return None
        settings = self._config.updates
        rules = TrialRules(int(settings.poll_s * SECOND_NS), settings.shadow_frames, settings.prove_frames)
        return UpdateSide(
            self._state / UPDATES_FOLDER,
            cloud.roots,
            Vehicle(cloud.vehicle, settings.hardware or platform.machine()),
            cloud.update_source(),
            self._factory(),
            ProcessJudge(self._environment),
            rules,
            self._wall,
            self._rng,
            self._update,
        )

    def _factory(self) -> dict[Kind, Path]:
        """What ships, of each kind that runs here: none without a camera."""
        if not self._config.camera.source:
            return {}
        perception = self._config.perception
        model = {Kind.MODEL: find_package(perception.model)}
        return model | ({Kind.STATE: find_package(perception.states)} if perception.states else {})

    def _package(self, kind: Kind) -> Path:
        return self._updates.live_package(kind) if self._updates is not None else self._factory()[kind]

    def _states(self) -> Path | None:
        """What tells states; None where the owner wants none, and then whatever was released isn't run, either."""
        return self._package(Kind.STATE) if self._config.perception.states else None

    def _open_gallery(self, cloud: CloudSide | None) -> Gallery | None:
        """None where no pictures are wanted. Without a camera those that are kept are still sent."""
        objects = self._config.objects
        if not objects.enabled or not (self._config.camera.source or cloud):
            return None
        folder = self._state / OBJECTS_FOLDER
        self._object_counters = Ledger.open(self._state / OBJECT_COUNTERS_NAME, OBJECT_LEDGER_NAMES, boot_id().encode())
        store = ObjectStore.open(RealDisk(folder), self._keys, os.urandom, objects, self._object_counters)
        keeper = ObjectKeeper(store)
        uplink = None if cloud is None else cloud.object_uplink(keeper, objects)
        side = self._open_side(self._config.pictures) if self._config.camera.source else None
        return Gallery(
            self._config.camera.name, side, keeper, uplink, self._may_keep_picture, self._pipeline.on_picture,
            self._keep,
        )  # fmt: skip

    def _open_side(self, settings: PicturesSection) -> PictureSide:
        # In lockstep a busy computer may take its time: what is in a picture must not hang on it.
        within_s = ANSWER_WITHIN_S if self._stepping is None else LOCKSTEP_HANG_NS / SECOND_NS
        wanted = PictureSettings(
            find_package(settings.faces),
            settings.every,
            settings.before,
            settings.per_hour,
            within_s,
            self._learning.crop_px,
        )
        supervision = Supervision(self._rng, self._environment)
        return PictureSide(wanted, self._clock, supervision, self._pictured, self._health, self._cropped)

    @property
    def _side(self) -> PictureSide | None:
        return self._gallery.side if self._gallery is not None else None

    def _may_keep_picture(self, captured_ns: int) -> bool:
        return self._privacy.forbids(PictureTaken, at_ns=captured_ns) is None

    def _cropped(self, crop: RedactedCrop) -> None:
        """Of what a zone shows nothing is learned either."""
        if self._privacy.hides(crop.captured_ns) is None:
            self._learning.see(crop)
        else:
            self._crops_hidden += 1

    def _pictured(self, picture: RedactedPicture) -> None:
        assert self._gallery is not None
        self._gallery.take(picture)

    def _open_learning(self) -> LearningRoom:
        return LearningRoom(
            self._config,
            Surroundings(
                state=self._state,
                keys=self._keys,
                drive=self._clock,
                wall=self._wall,
                rng=self._rng,
                environment=self._environment,
                keeper=self._keeper,
                may=self._may_learn,
                private=lambda learned: self._pipeline.on_learned(self._clock.boot_ns(), learned),
                is_time_proven=self._is_time_proven,
                plan=self._plan_file,
                package=self._states,
            ),
        )

    def _may_learn(self) -> bool:
        """What its owner agreed to."""
        return self._privacy.forbids(Learned) is None

    def _plan_file(self) -> Path | None:
        folder = self._updates.taken(Kind.PLAN) if self._updates is not None else None
        return None if folder is None else folder / PLAN_FILE

    def _certificate_holds(self) -> bool:
        return self._cloud is not None and self._cloud.certificate_holds()

    def _is_time_proven(self) -> bool | None:
        """Whether certificates hold by our clock: True once the link stands, False when they don't, None else."""
        uplink = self._cloud.status().uplink if self._cloud is not None else None
        if uplink is None:
            return None
        return True if uplink.connected else False if uplink.state is UplinkState.CLOCK_UNTRUSTED else None

    def _open_perception(self) -> Perception | None:
        camera, perception = self._config.camera, self._config.perception
        if not camera.source:
            return None
        settings = PerceptionSettings(
            source=camera.source,
            camera=camera.name,
            package=self._package(Kind.MODEL),
            states=self._states(),
            slots=camera.slots,
            threads=perception.threads,
            hang_ns=perception.hang_ms * MILLISECOND_NS,
            lockstep=self._stepping is not None,
        )
        account = FrameAccount(self._state / "camera.ledger", self._state / "frames.ledger")
        return Perception(
            settings,
            account,
            self._clock,
            Supervision(self._rng, self._environment),
            self._seen,
            self._health,
            from_ns=self._clock.boot_ns(),
            onlooker=self._side,
        )

    def _open_signals(self) -> SocketSignals | None:
        source = self._config.signals.source
        if not source or self._config.signals.bus:
            return None
        return SocketSignals(unix_dial(source), self._clock, self._rng)

    def _open_room(self) -> SignalRoom:
        settings = signal_settings(self._config, realtime=self._stepping is None)
        return SignalRoom(
            self._state, settings, self._signed, self._clock, self._believed_s,
            Supervision(self._rng, self._environment), self._signalled, self._captured, self._pictures_wanted,
            self._health,
        )  # fmt: skip

    def _signed(self, kind: Kind) -> Path | None:
        return self._updates.taken(kind) if self._updates is not None else None

    def _believed_s(self) -> int:
        """Seconds since 1970; 0 until the link has shown that certificates hold by our clock."""
        return self._wall.wall_ns() // SECOND_NS if self._is_time_proven() else 0

    def _captured(self, record: Record) -> None:
        self._keep(self._pipeline.on_captured(record))

    def _pictures_wanted(self, why: str, t_ns: int, before: int, after: int) -> None:
        if self._side is not None:
            self._side.want_clip(why, t_ns, before, after)


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    """What failed, out of the groups of groups that nested tasks make of it."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _raise_bugs() -> None:
    """Ends by raising what a callback of the event loop raised: a bug there stops the daemon as it does in a task."""
    loop = asyncio.get_running_loop()
    bug: asyncio.Future[None] = loop.create_future()

    def found(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not bug.done():
            bug.set_exception(context.get("exception") or RuntimeError(context["message"]))

    loop.set_exception_handler(found)
    await bug
