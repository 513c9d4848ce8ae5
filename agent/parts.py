"""What the daemon is made of: every part on the vehicle, built from the config and joined to the others."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from random import Random
from typing import Final, Protocol

import structlog

from agent.anchors import ClockAnchors
from agent.api import LocalApi
from agent.clocks import DriveClock, RoundedWall
from agent.cloud import CloudSide, open_meter
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
from agent.launched import Launched
from agent.launcherslot import slot_in
from agent.learning.room import LearningRoom, Surroundings
from agent.links import Trust
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
from agent.rescue import UpdatesOnly
from agent.signals.room import SignalRoom, signal_settings
from agent.status import AgentStatus
from agent.systemgood import open_standing
from agent.systemslots import open_systems
from agent.updates import Applied, Conductor, DoubtHeard, Started, TrialRules, UpdateSide
from agent.uses import Use
from ecu.clock import MILLISECOND_NS, SECOND_NS, OffsetClock, SteppingClock, SystemClock, boot_id
from ecu.conditions import Network
from ecu.disk import RealDisk, state_folder
from ecu.keys import FileKeyStore
from ecu.ledger import Ledger
from inference.messages import Seen
from inference.package import find_package
from ota.kinds import Kind
from ota.slots import Slot
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
from telemetry.records import ClockAnchor, Learned, PictureTaken, Purpose, Record
from telemetry.signals import SocketSignals, unix_dial
from telemetry.spool import LEDGER_NAMES, Spool, SpoolKeeper
from telemetry.uplink.status import UplinkState

FLOW_NS: Final = 10 * SECOND_NS
"""Frames come in for as long as there was one within so much time."""

log = structlog.get_logger()


class Hears(Protocol):
    """What comes of the parts goes there: the daemon."""

    def on_seen(self, seen: Seen, latency_ns: int) -> None: ...

    def on_health(self, what: str, detail: str) -> None: ...

    def on_update(self, notice: Notice) -> None: ...

    def on_restart(self) -> None: ...

    def on_anchor(self, anchor: ClockAnchor) -> None: ...

    def on_signals(self, t_ns: int, values: dict[str, float]) -> None: ...

    def on_captured(self, record: Record) -> None: ...

    def keep(self, records: Iterable[Record]) -> None: ...

    def status(self) -> AgentStatus: ...


class Parts:
    """All parts of one run, open. None stands for what this vehicle doesn't have or its owner doesn't want; `stepping`
    is the clock in lockstep. Raises OutriderError for what can't be opened."""

    def __init__(self, config: AgentConfig, state: Path, environment: Mapping[str, str], hears: Hears) -> None:
        self.config = config
        self._state = state
        self._environment = environment
        self._hears = hears
        self._rng = Random(os.urandom(16))
        self._disk = state_folder(state)
        self.drive_time = Ledger.open(state / "drive.ledger", ("t_ns",), boot_id().encode())
        self.stepping = SteppingClock(self.drive_time.values()["t_ns"]) if config.run.lockstep else None
        self.wall = OffsetClock(SystemClock(), int(config.run.wall_error_s * SECOND_NS))
        self.clock = DriveClock(self.stepping or SystemClock(), self.wall)
        self.since_ns = self.clock.boot_ns()
        self.version = importlib.metadata.version("outrider")
        self.privacy = Privacy(config.privacy, same_each_time if config.run.lockstep else os.urandom)
        self.crops_hidden = 0
        self._flow = (0, 0)
        self.pipeline = Pipeline(config.camera.name, CaptureRules(config.capture), self.privacy, self._heard)
        self.api = LocalApi(state / SOCKET_NAME, self._hears.status, self._purge)
        self.witness = ConfirmationSocket(Path(config.witness.socket)) if config.witness.socket else None
        self._keys = FileKeyStore.open(state / KEYS_FOLDER)
        self._settle()
        self.object_counters: Ledger | None = None
        self.counters = Ledger.open(state / COUNTERS_NAME, LEDGER_NAMES, boot_id().encode())
        stamps = RoundedWall(self.clock, config.privacy.time_round_ms * MILLISECOND_NS)
        confirmed = self._confirmed if self.witness is not None else None
        self.keeper = SpoolKeeper(self._open_spool(), stamps, confirmed, self._private)
        # In lockstep records bear the drive's time, which is no boot's.
        self.anchors = None if self.stepping else ClockAnchors(
            self.clock, boot_id(), self.keeper.epochs, self._hears.on_anchor
        )  # fmt: skip
        self.cloud = self._open_cloud()
        self.system = open_standing(config.updates.system, state, SystemClock(), boot_id())
        self.updates = self._open_updates(self.cloud)
        self.learning = self._open_learning()
        self.gallery = self._open_gallery(self.cloud)
        self.perception = self._open_perception()
        self.signals = self._open_signals()
        self.room = self._open_room()
        self._pictures_erased = 0
        self._purger = self._open_purger()

    # --- spool and purge --------------------------------------------------------------------------

    def _open_spool(self) -> Spool:
        disk = RealDisk(self._state / SPOOL_FOLDER)
        return Spool.open(disk, self._keys, self.clock, os.urandom, self.config.spool, self.counters)

    def _private(self, record: Record) -> Record | None:
        kept = self.privacy.apply(record)
        return kept if isinstance(kept, Record) else None

    def _confirmed(self, confirmations: Sequence[Confirmation]) -> None:
        if self.witness is not None:
            self.witness.tell(confirmations)

    def _heard(self, t_ns: int, signals: Mapping[str, float]) -> None:
        self.learning.hear(t_ns, signals)

    def _settle(self) -> None:
        """Before anything is opened: a purge that was cut short is finished, and what nobody consents to any more is
        erased. Raises OutriderError: nothing may be sent that should be gone."""
        config = self.config
        purged = settle_state(
            self._state, self._keys, self.clock, os.urandom, config.spool, config.objects, config.privacy.consents
        )
        if purged is not None:
            log.warning("purged_at_start", purposes=purged.purposes, why=purged.why, records=purged.records)

    def _open_purger(self) -> Purger:
        """Who hands on comes before who gets: no record of a picture that is gone is kept."""
        erasers = (self._forget, self.room.forget, self._erase_pictures, self.learning.erase, self.keeper.erase)
        return Purger(PurgeLog(self._disk, self.clock, os.urandom), self._held, erasers, self._withhold)

    def _withhold(self, purposes: Set[Purpose]) -> None:
        self.keeper.withhold(purposes)
        if self.gallery is not None:
            self.gallery.withhold(purposes)

    async def _purge(self, names: list[str]) -> Purged:
        """Raises UsageFault, PurgeUnfinished."""
        return await self._purger.purge(purposes_named(names))

    async def _forget(self, purpose: Purpose) -> None:
        self.pipeline.forget(purpose)

    async def _erase_pictures(self, purpose: Purpose) -> None:
        if self.gallery is not None:
            await self.gallery.erase(purpose)
        else:  # not wanted any more, but some may lie there
            erase = partial(erase_objects, self._state, self._keys, os.urandom, self.config.objects, purpose)
            self._pictures_erased += await asyncio.to_thread(erase)

    def _held(self) -> Held:
        pictures = self.gallery.status().objects.erased if self.gallery is not None else self._pictures_erased
        return Held(records_erased(self.keeper.counts()), pictures, examples_in(self._disk))

    # --- cloud ------------------------------------------------------------------------------------

    def _open_cloud(self) -> CloudSide | None:
        if self.config.link.kind == "none":
            return None
        try:
            paired = load_paired(self._disk)
        except NotPaired as reason:
            log.warning("not_paired", reason=str(reason))
            return None
        if self._keys.certificate() is None:
            log.warning("not_paired", reason="The pairing was cut short. Run: outrider pair FILE, once more.")
            return None
        trust = Trust(paired, self._keys, self.wall, self._disk)
        return CloudSide(
            trust, self.keeper, self.clock, self._rng, self.config.link, self.config.uplink, self._hinted,
            lambda: report_of(self._hears.status()), open_meter(self.config.network, self._disk),
            self.anchors, lambda: self.room.time_heard,
        )  # fmt: skip

    def _hinted(self) -> None:
        if self.updates is not None:
            self.updates.hint()

    def certificate_holds(self) -> bool:
        return self.cloud is not None and self.cloud.certificate_holds()

    def _is_time_proven(self) -> bool | None:
        """Whether certificates hold by our clock: True once the link stands, False when they don't, None else."""
        uplink = self.cloud.status().uplink if self.cloud is not None else None
        if uplink is None:
            return None
        return True if uplink.connected else False if uplink.state is UplinkState.CLOCK_UNTRUSTED else None

    def _believed_s(self) -> int:
        """Seconds since 1970; 0 until the link has shown that certificates hold by our clock."""
        return self.wall.wall_ns() // SECOND_NS if self._is_time_proven() else 0

    # --- updates ----------------------------------------------------------------------------------

    def _open_updates(self, cloud: CloudSide | None) -> UpdateSide | None:
        """None where nobody could sign anything for this vehicle: it wasn't told by which roots."""
        if cloud is None or cloud.roots is None or not self.config.updates.enabled:
            return None
        settings, source = self.config.updates, cloud.update_source()
        rules = TrialRules(
            int(settings.poll_s * SECOND_NS), settings.shadow_frames, settings.prove_frames,
            prove_ns=int(settings.prove_s * SECOND_NS), memory_ratio_at_most=self.config.gate.memory_ratio_at_most,
        )  # fmt: skip
        running = slot_in(self._environment, self._state / UPDATES_FOLDER)
        others: list[Conductor] = [Applied(Kind.CONFIG, self)]
        if running is not None:
            others.append(Started(self._launched(running)))
        systems = open_systems(settings, self._state, self._launched(running or Slot.FACTORY), boot_id())
        if systems is not None:
            others.append(systems)
        updates = UpdateSide(
            self._state / UPDATES_FOLDER,
            cloud.roots,
            Vehicle(cloud.vehicle, settings.hardware or platform.machine()),
            source,
            self.factory(),
            ProcessJudge(self._environment, self.config.gate),
            rules,
            self.wall,
            self._rng,
            self._hears.on_update,
            source.bulk(),
            cloud.until_releases_let,
            others,
            running or Slot.FACTORY,
            media=Path(settings.media) if settings.media else None,
            signer=self._keys,
            doubt_heard=self.doubt_heard(),
        )
        if why := updates.below_bootable():
            raise UpdatesOnly(why)
        return updates

    def _launched(self, running: Slot) -> Launched:
        settings = self.config.updates
        return Launched(
            running,
            settings.parked_s if settings.needs_parked else None,
            settings.power,
            lambda: self.learning.world(),
            self._is_well,
            lambda: self.learning.conditions.now().network is not Network.NONE,
            self._hears.on_restart,
        )

    def _is_well(self) -> str:
        """What this runtime has shown since it began, once it is enough: frames come in, and it finds its updates."""
        if self.updates is None or not self.updates.looks_held:
            return ""
        if self.perception is None:
            return "it found its updates"
        seen, now_ns = self.perception.status().frames.processed, self.clock.boot_ns()
        if seen > self._flow[0]:
            self._flow = (seen, now_ns)
        return "frames come in, and it found its updates" if seen and now_ns - self._flow[1] < FLOW_NS else ""

    def factory(self) -> dict[Kind, Path]:
        """What ships, of each kind that runs here: none without a camera."""
        if not self.config.camera.source:
            return {}
        perception = self.config.perception
        model = {Kind.MODEL: find_package(perception.model)}
        return model | ({Kind.STATE: find_package(perception.states)} if perception.states else {})

    def _package(self, kind: Kind) -> Path:
        return self.updates.live_package(kind) if self.updates is not None else self.factory()[kind]

    def states(self) -> Path | None:
        """What tells states; None where the owner wants none, and then whatever was released isn't run, either."""
        return self._package(Kind.STATE) if self.config.perception.states else None

    def _signed(self, kind: Kind) -> tuple[Path, ...]:
        return self.updates.taken(kind) if self.updates is not None else ()

    def use_of(self, folder: Path) -> tuple[Use, str]:
        """Of a config's release, by who uses it."""
        return self.room.use_of(folder)

    # --- learning ---------------------------------------------------------------------------------

    def _open_learning(self) -> LearningRoom:
        return LearningRoom(
            self.config,
            Surroundings(
                state=self._state,
                keys=self._keys,
                drive=self.clock,
                wall=self.wall,
                rng=self._rng,
                environment=self._environment,
                keeper=self.keeper,
                may=self._may_learn,
                private=lambda learned: self.pipeline.on_learned(self.clock.boot_ns(), learned),
                is_time_proven=self._is_time_proven,
                plan=self._plan_file,
                package=self.states,
            ),
        )

    def _may_learn(self) -> bool:
        """What its owner agreed to."""
        return self.privacy.forbids(Learned) is None

    def _plan_file(self) -> Path | None:
        return next((folder / PLAN_FILE for folder in self._signed(Kind.PLAN)), None)

    # --- pictures ---------------------------------------------------------------------------------

    def _open_gallery(self, cloud: CloudSide | None) -> Gallery | None:
        """None where no pictures are wanted. Without a camera those that are kept are still sent."""
        objects = self.config.objects
        if not objects.enabled or not (self.config.camera.source or cloud):
            return None
        folder = self._state / OBJECTS_FOLDER
        self.object_counters = Ledger.open(self._state / OBJECT_COUNTERS_NAME, OBJECT_LEDGER_NAMES, boot_id().encode())
        store = ObjectStore.open(RealDisk(folder), self._keys, os.urandom, objects, self.object_counters)
        keeper = ObjectKeeper(store)
        uplink = None if cloud is None else cloud.object_uplink(keeper, objects)
        side = self._open_side(self.config.pictures) if self.config.camera.source else None
        return Gallery(
            self.config.camera.name, side, keeper, uplink, self._may_keep_picture, self.pipeline.on_picture,
            self._hears.keep,
        )  # fmt: skip

    def _open_side(self, settings: PicturesSection) -> PictureSide:
        # In lockstep a busy computer may take its time: what is in a picture must not hang on it.
        within_s = ANSWER_WITHIN_S if self.stepping is None else LOCKSTEP_HANG_NS / SECOND_NS
        wanted = PictureSettings(
            find_package(settings.faces),
            settings.every,
            settings.before,
            settings.per_hour,
            within_s,
            self.learning.crop_px,
        )
        supervision = Supervision(self._rng, self._environment)
        return PictureSide(wanted, self.clock, supervision, self._pictured, self._hears.on_health, self._cropped)

    @property
    def side(self) -> PictureSide | None:
        return self.gallery.side if self.gallery is not None else None

    def _may_keep_picture(self, captured_ns: int) -> bool:
        return self.privacy.forbids(PictureTaken, at_ns=captured_ns) is None

    def _cropped(self, crop: RedactedCrop) -> None:
        """Of what a zone shows nothing is learned either."""
        if self.privacy.hides(crop.captured_ns) is None:
            self.learning.see(crop)
        else:
            self.crops_hidden += 1

    def _pictured(self, picture: RedactedPicture) -> None:
        assert self.gallery is not None
        self.gallery.take(picture)

    def doubt_heard(self) -> DoubtHeard:
        """Who is told where a model under trial and the live one disagree."""
        return DoubtHeard(partial(self._hears.on_health, "models_disagree"), self._disputed)

    def _disputed(self, reason: str) -> None:
        """A frame of which the model under trial says something else than the live one."""
        if self.side is not None:
            self.side.want(reason)

    def _pictures_wanted(self, why: str, t_ns: int, before: int, after: int) -> None:
        if self.side is not None:
            self.side.want_clip(why, t_ns, before, after)

    # --- perception and signals -------------------------------------------------------------------

    def _open_perception(self) -> Perception | None:
        camera, perception = self.config.camera, self.config.perception
        if not camera.source:
            return None
        settings = PerceptionSettings(
            source=camera.source,
            camera=camera.name,
            package=self._package(Kind.MODEL),
            states=self.states(),
            slots=camera.slots,
            threads=perception.threads,
            hang_ns=perception.hang_ms * MILLISECOND_NS,
            lockstep=self.stepping is not None,
        )
        account = FrameAccount(self._state / "camera.ledger", self._state / "frames.ledger")
        return Perception(
            settings,
            account,
            self.clock,
            Supervision(self._rng, self._environment),
            self._hears.on_seen,
            self._hears.on_health,
            from_ns=self.clock.boot_ns(),
            onlooker=self.side,
        )

    def _open_signals(self) -> SocketSignals | None:
        source = self.config.signals.source
        if not source or self.config.signals.bus:
            return None
        return SocketSignals(unix_dial(source), self.clock, self._rng)

    def _open_room(self) -> SignalRoom:
        settings = signal_settings(self.config, realtime=self.stepping is None)
        return SignalRoom(
            self._state, settings, self._signed, self.clock, self._believed_s,
            Supervision(self._rng, self._environment), self._hears.on_signals, self._hears.on_captured,
            self._pictures_wanted, self._hears.on_health,
        )  # fmt: skip
