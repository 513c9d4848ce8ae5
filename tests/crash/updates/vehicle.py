"""A vehicle whose power may go at any instant: releases of one kind, installed and tried by ota/updates.py.

Every public step of a life is followed by a mark, and the mark knows what the vehicle has promised by then. What must
hold after a cut is in tests/crash/updates/laws.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from ecu.clock import SteppingClock
from ecu.crashdisk import CrashDisk, CrashState
from ecu.disk import Disk
from ota import launcher
from ota.errors import FetchError, Flaw, TrustError
from ota.floors import Floors
from ota.kinds import Kind
from ota.landing import Progress
from ota.machine import RESTS, WAYS, Event, State, Way
from ota.slots import Slot, Slots
from ota.trust import Vehicle
from ota.updates import Updates
from tests.crash.updates.releases import ALL, UNSIGNED, Supply, contents
from tests.ota.fleet import CAR, HARDWARE

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
    damaged: int = 0
    """The release of which flash forgot a bit: it may be named, and isn't whole."""

    kept: int = 0
    """The highest that ever was good."""

    bootable_from: int = 0
    """3 once release 3 was kept."""

    versions: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Of the metadata that was seen, by its role and keys."""

    signed_at_s: int = 0


@dataclass
class Diary:
    """The promises of one life by their marks."""

    kind: Kind
    supply: Supply = UNSIGNED
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
        self.supply = diary.supply
        self.came: list[Progress] = []
        self._step = 0
        self._is_written = len(diary.promises) > 1
        self.start()

    # --- steps ---

    def start(self, running: Slot = Slot.FACTORY) -> None:
        """The agent begins."""
        self.updates = Updates(
            self.disk,
            self.supply.roots,
            Vehicle(CAR, HARDWARE),
            SteppingClock(wall_ns=self.supply.wall_ns),
            lambda notice: None,
        )
        self.updates.begin(running)

    def install(self, release: int, most: int = ALL) -> None:
        """Over a link that is cut after so many bytes."""
        source, offer = self.supply.found(self.updates, self.kind, release, most)
        if self.supply.is_signed:
            self.promise()
        self.updates.install(source, offer, self.came.append)
        if self.way is Way.AT_ONCE:
            self.promise(good=release, damaged=0)
        else:
            self.promise(tried=release, attempts=0 if self.way is Way.STARTED else 1)

    def install_until(self, release: int, most: int) -> None:
        try:
            self.install(release, most)
        except FetchError:
            self.promise()
        else:
            raise AssertionError("it came whole")

    def refuse(self, release: int) -> None:
        """The vehicle has seen newer metadata: it never comes to what they are about."""
        flaw: Flaw | None = None
        try:
            self.supply.found(self.updates, self.kind, release, ALL)
        except TrustError as refusal:
            flaw = refusal.flaw
        assert flaw not in (None, Flaw.RELEASE_ROLLBACK), "metadata older than was seen are believed"
        self.promise()

    def handle(self, event: Event) -> None:
        now = self.promised
        release = now.tried
        self.updates.handle(self.kind, event, f"release {release}")
        state = self.updates.slots(self.kind).record.state
        if state is State.COMMITTED:
            self.promise(good=release, tried=0, attempts=0, damaged=0)
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
        name = next(
            name for name in contents(self.kind, self.promised.good, self.supply.model_bytes) if "model.onnx" in name
        )
        assert isinstance(self.disk, CrashDisk)
        self.disk.flip_bit(f"{self.kind}/{good}/files/{name}", 80)
        self.promise(good=to, damaged=self.promised.good)
        self.start()
        self.promise()

    # --- promises ---

    @property
    def promised(self) -> Promise:
        return self.diary.promises[self._step]

    def promise(self, **changes: object) -> None:
        now = self.disk.after_shutdown()
        record, floors = Slots(now, self.kind).record, Floors(now)
        told = tuple(entry.event for entry in self.updates.audit().entries())
        promise = replace(self.promised, state=record.state, told=told, **changes)  # type: ignore[arg-type]
        promise = replace(promise, versions=floors.versions, signed_at_s=floors.signed_at_s)
        least = 3 if promise.good == 3 else self.promised.bootable_from
        promise = replace(promise, kept=max(promise.good, self.promised.kept), bootable_from=least)
        self._step += 1
        if not self._is_written:
            self.diary.promises.append(promise)
            self.diary.calls[self._step] = len(self.disk.calls)
        # A mutant of the disk may let the same life go otherwise; what was promised stays.
        self.disk.mark(str(self._step))


Lived = Callable[[Life], None]
