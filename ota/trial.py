"""One kind's trial: each step of the machine made durable, and the effects that are left for whoever runs the slots.

Order is what makes it safe at any instant: a digest is denied before the record says that it was rolled back; a slot
becomes good before the floor rises to it; and an attempt is counted before it begins. A start mends what a power cut
left between the two.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Final

import msgspec

from ecu.clock import SECOND_NS
from ecu.disk import DiskFault, DiskFull
from ota.denied import Denied
from ota.floors import Floors, FloorsLost
from ota.kinds import Kind
from ota.machine import ATTEMPTS, DEADLINES_NS, RESTS, Effect, Event, State, step
from ota.slots import BootRecord, Installed, Slot, SlotDamaged, Slots

SAVE_EVERY_NS: Final = 10 * SECOND_NS
"""How much powered time a power cut may give back to a deadline."""

_INWARD: Final = {Effect.COUNT_ATTEMPT, Effect.MARK_GOOD, Effect.RAISE_FLOOR, Effect.DENY}


@dataclass(frozen=True, slots=True)
class Step:
    """What a trial came to: the new state, its words, and the effects that are left to whoever asked."""

    before: State
    event: Event
    state: State
    release: Installed | None
    effects: tuple[Effect, ...]
    words: str


class Trial:
    """Raises DiskError; then nothing was done that a start can't tell."""

    def __init__(self, slots: Slots, floors: Floors, denied: Denied, kind: Kind) -> None:
        self._slots = slots
        self._floors = floors
        self._denied = denied
        self._kind = kind
        self._unsaved_ns = 0

    @property
    def record(self) -> BootRecord:
        return self._slots.record

    @property
    def state(self) -> State:
        return self.record.state

    @property
    def release(self) -> Installed | None:
        """What is being tried."""
        return self.record.installed(self.record.trial) if self.record.trial is not None else None

    # --- starts -----------------------------------------------------------------------------------

    def begin(self) -> tuple[Slot, Step | None]:
        """At every start of the agent: the slot to boot and the step that a trial takes by it. Both slots are re-hashed
        before anything runs from them."""
        good = settled(self._slots, self._floors, self._kind)
        if self.state in RESTS:
            return good, None
        if self._was_found_worse():
            return good, self.handle(Event.UNFIT, "it was found worse just before the agent began again")
        again = self.handle(Event.RESTARTED, "the agent began again")
        if self.record.attempts > ATTEMPTS:
            return good, self.handle(Event.EXHAUSTED, f"the agent began again in each of {ATTEMPTS} attempts")
        assert self.record.trial is not None
        try:
            self._slots.demand_bootable(self.record.trial)
        except SlotDamaged as damage:
            return good, self.handle(Event.DAMAGED, str(damage))
        return good, again

    def _was_found_worse(self) -> bool:
        """Whether a power cut came between its denial and the record of it. What can't be read says no: then it is
        judged again."""
        with contextlib.suppress(DiskFault):
            return self.release is not None and self.release.digest in self._denied
        return False

    # --- steps ------------------------------------------------------------------------------------

    def stage(self, slot: Slot, installed: Installed) -> Step:
        """A sealed slot begins its trial. Raises DiskFull, and none is begun, where it couldn't be denied or kept."""
        self._denied.make_room()
        self._floors.make_room()
        slots = {**self.record.slots, slot: installed}
        effects = step(self.state, Event.DOWNLOADED)[1]
        before = self.state
        self._write(state=State.STAGED, trial=slot, attempts=1, slots=slots, words="")
        return Step(before, Event.DOWNLOADED, State.STAGED, installed, effects, "")

    def handle(self, event: Event, words: str) -> Step:
        """Takes the step. Raises NoSuchStep for a bug."""
        before, release = self.state, self.release
        after, effects = step(before, event)
        if Effect.DENY in effects and release is not None:
            self._denied.add(release.digest)
        attempts = self.record.attempts + (Effect.COUNT_ATTEMPT in effects)
        if Effect.MARK_GOOD in effects:
            self._write(state=after, good=self.record.trial, trial=None, words=words)
        elif after in RESTS:
            self._write(state=after, slots=self._without_trial(), trial=None, words=words)
        else:
            self._write(state=after, attempts=attempts, words=words)
        if Effect.RAISE_FLOOR in effects and release is not None:
            _raise_floor(self._floors, self._kind, release)
        return Step(before, event, after, release, tuple(e for e in effects if e not in _INWARD), words)

    def spend(self, powered_ns: int) -> Step | None:
        """Powered time with frames coming in; the step when that was too much of it for the state."""
        if self.state in RESTS:
            return None
        self._unsaved_ns += powered_ns
        spent_ns = self.record.spent_ns + self._unsaved_ns
        if spent_ns >= DEADLINES_NS[self.state]:
            return self.handle(Event.EXPIRED, f"{self.state} lasted {spent_ns // SECOND_NS} s")
        if self._unsaved_ns >= SAVE_EVERY_NS:
            self._slots.write(msgspec.structs.replace(self.record, spent_ns=spent_ns))
            self._unsaved_ns = 0
        return None

    def _without_trial(self) -> dict[Slot, Installed]:
        """What was good once: only that may ever be booted in the good slot's place."""
        return {slot: installed for slot, installed in self.record.slots.items() if slot is not self.record.trial}

    def _write(self, **changes: object) -> None:
        entered = changes.get("state", self.state) is not self.state
        if entered:
            self._unsaved_ns = 0
        spent = {"spent_ns": 0} if entered else {}
        self._slots.write(msgspec.structs.replace(self.record, **changes, **spent))


def settled(slots: Slots, floors: Floors, kind: Kind) -> Slot:
    """The slot to boot, re-hashed just now; and the floor is where the good one had brought it, also when a power cut
    came between the two."""
    good = slots.record.installed(slots.record.good)
    if good is not None:
        # Where the disk is full or failing the next start tries again, and none below the good one is taken meanwhile.
        with contextlib.suppress(DiskFault, DiskFull):
            _raise_floor(floors, kind, good)
    return slots.settle()


def _raise_floor(floors: Floors, kind: Kind, kept: Installed) -> None:
    # Lost floors refuse whatever comes next. What is good already boots all the same.
    with contextlib.suppress(FloorsLost):
        floors.raise_release(kind, kept.release)
