"""What must hold of a vehicle's updates after a cut: the invariants of docs/updates.md.

(1) an allowed release boots, whole; (2) no half slot is named; (3) a retry finishes; (4) no floor falls; (5) what was
acknowledged stays; (6) no release is tried more often than it may be; and what is under trial takes nothing from what
is good.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ecu.clock import SteppingClock
from ecu.crashdisk import CrashDisk, CrashState
from ecu.disk import Disk
from ota import launcher
from ota.audit import Audit
from ota.denied import Denied
from ota.floors import Floors
from ota.kinds import Kind
from ota.machine import ATTEMPTS, RESTS, WAYS, Event, State, can_happen
from ota.slots import BootRecord, Installed, Slot, SlotDamaged, Slots
from ota.trial import Trial
from tests.crash.updates.releases import RELEASES, contents, digests_of
from tests.crash.updates.vehicle import KEPT, Diary, Life, Promise

OF_NO_STATE = ("update_refused", "delta_unfit")
"""What the audit tells that changes no state."""

Named = Mapping[Slot, Installed]
_NOTHING: Named = {}


def opened(disk: Disk, kind: Kind) -> tuple[Trial, Slots, Floors, Denied]:
    slots, floors, denied = Slots(disk, kind), Floors(disk), Denied(disk)
    return Trial(slots, floors, denied, kind), slots, floors, denied


def booted_release(diary: Diary, slots: Slots, slot: Slot, disk: Disk) -> int:
    """The release whose every byte lies in that slot; 0 for the factory's."""
    if slot is Slot.FACTORY:
        return 0
    found = files_below(disk, str(slots.path(slot)))
    return next(release for release in RELEASES if contents(diary.kind, release, diary.supply.model_bytes) == found)


def files_below(disk: Disk, folder: str, prefix: str = "") -> dict[str, bytes]:
    found = dict[str, bytes]()
    for name in disk.names(folder):
        inside = f"{folder}/{name}" if folder else name
        if disk.is_folder(inside):
            found |= files_below(disk, inside, f"{prefix}{name}/")
        else:
            found[prefix + name] = disk.read(inside)
    return found


def holds(diary: Diary, state: CrashState) -> None:
    """The laws, of one state that a cut may leave; and of the same with one twin of each record lost after it."""
    was, may = diary.around(state)
    named = demand(diary, was, may, state.disk.after_shutdown())
    looked = ("floors.metadata",) if diary.supply.is_signed else ()
    for name in (f"{diary.kind}/boot", "floors.release", *looked):
        is_there = any(state.disk.exists(f"{name}.{twin}") for twin in (0, 1))
        whole = are_whole(state.disk, name)
        assert whole or not (is_there and diary.is_quiet(state)), f"{name} is promised, and is there once"
        for twin in (0, 1) if whole else ():
            disk = state.disk.after_shutdown()
            disk.flip_bit(f"{name}.{twin}", 8 * 30)
            demand(diary, was, may, disk, named)


def are_whole(disk: CrashDisk, name: str) -> bool:
    """Both twins of a record. One fault after another: a block that the cut tore is one already."""
    return all(
        disk.exists(f"{name}.{twin}") and launcher.decode(disk.read(f"{name}.{twin}"), twin) is not None
        for twin in (0, 1)
    )


def demand(diary: Diary, was: Promise, may: Promise, disk: CrashDisk, whole: Named = _NOTHING) -> Named:
    """The slots that are named, each of them whole; those of `whole` were seen to be."""
    kind = diary.kind
    digests = digests_of(kind, diary.supply.model_bytes)
    left = disk.after_shutdown()
    slots, floors, denied = Slots(left, kind), Floors(left), Denied(left)
    raw = slots.record
    _demand_whole_slots(slots, whole, {was.damaged, may.damaged})
    if was.tried and was.tried == may.tried and may.attempts >= was.attempts:
        trial = raw.installed(raw.trial) if raw.trial is not None else None
        assert trial is not None, "an acknowledged install is gone"
        assert trial.digest == digests[was.tried]
        assert raw.state not in RESTS
        assert was.attempts <= raw.attempts <= max(was.attempts, may.attempts), "an attempt was refunded"
    assert raw.attempts <= ATTEMPTS + 1
    assert raw.state in (was.state, may.state), f"{raw.state}, and it was {was.state}"
    if _demand_told(was, disk):
        # What the audit tells is so, or was so before a start mended it.
        good = raw.installed(raw.good)
        assert raw.state is may.state, f"the audit says {may.told[-1]}, and it is {raw.state}"
        assert (good.release if good is not None else 0) == may.good, f"the audit tells of {may.good}, {good} is good"
    _demand_floors(was, may, raw, floors, kind)
    _demand_metadata(was, floors)
    if raw.state is may.state is State.ROLLED_BACK and was.state is not State.ROLLED_BACK:
        assert all(digests[release] in denied for release in may.denied), "denied too late"
    _demand_start(diary, was, may, disk, raw)
    return raw.slots


def _demand_start(diary: Diary, was: Promise, may: Promise, disk: CrashDisk, raw: BootRecord) -> None:
    """What the agent makes of it when it begins."""
    kind = diary.kind
    trial, slots, floors, denied = opened(disk, kind)
    slot, _ = trial.begin(raw.trial if raw.trial is not None and raw.state is State.TRIAL else Slot.FACTORY)
    booted = booted_release(diary, slots, slot, disk)
    assert booted in {was.good, may.good}, f"release {booted} boots"
    assert was.kept <= floors.release(kind) <= max(was.kept, may.kept)
    assert floors.release(kind) >= booted
    assert floors.bootable_from(kind) >= was.bootable_from, "what may boot sank"
    assert slots.record.bootable_from >= was.bootable_from
    digests = digests_of(kind, diary.supply.model_bytes)
    wrong = {release for release, digest in digests.items() if (digest in denied) != (release in was.denied)}
    assert wrong <= was.denied ^ may.denied, f"denied or not: {wrong}"
    assert trial.release is None or trial.release.digest not in denied


def _demand_told(was: Promise, disk: CrashDisk) -> bool:
    """Whether it tells of another state than was promised."""
    audit = Audit(disk.after_shutdown(), SteppingClock(), "car-1")
    told = tuple(entry.event for entry in audit.entries())
    assert told[: len(was.told)] == was.told, "the audit forgot"
    assert audit.first_break() is None
    return any(event not in OF_NO_STATE for event in told[len(was.told) :])


def _demand_floors(was: Promise, may: Promise, record: BootRecord, floors: Floors, kind: Kind) -> None:
    """Before a start mends anything: no floor sinks, and none rises before the release that it is for is kept."""
    assert floors.release(kind) >= was.kept, "the floor of releases sank"
    assert floors.bootable_from(kind) >= was.bootable_from, "what may boot sank"
    good = record.installed(record.good)
    if floors.release(kind) > was.kept:
        assert good is not None, "a floor rose before anything was kept"
        assert good.release == may.good, "a floor rose before its release was kept"


def _demand_metadata(was: Promise, floors: Floors) -> None:
    if was.versions:
        seen = floors.versions
        sunk = {role for role, version in was.versions.items() if seen.get(role, 0) < version}
        assert not sunk, f"the floors of {sunk} sank"
        assert floors.signed_at_s >= was.signed_at_s, "the time sank"


def _demand_whole_slots(slots: Slots, whole: Named, damaged: Collection[int]) -> None:
    for slot, its in slots.record.slots.items() - whole.items():
        if its.release in damaged:
            continue
        try:
            slots.demand_bootable(slot)
        except SlotDamaged as damage:
            raise AssertionError(f"a slot is named and isn't whole: {damage}") from damage


def can_be_finished(diary: Diary, state: CrashState) -> None:
    """What was signed before the newest that was seen is refused, and the next release comes."""
    was, _ = diary.around(state)
    for release in diary.supply.before(was.signed_at_s)[-1:]:
        life = Life(state.disk.after_shutdown(), Diary(diary.kind, diary.supply))
        life.refuse(release)
    finish(diary, state.disk)


def finish(diary: Diary, disk: CrashDisk) -> None:
    """Whatever was cut short, the next release is installed and kept."""
    life = Life(disk, Diary(diary.kind, diary.supply))
    now = life.updates.slots(diary.kind).record.state
    if now not in RESTS:
        event = Event.CANCELLED if can_happen(WAYS[diary.kind], now, Event.CANCELLED) else Event.EXPIRED
        life.updates.handle(diary.kind, event, "asked to")
    life.try_and(9, KEPT[life.way])
    trial, slots, _, _ = opened(disk.after_shutdown(), diary.kind)
    assert booted_release(diary, slots, trial.begin()[0], disk) == 9
