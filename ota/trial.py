"""One kind's trial: each step of the machine made durable, and the effects that are left for whoever runs the slots.

Order is what makes it safe at any instant: a digest is denied before the record says that it was rolled back; a slot
becomes good before the floor rises to it; and an attempt is counted before it begins. A start mends what a power cut
left between the two.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ecu.clock import SECOND_NS
from ecu.disk import DiskFault, DiskFull
from ota.attempts import verdict
from ota.denied import Denied
from ota.floors import Floors, FloorsLost
from ota.kinds import Kind
from ota.machine import ATTEMPTS, DEADLINES_NS, INWARD, LEFT_AT_MOST, RESTS, WAYS, Effect, Event, State, Way, step
from ota.slots import BootRecord, Installed, Slot, SlotDamaged, Slots

_LEFT: Final = f"; {LEFT_AT_MOST} times in a row: it isn't tried again until its fleet assigns it anew"

SAVE_EVERY_NS: Final = 10 * SECOND_NS
"""How much powered time a power cut may give back to a deadline."""


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
        self._way = WAYS[kind]
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

    def begin(self, running: Slot = Slot.FACTORY) -> tuple[Slot, Step | None]:
        """At every start of the agent: the slot to boot and the step that a trial takes by it. Both slots are re-hashed
        before anything runs from them. Of a kind that only another start can try, `running` is what was started."""
        good = settled(self._slots, self._floors, self._kind)
        if self.state in RESTS:
            return good, None
        if self._was_found_worse():
            return good, self.handle(Event.UNFIT, "it was found worse just before the agent began again")
        if self._way is Way.BOOTED:
            # Only the bootloader knows what runs, and isn't asked here.
            return good, self.handle(Event.RESTARTED, "the agent began again")
        if self._way is Way.STARTED and running is self.record.trial:
            return good, self.handle(Event.STARTED, "it was started")
        return good, self._begin_again()

    def _begin_again(self) -> Step:
        damage = self._damage()
        if self.state is State.TRIAL:
            # What was started ended, and what was good before runs again.
            return self.handle(Event.DAMAGED, damage) if damage else self.handle(*verdict(self.record.boots))
        again = self.handle(Event.RESTARTED, "the agent began again")
        # What only a start can try has begun as often as it was counted; what is tried here begins once more just now.
        if self.record.attempts + (self._way is Way.STARTED) > ATTEMPTS:
            return self.handle(Event.EXHAUSTED, f"the agent began again in each of {ATTEMPTS} attempts")
        return self.handle(Event.DAMAGED, damage) if damage else again

    def _damage(self) -> str:
        """What flash did to what is tried, in words; "" where it is whole."""
        assert self.record.trial is not None
        try:
            self._slots.demand_bootable(self.record.trial)
        except SlotDamaged as damage:
            return str(damage)
        return ""

    def _was_found_worse(self) -> bool:
        """Whether a power cut came between its denial and the record of it. What can't be read says no: then it is
        judged again."""
        with contextlib.suppress(DiskFault):
            return self.release is not None and self.release.digest in self._denied
        return False

    # --- steps ------------------------------------------------------------------------------------

    def stage(self, slot: Slot, installed: Installed, comes_again: bool = False) -> Step:
        """A sealed slot begins its trial, or is kept at once: what is tried by nobody, and what `comes_again` since
        nothing of its kind is left that may run. Raises DiskFull, and nothing is begun, where it couldn't be denied or
        kept."""
        self._denied.make_room()
        self._floors.make_room()
        before = self.state
        after, effects = step(Way.AT_ONCE if comes_again else self._way, before, Event.DOWNLOADED)
        if Effect.MARK_GOOD in effects:
            self._keep(slot, installed, after, "it was kept before" if comes_again else "it is whole")
        else:
            # Each start of what only a start can try is counted by whoever starts it, each installation when it begins.
            attempts = 0 if self._way in (Way.STARTED, Way.BOOTED) else 1
            slots = {**self.record.slots, slot: installed}
            self._write(state=after, trial=slot, attempts=attempts, boots=[], slots=slots, words="")
        return Step(before, Event.DOWNLOADED, after, installed, _outward(effects), self.record.words)

    def handle(self, event: Event, words: str) -> Step:
        """Takes the step. Raises NoSuchStep for a bug."""
        before, release = self.state, self.release
        after, effects = step(self._way, before, event)
        if Effect.DENY in effects and release is not None:
            self._denied.add(release.digest)
        if Effect.MARK_GOOD in effects and release is not None and self.record.trial is not None:
            self._keep(self.record.trial, release, after, words)
        elif after in RESTS:
            left = self._left_by(event, after)
            is_too_often = left != self.record.left and max(left.values()) >= LEFT_AT_MOST
            words = f"{words}{_LEFT}" if is_too_often else words
            self._write(state=after, slots=self._without_trial(), trial=None, boots=[], words=words, left=left)
        else:
            attempts = self.record.attempts + (Effect.COUNT_ATTEMPT in effects)
            self._write(state=after, attempts=attempts, words=words)
        return Step(before, event, after, release, _outward(effects), words)

    def spend(self, powered_ns: int) -> Step | None:
        """Eligible powered time; the step when that was too much of it for the state."""
        if self.state in RESTS:
            return None
        self._unsaved_ns += powered_ns
        spent_ns = self.record.spent_ns + self._unsaved_ns
        if spent_ns >= DEADLINES_NS[self._way][self.state]:
            return self.handle(Event.EXPIRED, f"{self.state} lasted {spent_ns // SECOND_NS} s")
        if self._unsaved_ns >= SAVE_EVERY_NS:
            self._slots.write(msgspec.structs.replace(self.record, spent_ns=spent_ns))
            self._unsaved_ns = 0
        return None

    def _keep(self, slot: Slot, release: Installed, after: State, words: str) -> None:
        """Its slot becomes the good one, and then the floors rise to it."""
        least = max(self.record.bootable_from, release.minimum_bootable)
        slots = {**self.record.slots, slot: release}
        self._write(state=after, good=slot, trial=None, boots=[], slots=slots, bootable_from=least, words=words)
        _raise_floor(self._floors, self._kind, release)

    def _left_by(self, event: Event, after: State) -> dict[str, int]:
        """What was cancelled or damaged here has shown nothing, not even that."""
        left, release = self.record.left, self.release
        is_left = after is State.INCONCLUSIVE and event not in (Event.CANCELLED, Event.DAMAGED)
        if not is_left or release is None or self._way not in (Way.STARTED, Way.BOOTED):
            return left
        return {release.digest: left.get(release.digest, 0) + 1}

    def _without_trial(self) -> dict[Slot, Installed]:
        """What was good once: only that may ever be booted in the good slot's place."""
        return {slot: installed for slot, installed in self.record.slots.items() if slot is not self.record.trial}

    def _write(self, **changes: Any) -> None:
        entered = changes.get("state", self.state) is not self.state
        if entered:
            self._unsaved_ns = 0
        spent = {"spent_ns": 0} if entered else {}
        self._slots.write(msgspec.structs.replace(self.record, **changes, **spent))


def settled(slots: Slots, floors: Floors, kind: Kind) -> Slot:
    """The slot to boot, re-hashed just now; and the floor is where the good one had brought it, also when a power cut
    came between the two."""
    good_slot = slots.record.good
    good = slots.record.installed(good_slot)
    if good is not None:
        # Where the disk is full or failing the next start tries again, and none below the good one is taken meanwhile.
        with contextlib.suppress(DiskFault, DiskFull):
            _raise_floor(floors, kind, good)
    # What lies in a system's slot here is only its bundle: the bootloader looks after what runs.
    return good_slot if WAYS[kind] is Way.BOOTED else slots.settle()


def below_bootable(slots: Slots, floors: Floors, kind: Kind, slot: Slot) -> str:
    """Why what lies in the slot may not run but to be updated, in words; "" where it may."""
    its = slots.record.installed(slot)
    least = slots.record.bootable_from
    with contextlib.suppress(FloorsLost, DiskFault):
        least = max(least, floors.bootable_from(kind))
    release = its.release if its is not None else 0
    if release >= least:
        return ""
    what = its.title if its is not None else f"the factory's {kind}"
    return f"What is left is {what}, and a release that was kept since says that none below {least} may run any more."


def _outward(effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
    return tuple(effect for effect in effects if effect not in INWARD)


def _raise_floor(floors: Floors, kind: Kind, kept: Installed) -> None:
    # Lost floors refuse whatever comes next. What is good already boots all the same.
    with contextlib.suppress(FloorsLost):
        floors.raise_release(kind, kept.release, kept.minimum_bootable)
