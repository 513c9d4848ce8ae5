"""A vehicle whose power may go at any instant: releases of one kind, installed and tried by ota/updates.py, and what
must hold after a cut.

Every public step of a life is followed by a mark, and the mark knows what the vehicle has promised by then. The laws
are the invariants of docs/updates.md: (1) an allowed release boots, whole; (2) no half slot is named; (3) a retry
finishes; (4) no floor falls; (5) what was acknowledged stays; (6) no release is tried more often than it may be; and
what is under trial takes nothing from what is good.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Protocol

from ecu.clock import SECOND_NS, SteppingClock
from ecu.crashdisk import CrashDisk, CrashState
from ecu.disk import Disk
from ota import launcher
from ota.audit import Audit
from ota.denied import Denied
from ota.floors import Floors
from ota.kinds import Kind
from ota.layout import file_path, target_path
from ota.machine import ATTEMPTS, RESTS, WAYS, Event, State, Way, can_happen
from ota.manifest import BLOCK_BYTES, BundleManifest, bundle_digest, encode_manifest, file_entry
from ota.slots import Slot, SlotDamaged, Slots
from ota.source import PART_BYTES
from ota.trial import Trial
from ota.trust import Offer, Roots, Vehicle
from ota.updates import Updates
from tests.ota.changed import Open

KEPT = {
    Way.BESIDE: (Event.LOADED, Event.PASSED, Event.PROVEN),
    Way.APPLIED: (Event.ADMITTED, Event.PROVEN),
    Way.STARTED: (Event.ALLOWED, Event.PROVEN),
    Way.AT_ONCE: (),
}
WORSE = {
    Way.BESIDE: (Event.LOADED, Event.FAILED),
    Way.APPLIED: (Event.UNFIT,),
    Way.STARTED: (Event.ALLOWED, Event.UNFIT),
    Way.AT_ONCE: (),
}
LEFT = {
    Way.BESIDE: (Event.LOADED, Event.UNDECIDED),
    Way.APPLIED: (Event.ADMITTED, Event.CANCELLED),
    Way.STARTED: (Event.CANCELLED,),
    Way.AT_ONCE: (),
}


# --- releases ---------------------------------------------------------------------------------------


@cache
def contents(kind: Kind, release: int, large: bool = False) -> Mapping[str, bytes]:
    """Two files that differ from release to release, one that doesn't, and an empty one. A runtime's lie in folders,
    which come and go: one is a file in every third release."""
    size = BLOCK_BYTES + 600 if large else 600
    files = {
        "empty": b"",
        "labels": b"car\n" * 50,
        "model.json": f"release {release}".encode() * 60,
        "model.onnx": bytes([release]) * size,
    }
    if kind is not Kind.RUNTIME:
        return files
    tree = {f"agent/{name}" if release % 2 else f"agent/inner/{name}": data for name, data in files.items()}
    return tree | ({"part": b"a file"} if release % 3 == 0 else {"part/file": b"in a folder"})


def cut(content: bytes) -> Iterator[bytes]:
    return (content[at : at + BLOCK_BYTES] for at in range(0, len(content), BLOCK_BYTES))


@cache
def manifest_of(kind: Kind, release: int, large: bool = False) -> BundleManifest:
    """Below release 3 nothing boots once 3 was kept."""
    files = tuple(file_entry(name, cut(data)) for name, data in sorted(contents(kind, release, large).items()))
    return BundleManifest(
        kind=kind,
        name="drive",
        version=f"{release}.0",
        release=release,
        hardware=("any",),
        files=files,
        minimum_bootable=3 if release == 3 else None,
    )


def digest_of(kind: Kind, release: int, large: bool = False) -> str:
    return bundle_digest(encode_manifest(manifest_of(kind, release, large)))


class Shelf(Open):
    """Where releases of the kind lie; it breaks off after `most` bytes of their files."""

    def __init__(self, kind: Kind, large: bool = False, most: int = 1 << 40) -> None:
        self._left = most
        self._files = dict[str, bytes]()
        for release in range(1, 10):
            manifest = manifest_of(kind, release, large)
            self._files[target_path(manifest.target, digest_of(kind, release, large))] = encode_manifest(manifest)
            for data in contents(kind, release, large).values():
                self._files[file_path(hashlib.sha256(data).hexdigest())] = data

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        from ota.errors import FetchError, NotThere

        if path not in self._files:
            raise NotThere(path)
        data = self._files[path][offset : offset + most]
        for at in range(0, len(data), PART_BYTES):
            part = data[at : at + PART_BYTES]
            if path.startswith("files/"):
                if len(part) > self._left:
                    yield part[: self._left]
                    raise FetchError("The link was cut.")
                self._left -= len(part)
            yield part


def offer_of(kind: Kind, release: int, large: bool = False) -> Offer:
    data = encode_manifest(manifest_of(kind, release, large))
    return Offer(kind, manifest_of(kind, release).target, release, len(data), bundle_digest(data), ("any",))


# --- what was promised ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Promise:
    """What holds from a mark on until the next: `good` boots, `tried` lies staged and was begun `attempts` times."""

    good: int = 0
    denied: frozenset[int] = frozenset()
    tried: int = 0
    attempts: int = 0
    state: State = State.COMMITTED
    told: tuple[str, ...] = ()
    """What the audit says that happened, in this order."""
    damaged: bool = False
    """Flash forgot a bit of what lies in a slot: then it may be named, and isn't whole."""

    kept: int = 0
    """The highest that ever was good."""

    bootable_from: int = 0
    """3 once release 3 was kept."""


@dataclass
class Diary:
    """The promises of one life by their marks."""

    kind: Kind
    large: bool = False
    promises: list[Promise] = field(default_factory=lambda: [Promise()])
    calls: dict[int, int] = field(default_factory=dict)
    """How many calls the disk had had when a promise was given."""

    def around(self, state: CrashState) -> tuple[Promise, Promise]:
        """The last one that was given before the power went, and the one that was being worked on."""
        at = max((int(mark) for mark in state.acknowledged), default=0)
        return self.promises[at], self.promises[min(at + 1, len(self.promises) - 1)]

    def is_quiet(self, state: CrashState) -> bool:
        """Whether nothing was begun yet after the last promise: then both twins of every record are whole."""
        at = max((int(mark) for mark in state.acknowledged), default=0)
        return self.calls.get(at) == state.at


class Flash(Disk, Protocol):
    """A disk on which promises are marked, and which can be looked at without being touched."""

    @property
    def calls(self) -> Sequence[object]: ...

    def mark(self, name: str) -> None: ...

    def after_shutdown(self) -> CrashDisk: ...


class Life:
    """Lived on `disk`; each step gives its promise once it returned."""

    def __init__(self, disk: Flash, diary: Diary) -> None:
        self.disk = disk
        self.diary = diary
        self.kind = diary.kind
        self.way = WAYS[diary.kind]
        self.large = diary.large
        self._step = 0
        self._is_written = len(diary.promises) > 1
        self.start()

    # --- steps ---

    def start(self, running: Slot = Slot.FACTORY) -> None:
        """The agent begins."""
        self.updates = Updates(
            self.disk,
            Roots(b"", b""),
            Vehicle("car-1", "x86_64"),
            SteppingClock(wall_ns=SECOND_NS),
            lambda notice: None,
        )
        self.updates.begin(running)

    def install(self, release: int) -> None:
        self.updates.install(Shelf(self.kind, self.large), offer_of(self.kind, release, self.large), lambda its: None)
        if self.way is Way.AT_ONCE:
            self.promise(good=release, damaged=False)
        else:
            self.promise(tried=release, attempts=0 if self.way is Way.STARTED else 1)

    def install_until(self, release: int, most: int) -> None:
        """The link is cut after so many bytes."""
        from ota.errors import FetchError

        try:
            source = Shelf(self.kind, self.large, most)
            self.updates.install(source, offer_of(self.kind, release, self.large), lambda its: None)
        except FetchError:
            self.promise()
        else:
            raise AssertionError("it came whole")

    def handle(self, event: Event) -> None:
        now = self.promised
        release = now.tried
        self.updates.handle(self.kind, event, f"release {release}")
        state = self.updates.slots(self.kind).record.state
        if state is State.COMMITTED:
            self.promise(good=release, tried=0, attempts=0, damaged=False)
        elif state is State.ROLLED_BACK:
            self.promise(denied=now.denied | {release}, tried=0, attempts=0)
        elif state is State.INCONCLUSIVE:
            self.promise(tried=0, attempts=0)
        else:
            self.promise()

    def restart(self) -> None:
        """In a trial that begins again with the agent."""
        self.start()
        state = self.updates.slots(self.kind).record.state
        attempts = self.promised.attempts
        self.promise(attempts=attempts + 1) if state not in RESTS else self.promise(tried=0, attempts=0)

    def launch(self, *ends: str) -> None:
        """The launcher begins what is armed, and each time but the last it ends so; then the agent in it begins."""
        twin = launcher.Twin(self.disk, f"{self.kind}/boot")
        for ended in ends:
            record = launcher.unpacked(twin.read())
            assert launcher.is_to_be_tried(record)
            twin.write(launcher.packed(launcher.begun(record, "boot-1")))
            self.promise(attempts=self.promised.attempts + 1)
            its_end = launcher.ended(launcher.unpacked(twin.read()), ended)
            if ended and its_end is not None:
                twin.write(launcher.packed(its_end))
                self.promise()
        record = launcher.unpacked(twin.read())
        is_tried = not ends[-1]
        self.start(Slot(record["trial"]) if is_tried else Slot(record["good"]))
        if not is_tried:
            release = self.promised.tried
            self.promise(denied=self.promised.denied | {release}, tried=0, attempts=0)

    def try_and(self, release: int, events: tuple[Event, ...]) -> None:
        self.install(release)
        for event in events:
            if self.way is Way.STARTED and event is Event.PROVEN:
                self.launch("")
            if self.way is Way.STARTED and event is Event.UNFIT:
                self.launch("exit 1", "watchdog", "signal 9")
            else:
                self.handle(event)

    def lose_a_bit(self, to: int) -> None:
        """Of what is good, whose place release `to` takes at the next start."""
        good = self.updates.slots(self.kind).record.good
        name = next(name for name in contents(self.kind, self.promised.good, self.large) if "model.onnx" in name)
        assert isinstance(self.disk, CrashDisk)
        self.disk.flip_bit(f"{self.kind}/{good}/files/{name}", 80)
        self.promise(good=to, damaged=True)
        self.start()
        self.promise()

    # --- promises ---

    @property
    def promised(self) -> Promise:
        return self.diary.promises[self._step]

    def promise(self, **changes: object) -> None:
        record = Slots(self.disk.after_shutdown(), self.kind).record
        told = tuple(entry.event for entry in self.updates.audit().entries())
        promise = replace(self.promised, state=record.state, told=told, **changes)  # type: ignore[arg-type]
        least = 3 if promise.good == 3 else self.promised.bootable_from
        promise = replace(promise, kept=max(promise.good, self.promised.kept), bootable_from=least)
        self._step += 1
        if not self._is_written:
            self.diary.promises.append(promise)
            self.diary.calls[self._step] = len(self.disk.calls)
        # A mutant of the disk may let the same life go otherwise; what was promised stays.
        self.disk.mark(str(self._step))


Lived = Callable[[Life], None]


# --- laws -------------------------------------------------------------------------------------------


def opened(disk: Disk, kind: Kind) -> tuple[Trial, Slots, Floors, Denied]:
    slots, floors, denied = Slots(disk, kind), Floors(disk), Denied(disk)
    return Trial(slots, floors, denied, kind), slots, floors, denied


def booted_release(diary: Diary, slots: Slots, slot: Slot, disk: Disk) -> int:
    """The release whose every byte lies in that slot; 0 for the factory's."""
    if slot is Slot.FACTORY:
        return 0
    found = files_below(disk, str(slots.path(slot)))
    return next(release for release in range(1, 10) if contents(diary.kind, release, diary.large) == found)


def files_below(disk: Disk, folder: str, prefix: str = "") -> dict[str, bytes]:
    found = dict[str, bytes]()
    for name in disk.names(folder):
        inside = f"{folder}/{name}"
        if disk.is_folder(inside):
            found |= files_below(disk, inside, f"{prefix}{name}/")
        else:
            found[prefix + name] = disk.read(inside)
    return found


def holds(diary: Diary, state: CrashState) -> None:
    """The laws, of one state that a cut may leave; and of the same with one twin of each record lost after it."""
    was, may = diary.around(state)
    demand(diary, was, may, state.disk.after_shutdown())
    for name in (f"{diary.kind}/boot", "floors.release"):
        is_there = any(state.disk.exists(f"{name}.{twin}") for twin in (0, 1))
        whole = are_whole(state.disk, name)
        assert whole or not (is_there and diary.is_quiet(state)), f"{name} is promised, and is there once"
        for twin in (0, 1) if whole else ():
            disk = state.disk.after_shutdown()
            disk.flip_bit(f"{name}.{twin}", 8 * 30)
            demand(diary, was, may, disk)


def are_whole(disk: CrashDisk, name: str) -> bool:
    """Both twins of a record. One fault after another: a block that the cut tore is one already."""
    return all(
        disk.exists(f"{name}.{twin}") and launcher.decode(disk.read(f"{name}.{twin}"), twin) is not None
        for twin in (0, 1)
    )


def demand(diary: Diary, was: Promise, may: Promise, disk: CrashDisk) -> None:
    kind, large = diary.kind, diary.large
    digests = {release: digest_of(kind, release, large) for release in range(1, 10)}
    raw = Slots(disk.after_shutdown(), kind).record
    if not (was.damaged or may.damaged):
        _demand_whole_slots(disk, kind)
    if was.tried and was.tried == may.tried and may.attempts >= was.attempts:
        trial = raw.installed(raw.trial) if raw.trial is not None else None
        assert trial is not None, "an acknowledged install is gone"
        assert trial.digest == digests[was.tried]
        assert raw.state not in RESTS
        assert was.attempts <= raw.attempts <= max(was.attempts, may.attempts), "an attempt was refunded"
    assert raw.attempts <= ATTEMPTS + 1
    if not may.damaged:
        assert raw.state in (was.state, may.state), f"{raw.state}, and it was {was.state}"
        if _demand_told(was, disk) and was.state is not may.state:
            _demand_happened(may, kind, disk)
    _demand_raw_floors(was, may, disk.after_shutdown(), kind)
    _demand_denied_first(diary, was, may, disk.after_shutdown())
    trial_, slots, floors, denied = opened(disk, kind)
    running = raw.trial if raw.trial is not None and raw.state is State.TRIAL else Slot.FACTORY
    slot, _ = trial_.begin(running)
    booted = booted_release(diary, slots, slot, disk)
    assert booted in {was.good, may.good}, f"release {booted} boots"
    assert was.kept <= floors.release(kind) <= max(was.kept, may.kept)
    assert floors.release(kind) >= booted
    assert floors.bootable_from(kind) >= was.bootable_from, "what may boot sank"
    assert slots.record.bootable_from >= was.bootable_from
    wrong = {release for release, digest in digests.items() if (digest in denied) != (release in was.denied)}
    assert wrong <= was.denied ^ may.denied, f"denied or not: {wrong}"
    assert trial_.release is None or trial_.release.digest not in denied


def _demand_told(was: Promise, disk: CrashDisk) -> bool:
    """Whether it tells more than was promised."""
    audit = Audit(disk.after_shutdown(), SteppingClock(), "car-1")
    told = tuple(entry.event for entry in audit.entries())
    assert told[: len(was.told)] == was.told, "the audit forgot"
    assert audit.first_break() is None
    return len(told) > len(was.told)


def _demand_happened(may: Promise, kind: Kind, disk: CrashDisk) -> None:
    """What the audit tells is so, or was so before a start mended it."""
    record = Slots(disk.after_shutdown(), kind).record
    assert record.state is may.state, f"the audit says {may.told[-1]}, and it is {record.state}"


def _demand_raw_floors(was: Promise, may: Promise, disk: CrashDisk, kind: Kind) -> None:
    """Before a start mends anything: no floor sinks, and none rises before the release that it is for is kept."""
    floors, record = Floors(disk), Slots(disk, kind).record
    assert floors.release(kind) >= was.kept, "the floor of releases sank"
    assert floors.bootable_from(kind) >= was.bootable_from, "what may boot sank"
    good = record.installed(record.good)
    if floors.release(kind) > was.kept:
        assert good is not None, "a floor rose before anything was kept"
        assert good.release == may.good, "a floor rose before its release was kept"


def _demand_denied_first(diary: Diary, was: Promise, may: Promise, disk: CrashDisk) -> None:
    record, denied = Slots(disk, diary.kind).record, Denied(disk)
    if (
        record.state is may.state is State.ROLLED_BACK
        and may.denied > was.denied
        and was.state is not State.ROLLED_BACK
    ):
        assert all(digest_of(diary.kind, release, diary.large) in denied for release in may.denied), "denied too late"


def _demand_whole_slots(disk: CrashDisk, kind: Kind) -> None:
    slots = Slots(disk.after_shutdown(), kind)
    for slot in slots.record.slots:
        try:
            slots.demand_bootable(slot)
        except SlotDamaged as damage:
            raise AssertionError(f"a slot is named and isn't whole: {damage}") from damage


def can_be_finished(diary: Diary, state: CrashState) -> None:
    finish(diary, state.disk)


def finish(diary: Diary, disk: CrashDisk) -> None:
    """Whatever was cut short, the next release is installed and kept."""
    life = Life(disk, Diary(diary.kind, diary.large))
    now = life.updates.slots(diary.kind).record.state
    if now not in RESTS:
        event = Event.CANCELLED if can_happen(WAYS[diary.kind], now, Event.CANCELLED) else Event.EXPIRED
        life.updates.handle(diary.kind, event, "asked to")
    life.try_and(9, KEPT[life.way])
    trial, slots, _, _ = opened(disk.after_shutdown(), diary.kind)
    assert booted_release(diary, slots, trial.begin()[0], disk) == 9
