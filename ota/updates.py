"""All that is signed on one vehicle: looked for, refused or fetched, staged, tried, kept or given up, and audited.

One thread calls it: it reads the network and syncs flash. What a trial needs beyond flash (a worker beside the live
one, a judge) is for whoever asked: `Step.effects`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import msgspec

from ecu.clock import Clock
from ecu.disk import Disk, DiskError, DiskFault
from ecu.errors import shown
from ecu.keys import KeyStoreError
from ota.audit import Audit
from ota.deltafetch import Breaks
from ota.denied import Denied
from ota.errors import MOST_WORDS, Attack, DoesNotFit, Flaw, OtaError, SlowRetrieval, TrustError
from ota.fetch import fetch_bundle, fetch_manifest, seal_bundle
from ota.fitness import Held, Host, conflicts_of, fits
from ota.floors import Floors, FloorsLost
from ota.kinds import Kind
from ota.landing import Progress, Watch
from ota.machine import LEFT_AT_MOST, RESTS, WAYS, Event, State, Way, can_happen
from ota.manifest import BundleManifest, bundle_digest, decode_manifest, encode_manifest
from ota.pace import PacedSource
from ota.report import Image, Reporter, Signer
from ota.runtime import FACTS_NAME, RuntimeFacts, read_facts, why_unfit
from ota.slots import Installed, Slot, Slots
from ota.source import Source
from ota.trial import Step, Trial, below_bootable
from ota.trust import Offer, Roots, Trust, Vehicle

TRIED: Final = (Kind.MODEL, Kind.STATE, Kind.CONFIG, Kind.RUNTIME, Kind.SYSTEM)
"""Kinds that are tried before they are kept."""
TAKEN: Final = tuple(kind for kind in Kind if WAYS[kind] is Way.AT_ONCE)
"""Kinds that take effect as soon as they are whole: what others are tried with, what may be learned, and what is told
of signals."""

_WAITS: Final = (Way.STARTED, Way.BOOTED)
"""Ways in which a release waits for the vehicle's rest."""


class Want(StrEnum):
    """What an offer is to this vehicle."""

    NEW = "new"
    CURRENT = "current"  # it is what the good slot holds
    TRYING = "trying"  # a trial is under way: one at a time
    TRIED = "tried"  # it was inconclusive since this start, or too often
    DENIED = "denied"  # it was found worse before


@dataclass(frozen=True, slots=True)
class Notice:
    """What happened to a release, for whoever reports it: `what` is "refused", "slow" where its source trickles, the
    state that was reached, or "damaged" where what was kept is no longer whole and another boots in its place."""

    what: str
    kind: Kind | None
    release: Installed | None
    attack: Attack | None
    words: str
    manifest: bytes = b""
    """The vehicle's signed version manifest just then; empty where it can't sign one."""


@dataclass(frozen=True, slots=True)
class UpdateStatus:
    """A reading for status and doctor, one kind's. `good` is None while the factory's release is good."""

    kind: Kind
    state: State
    good: Installed | None
    trial: Installed | None
    words: str


class Updates:
    """In `disk`, a folder of its own. `notice` is told every audited event; `host` is what would run a release, None
    where nobody asks; `syncs` brings blocks to flash while the next ones come, or each waits for its own; with a
    `signer` each notice has the vehicle's version manifest. Raises OtaError and DiskError."""

    def __init__(
        self,
        disk: Disk,
        roots: Roots,
        vehicle: Vehicle,
        clock: Clock,
        notice: Callable[[Notice], None],
        host: Host | None = None,
        syncs: Executor | None = None,
        signer: Signer | None = None,
        why_unfit: Callable[[RuntimeFacts], str] = why_unfit,
    ) -> None:
        self._floors = Floors(disk)
        self._denied = Denied(disk)
        self._audit = Audit(disk, clock, vehicle.name)
        self._clock = clock
        self._trust = Trust(disk, roots, vehicle, self._floors, clock)
        self._slots = {kind: Slots(disk, kind) for kind in (*TRIED, *TAKEN)}
        self._trials = {kind: Trial(its, self._floors, self._denied, kind) for kind, its in self._slots.items()}
        self._notice = notice
        self._host = host
        self._syncs = syncs
        self._breaks = Breaks()
        self._reporter = Reporter(disk, vehicle.name, vehicle.hardware, signer) if signer is not None else None
        self._why_unfit = why_unfit
        self._running = Slot.FACTORY
        self._tried: set[str] = set()
        # Until the first look after a start nobody has said otherwise.
        self._wanted = {trial.release.digest for trial in self._trials.values() if trial.release is not None}
        self._refusals: dict[Kind | None, str] = {}
        self._offers: tuple[Offer, ...] = ()
        self._gave_way: set[str] = set()

    # --- starts and trials ------------------------------------------------------------------------

    def begin(self, running: Slot = Slot.FACTORY) -> dict[Kind, tuple[Slot, Step | None]]:
        """At the start, once: of each kind the slot to boot, and the step that a trial takes by it. What they are tried
        with is looked after first. `running` is the runtime's slot that this process was started from."""
        self._running = running
        return {kind: self._begin(kind, running) for kind in (*TAKEN, *TRIED)}

    def _begin(self, kind: Kind, running: Slot) -> tuple[Slot, Step | None]:
        slot, step = self._trials[kind].begin(running)
        self._tell_damage(kind)
        return slot, self._told(kind, step)

    def keep_running(self, words: str) -> None:
        """The launcher gave up what was good, and this process runs from another slot: that one is good from here on.
        What was given up may come again, and is tried before it is kept."""
        slots = self._slots[Kind.RUNTIME]
        record, running = slots.record, self._running
        if (
            running is record.good
            or record.state not in RESTS
            or (running is not Slot.FACTORY and record.installed(running) is None)
        ):
            return
        given_up = record.installed(record.good)
        others = {slot: its for slot, its in record.slots.items() if slot is not record.good}
        slots.write(msgspec.structs.replace(record, good=running, slots=others, words=words))
        self._say(Notice("damaged", Kind.RUNTIME, given_up, None, words))

    def below_bootable(self) -> str:
        """Why this vehicle may do nothing but be updated, in words; "" where it may run."""
        return next((words for kind in TRIED if (words := self._below_bootable(kind))), "")

    def _below_bootable(self, kind: Kind) -> str:
        if WAYS[kind] is Way.BOOTED:
            return ""  # which system starts is for the bootloader to say, whatever came of it
        slots = self._slots[kind]
        return below_bootable(slots, self._floors, kind, self._running if kind is Kind.RUNTIME else slots.record.good)

    def comes_again(self, offer: Offer) -> bool:
        """Whether it was kept here once, and what is left of its kind may not run: then it takes its place without
        another trial, for which that would have to run. A runtime is tried by the launcher all the same."""
        return (
            offer.kind is not Kind.RUNTIME
            and bool(self._below_bootable(offer.kind))
            and offer.release == self._floors.release(offer.kind)
        )

    def below_kept(self, kind: Kind) -> str:
        """Why what is good of a kind is less than what was kept of it once, in words: flash lost that. "" else."""
        record = self._slots[kind].record
        good = record.installed(record.good)
        release = good.release if good is not None else 0
        try:
            kept = self._floors.release(kind)
        except (FloorsLost, DiskFault) as lost:
            return str(lost)
        return f"What is left of {kind} is release {release}; release {kept} was kept once." if release < kept else ""

    def handle(self, kind: Kind, event: Event, words: str) -> Step:
        step = self._trials[kind].handle(event, words)
        self._told(kind, step)
        return step

    def spend(self, kind: Kind, powered_ns: int) -> Step | None:
        return self._told(kind, self._trials[kind].spend(powered_ns))

    def slots(self, kind: Kind) -> Slots:
        return self._slots[kind]

    def give_up(self, kind: Kind, words: str) -> None:
        """The trial of a kind that nobody tries here ends, however far it got: no other could begin beside it."""
        state = self._slots[kind].record.state
        if state not in RESTS:
            can_be_cancelled = can_happen(WAYS[kind], state, Event.CANCELLED)
            self.handle(kind, Event.CANCELLED if can_be_cancelled else Event.EXPIRED, words)

    def status(self) -> tuple[UpdateStatus, ...]:
        return tuple(
            UpdateStatus(
                kind,
                slots.record.state,
                slots.record.installed(slots.record.good),
                slots.record.installed(slots.record.trial) if slots.record.trial is not None else None,
                slots.record.words,
            )
            for kind, slots in self._slots.items()
        )

    def audit(self) -> Audit:
        return self._audit

    def tell(self, kind: Kind, what: str, words: str) -> None:
        """Of what is good, something that no step of a trial tells."""
        record = self._slots[kind].record
        self._say(Notice(what, kind, record.installed(record.good), None, words))

    def refused(self, kind: Kind, refusal: TrustError) -> None:
        """By another chain than ours, after the download."""
        self._refused(kind, refusal)

    def fell_back(self, kind: Kind, digest: str | None, words: str) -> None:
        """What was good before runs in the place of what is good: the record follows, and where the one that is gone is
        still wanted, it comes again."""
        slots = self._slots[kind]
        record, lost = slots.record, slots.record.installed(slots.record.good)
        before = next((slot for slot, its in record.slots.items() if its.digest == digest), Slot.FACTORY)
        slots.write(msgspec.structs.replace(record, good=before, words=words))
        self._say(Notice("damaged", kind, lost, None, words))

    def _tell_damage(self, kind: Kind) -> None:
        damage = self._slots[kind].damage
        if damage is not None:
            self._say(Notice("damaged", kind, damage.release, None, damage.words))

    def _told(self, kind: Kind, step: Step | None) -> Step | None:
        if step is None:
            return None
        # What was damaged here is whole again after the next download, and what was taken back may be wanted anew.
        was_tried = step.state is State.INCONCLUSIVE and step.event not in (Event.DAMAGED, Event.CANCELLED)
        if was_tried and step.release is not None:
            self._tried.add(step.release.digest)
        if step.before is not step.state or step.event is Event.DOWNLOADED:
            self._say(Notice(step.state, kind, step.release, None, step.words or step.event))
        return step

    def _say(self, notice: Notice) -> None:
        notice = replace(notice, words=shown(notice.words)[:MOST_WORDS])
        what = f"{notice.release.title}: " if notice.release is not None else ""
        self._audit.note(f"update_{notice.what}", f"{what}{notice.words}")
        self._notice(replace(notice, manifest=self._version_manifest()))

    def _version_manifest(self) -> bytes:
        """What lies in the good slots; a report without it is only a word, and still better than none."""
        if self._reporter is None:
            return b""
        attack = next(iter(self._refusals.values()), "")
        try:
            images = {kind: image for kind in self._slots if (image := self._image(kind)) is not None}
            return self._reporter.manifest(images, attack, self._floors.signed_at_s)
        except (KeyStoreError, OtaError, DiskError):
            return b""

    def _image(self, kind: Kind) -> Image | None:
        """None for the factory's, and for what isn't whole any more."""
        slots = self._slots[kind]
        good = slots.record.installed(slots.record.good)
        manifest = slots.manifest(slots.record.good) if good is not None else None
        if good is None or manifest is None:
            return None
        data = encode_manifest(manifest)
        return (
            Image(manifest.target, len(data), good.digest, good.release) if good.digest == bundle_digest(data) else None
        )

    # --- looking and installing -------------------------------------------------------------------

    def check(self, source: Source) -> tuple[Offer, ...]:
        """The releases to install now, what others need for their trial first. Raises TrustError for an attack, which
        changed nothing but the audit; FetchError when the source is away, or trickles, which is audited, too."""
        paced = PacedSource(source, self._clock, Flaw.SLOW_LOOK)
        try:
            offers = self._trust.refresh(paced, self._demand_newer)
            self._wanted = {offer.sha256 for offer in offers}
            self._forget_left()
            new = [offer for offer in offers if self._want(offer) is Want.NEW]
        except (TrustError, SlowRetrieval) as refusal:
            self._refused(None, refusal)
            raise
        offered = {offer.kind for offer in offers}
        self._refusals = {kind: words for kind, words in self._refusals.items() if kind in offered}
        self._offers = offers
        return tuple(sorted(new, key=lambda offer: (offer.kind in TRIED, WAYS[offer.kind] in _WAITS)))

    def gives_way(self, kinds: Collection[Kind]) -> str:
        """Why what only waits for the vehicle's rest is to give way, in words: something was offered at the last look
        that is tried on the road, of one of `kinds`. Once for each; what gave way comes again without a download."""
        if not any(WAYS[kind] in _WAITS and trial.state is State.STAGED for kind, trial in self._trials.items()):
            return ""
        for offer in self._offers:
            if offer.kind in kinds and WAYS[offer.kind] not in _WAITS and self._is_held_up(offer):
                self._gave_way.add(offer.sha256)
                return f"it waits, and gives way to {offer.target}"
        return ""

    def _is_held_up(self, offer: Offer) -> bool:
        """Whether it would be tried now, were nothing else."""
        record = self._slots[offer.kind].record
        good = record.installed(record.good)
        seen = offer.sha256 in self._tried or offer.sha256 in self._gave_way or offer.sha256 in self._denied
        is_newer = offer.release > (good.release if good is not None else 0)
        return offer.kind in TRIED and is_newer and not seen and offer.release >= self._floors.release(offer.kind)

    def refuse(self, refusal: TrustError) -> None:
        """Of a source that can't even be opened: audited and told, and nothing else changes."""
        self._refused(None, refusal)

    def install(self, source: Source, offer: Offer, watch: Watch) -> Step | None:
        """Fetches and seals the release in the spare slot; the step that it takes by it.

        Raises TrustError for a bundle that isn't what was signed: nothing of it stays. DoesNotFit before anything is
        fetched of what nothing here could run, or not beside what is kept.
        """
        slots = self._slots[offer.kind]
        slot = self._free_slot(offer.kind)
        source = PacedSource(source, self._clock, Flaw.SLOW_DOWNLOAD)
        try:
            manifest_bytes = fetch_manifest(source, offer)
            self._demand_fits(decode_manifest(manifest_bytes))
            slots.empty(slot)
            with _given_back_if_refused(slots, slot):
                manifest = decode_manifest(manifest_bytes)
                came = fetch_bundle(source, manifest, slots, slot, watch, self._syncs, self._breaks)
                self._tell_unfit(manifest, came)
                installed = seal_bundle(manifest_bytes, slots, slot)
            self._demand_runs(slots, slot, manifest)
        except (TrustError, SlowRetrieval) as refusal:
            self._refused(offer.kind, refusal)
            raise
        self._refusals.pop(offer.kind, None)
        return self._told(offer.kind, self._trials[offer.kind].stage(slot, installed, self.comes_again(offer)))

    @property
    def is_trial_wanted(self) -> bool:
        """Whether what is being tried was still among what the vehicle is to have, at the last look."""
        releases = [trial.release for trial in self._trials.values()]
        return all(release is None or release.digest in self._wanted for release in releases)

    @property
    def _is_trying(self) -> bool:
        """One trial at a time, of whatever kind: two would be judged by what the other does."""
        return any(trial.state not in RESTS for trial in self._trials.values())

    def _demand_newer(self, offers: Sequence[Offer]) -> None:
        """Raises TrustError(ROLLBACK) for one below what was kept, before anything of this look is written."""
        for offer in offers:
            self._want(offer)

    def _want(self, offer: Offer) -> Want:
        record = self._slots[offer.kind].record
        good = record.installed(record.good)
        if good is not None and good.digest == offer.sha256:
            return Want.CURRENT
        if record.state not in RESTS or (offer.kind in TRIED and self._is_trying and not self.comes_again(offer)):
            return Want.TRYING
        if offer.sha256 in self._denied:
            return Want.DENIED
        self._floors.demand_newer(offer.kind, offer.release, good.release if good is not None else 0)
        is_left = record.left.get(offer.sha256, 0) >= LEFT_AT_MOST
        return Want.TRIED if is_left or offer.sha256 in self._tried else Want.NEW

    def _forget_left(self) -> None:
        """What its fleet no longer wants may be wanted anew."""
        for slots in self._slots.values():
            if slots.record.left and not self._wanted & set(slots.record.left):
                slots.write(msgspec.structs.replace(slots.record, left={}))

    def _free_slot(self, kind: Kind) -> Slot:
        """Never the good one, nor the one that this process runs from. Raises DoesNotFit."""
        spare = self._slots[kind].record.spare
        if kind is Kind.RUNTIME and spare is self._running:
            raise DoesNotFit(
                f"slot {spare} is the only one for another runtime, and runs just now in the good one's place. A start "
                "from another slot comes first."
            )
        return spare

    def _demand_runs(self, slots: Slots, slot: Slot, manifest: BundleManifest) -> None:
        """Of a runtime: with what this vehicle was shipped with beside it. Raises DoesNotFit, TrustError."""
        if manifest.kind is not Kind.RUNTIME or not any(entry.path == FACTS_NAME for entry in manifest.files):
            return
        if why := self._why_unfit(read_facts(slots.read(slot, FACTS_NAME))):
            raise DoesNotFit(f"{manifest.title}: {why}")

    def _demand_fits(self, manifest: BundleManifest) -> None:
        """Also with what is kept of other kinds, which may not bear it. Raises DoesNotFit, TrustError."""
        if self._host is not None:
            fits(manifest, self._host)
        kept = [its for kind in self._slots if kind is not manifest.kind and (its := self._kept(kind)) is not None]
        after = [Held(its.kind, its.name, its.release) for its in (manifest, *kept)]
        for its in (manifest, *kept):
            if wrong := conflicts_of(its, after):
                raise DoesNotFit("; ".join(wrong))

    def _kept(self, kind: Kind) -> BundleManifest | None:
        slots = self._slots[kind]
        return slots.manifest(slots.record.good) if slots.record.good is not Slot.FACTORY else None

    def _tell_unfit(self, manifest: BundleManifest, came: Progress) -> None:
        """Deltas are believed in nothing, so one that is wrong keeps nothing from its place; it is written down."""
        if came.unfit:
            words = f"{manifest.title}: {came.unfit} blocks came as they are, since a delta wasn't right. {came.words}"
            self._audit.note("delta_unfit", shown(words)[:MOST_WORDS])

    def _refused(self, kind: Kind | None, refusal: TrustError | SlowRetrieval) -> None:
        """Of one release, or of the whole look. Once for the same words: a repository under attack is looked at again
        and again."""
        if str(refusal) != self._refusals.get(kind):
            self._refusals[kind] = str(refusal)
            what = "slow" if isinstance(refusal, SlowRetrieval) else "refused"
            self._say(Notice(what, None, None, refusal.attack, str(refusal)))


@contextmanager
def _given_back_if_refused(slots: Slots, slot: Slot) -> Iterator[None]:
    """A cut download goes on where it was cut; one whose source lied leaves not even the blocks that were right."""
    try:
        yield
    except TrustError:
        slots.give_back(slot)
        raise
