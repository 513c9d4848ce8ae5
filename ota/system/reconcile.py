"""What happened to a system's trial while nobody of ours was running, and what to tell the bootloader now: a pure
function of our record and of what the bootloader and RAUC say, which are right where the two differ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from ota.machine import RESTS, Event, State
from ota.slots import BootRecord
from ota.system.placed import Notes
from ota.system.port import Marking, Reading, SystemSlot


class Found(StrEnum):
    """What runs, seen from what should."""

    GOOD = "good"  # what was kept, or what the vehicle was delivered with
    TRIAL = "trial"  # what was armed
    WAITS = "waits"  # what was armed, or is to be, has had no start yet
    FELL_BACK = "fell_back"  # what was armed had its starts, and the bootloader went back
    REPLACED = "replaced"  # somebody else wrote over what was installed for the trial
    UNASKED = "unasked"  # what was never armed, or was given up: the computer has to go back
    OLDER = "older"  # the bootloader went back to what was good before what was kept
    FOREIGN = "foreign"  # nothing that was installed from here: somebody did by hand
    UNKNOWN = "unknown"  # none of RAUC's slots runs


@dataclass(frozen=True, slots=True)
class Known:
    """What our record says. `good` and `trial` are digests of manifests, "" being what the vehicle was delivered with;
    `once` those that were good before."""

    state: State
    good: str
    trial: str | None
    once: frozenset[str]
    notes: Notes

    def lies_in(self, slot: str, reading: Reading) -> str | None:
        """The release that lies whole in the slot; None for what we know nothing of, or didn't finish."""
        placed = self.notes.of_slot(slot)
        if placed is None:
            runs = any(known.runs for known in reading.slots if known.name == slot)
            return "" if runs and not self.good and not self.notes.placed else None
        return placed.digest if placed.images == reading.images(slot) else None

    def was_good(self, digest: str | None) -> bool:
        """Or is."""
        return digest is not None and digest in {"", self.good, *self.once}


def known_of(record: BootRecord, notes: Notes) -> Known:
    good, trial = record.installed(record.good), record.installed(record.trial) if record.trial is not None else None
    others = [slot for slot in record.slots if slot not in (record.good, record.trial)]
    return Known(
        record.state,
        good.digest if good is not None else "",
        trial.digest if trial is not None else None,
        frozenset(record.slots[slot].digest for slot in others),
        notes,
    )


@dataclass(frozen=True, slots=True)
class Finding:
    """What happened, in words for people; the event of it for the trial; what the bootloader is to be told, in this
    order; whether the computer has to restart for it, once it may; and the release that lies in what runs."""

    found: Found
    words: str
    event: Event | None = None
    marks: tuple[tuple[Marking, str], ...] = ()
    restart: bool = False
    lies: str | None = None


def reconcile(known: Known, reading: Reading, boot_id: str) -> Finding:
    """`boot_id` is this boot of the computer's. Whatever runs and was good before is called so again: bootloaders count
    every start."""
    booted = reading.booted
    if booted is None:
        return Finding(Found.UNKNOWN, "RAUC knows of no slot that this system was started from")
    finding, lies = _found(known, reading, booted, boot_id), known.lies_in(booted.name, reading)
    good = ((Marking.GOOD, booted.name),) if known.was_good(lies) else ()
    return replace(finding, marks=(*good, *finding.marks), lies=lies)


def _found(known: Known, reading: Reading, booted: SystemSlot, boot_id: str) -> Finding:
    match known.state:
        case State.ARMED:
            return _armed(known, reading, booted, boot_id)
        case State.TRIAL:
            return _tried(known, reading, booted)
        case _:
            return _untried(known, reading, booted)


def may_be_called_good(known: Known, reading: Reading) -> str | None:
    """The slot of the release under trial, while it runs and is whole; None otherwise."""
    booted = reading.booted
    if known.state is not State.TRIAL or booted is None or known.trial is None:
        return None
    return booted.name if known.lies_in(booted.name, reading) == known.trial else None


def where_trial_lies(known: Known, reading: Reading) -> str | None:
    """The slot that holds the release under trial, whole; None where none does any more."""
    placed = known.notes.of_release(known.trial) if known.trial is not None else None
    return placed.slot if placed is not None and placed.images == reading.images(placed.slot) else None


def way_back(known: Known, reading: Reading) -> tuple[tuple[Marking, str], ...]:
    """What makes the next start take what is good, and none take what was tried: nothing, where what is good may not
    start, or what runs isn't ours to judge."""
    booted, good = reading.booted, _good_slot(known, reading)
    if booted is None or good is None or not _is_ours(known, reading, booted.name):
        return ()
    given_up = [placed.slot for placed in known.notes.placed if not known.was_good(placed.digest)]
    bad = [slot for slot in given_up if slot != good and _is_ours(known, reading, slot)]
    if not bad and known.was_good(known.lies_in(booted.name, reading)):
        return ()  # nothing was ever tried
    return ((Marking.ACTIVE, good), *((Marking.BAD, slot) for slot in bad))


def _armed(known: Known, reading: Reading, booted: SystemSlot, boot_id: str) -> Finding:
    slot = where_trial_lies(known, reading)
    if slot is None:
        return Finding(Found.REPLACED, "its slot doesn't hold what was installed there any more", Event.DAMAGED)
    if booted.name == slot:
        return Finding(Found.TRIAL, f"the bootloader started it from {booted.name}", Event.STARTED)
    if known.notes.told in ("", boot_id):
        return Finding(Found.WAITS, "the computer hasn't restarted since it was armed")
    tried = reading.slot(slot)
    if tried is not None and tried.is_bad:
        return Finding(
            Found.FELL_BACK, f"the bootloader gave {slot} up before it came to itself", Event.UNFIT
        )  # fmt: skip
    return Finding(Found.FELL_BACK, f"the bootloader started {booted.name} instead, and says not why", Event.EXHAUSTED)


def _tried(known: Known, reading: Reading, booted: SystemSlot) -> Finding:
    slot = where_trial_lies(known, reading)
    if slot is None:
        return Finding(Found.REPLACED, "its slot doesn't hold what was installed there any more", Event.DAMAGED)
    if booted.name == slot:
        return Finding(Found.TRIAL, f"the bootloader started it from {booted.name}", Event.STARTED)
    # It came to itself. Whether it ended then or was cut off with the power, nobody saw.
    return Finding(Found.FELL_BACK, f"the bootloader went back to {booted.name}", Event.EXHAUSTED)


def _untried(known: Known, reading: Reading, booted: SystemSlot) -> Finding:
    """At rest, or before anything was armed."""
    lies = known.lies_in(booted.name, reading)
    if not _is_ours(known, reading, booted.name):
        return Finding(Found.FOREIGN, f"{booted.name} runs, and nothing that was installed from here lies in it")
    if lies == known.good:
        return _good(known, reading, booted)
    if known.was_good(lies):
        return Finding(Found.OLDER, f"the bootloader went back to {booted.name}, which was good before")
    if known.state is State.COMMITTED:
        # What was given up before the good one was kept has been written over for it: it's our record that is missing.
        return Finding(Found.FOREIGN, f"{booted.name} runs, and our record doesn't say that it was kept")
    marks = way_back(known, reading)
    words = f"{booted.name} runs, and what lies in it was never armed or was given up"
    words = words if marks else f"{words}; nothing good is left to go back to"
    return Finding(Found.UNASKED, words, None, marks, bool(marks))


def _good(known: Known, reading: Reading, booted: SystemSlot) -> Finding:
    """An installer that tells the bootloader by itself, and a power cut before it was told otherwise."""
    placed = known.notes.of_slot(reading.primary) if reading.primary is not None else None
    is_unasked = placed is not None and placed.slot != booted.name and placed.digest != known.good
    marks = ((Marking.ACTIVE, booted.name),) if is_unasked else ()
    return Finding(Found.WAITS if known.state not in RESTS else Found.GOOD, f"{booted.name} runs", None, marks)


def _is_ours(known: Known, reading: Reading, slot: str) -> bool:
    """Whether what lies there came from here, all of it or as far as it was written."""
    placed = known.notes.of_slot(slot)
    return known.lies_in(slot, reading) is not None or (placed is not None and placed.images is None)


def _good_slot(known: Known, reading: Reading) -> str | None:
    """Where the good release lies whole, in a slot that the bootloader takes."""
    for slot in reading.slots:
        if slot.bootname and not slot.is_bad and known.lies_in(slot.name, reading) == known.good:
            return slot.name
    return None
