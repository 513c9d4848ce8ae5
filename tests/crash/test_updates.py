"""Slots, floors and trials when the power goes: always an allowed release boots, and nothing is forgotten."""

from __future__ import annotations

from functools import cache

from ecu.crashdisk import CrashDisk, CrashState, violation
from ecu.disk import Disk
from ota.denied import Denied
from ota.fetch import fetch_bundle
from ota.floors import Floors
from ota.kinds import Kind
from ota.landing import Progress
from ota.machine import ATTEMPTS, RESTS, Event, State
from ota.manifest import BundleManifest, bundle_digest, encode_manifest, file_entry
from ota.slots import Slot, Slots
from ota.trial import Trial
from tests.ota.changed import Held


@cache
def contents(release: int) -> dict[str, bytes]:
    return {"model.json": f"release {release}".encode(), "model.onnx": bytes([release]) * 5_000}


@cache
def manifest_of(release: int) -> BundleManifest:
    files = tuple(file_entry(name, iter([data])) for name, data in sorted(contents(release).items()))
    return BundleManifest(
        kind=Kind.MODEL, name="drive", version=f"{release}.0", release=release, hardware=("any",), files=files
    )


def digest_of(release: int) -> str:
    return bundle_digest(encode_manifest(manifest_of(release)))


def opened(disk: Disk) -> tuple[Trial, Slots, Floors, Denied]:
    slots, floors, denied = Slots(disk, Kind.MODEL), Floors(disk), Denied(disk)
    return Trial(slots, floors, denied, Kind.MODEL), slots, floors, denied


def unwatched(_: Progress) -> None: ...


def tried(disk: Disk, release: int, *events: Event) -> None:
    trial, slots, _, _ = opened(disk)
    trial.begin()
    slot = slots.record.spare
    slots.empty(slot)
    fetch_bundle(Held(*contents(release).values()), manifest_of(release), slots, slot, unwatched)
    trial.stage(slot, slots.seal(slot, encode_manifest(manifest_of(release))))
    for event in events:
        trial.handle(event, f"release {release}")


COMMITS = (Event.LOADED, Event.PASSED, Event.PROVEN)


def life(disk: CrashDisk) -> None:
    """1 is kept, 2 is denied, 3 is kept over 1, 4 is left without an answer."""
    disk.mark("begun 1")
    tried(disk, 1, *COMMITS)
    disk.mark("kept 1")
    tried(disk, 2, Event.LOADED, Event.FAILED)
    disk.mark("denied 2")
    disk.mark("begun 3")
    tried(disk, 3, *COMMITS)
    disk.mark("kept 3")
    tried(disk, 4, Event.LOADED, Event.UNDECIDED)
    disk.mark("left 4")


def latest(state: CrashState, kind: str) -> int:
    return max((int(mark.split()[1]) for mark in state.acknowledged if mark.split()[0] == kind), default=0)


def booted_release(slots: Slots, slot: Slot, disk: Disk) -> int:
    """The release whose every byte lies in that slot; 0 for the factory's."""
    if slot is Slot.FACTORY:
        return 0
    folder = str(slots.path(slot))
    found = {name: disk.read(f"{folder}/{name}") for name in disk.names(folder)}
    return next(release for release in (1, 2, 3, 4) if contents(release) == found)


def an_allowed_release_boots(state: CrashState) -> None:
    trial, slots, floors, denied = opened(state.disk)
    slot, _ = trial.begin()
    release = booted_release(slots, slot, state.disk)
    assert release in (0, 1, 3), "only what was kept ever boots"
    assert latest(state, "kept") <= release <= max(latest(state, "begun"), latest(state, "kept"))
    assert floors.release(Kind.MODEL) == release, "what boots is the floor"
    assert (digest_of(2) in denied) or not latest(state, "denied")
    assert digest_of(4) not in denied
    assert trial.release is None or trial.release.digest not in denied, "nothing that was found worse is tried"


def whatever_was_cut_short_can_be_finished(state: CrashState) -> None:
    trial, *_ = opened(state.disk)
    trial.begin()
    if trial.state not in RESTS:
        trial.handle(Event.CANCELLED, "asked to")
    tried(state.disk, 4, *COMMITS)
    trial, slots, _, _ = opened(state.disk)
    assert booted_release(slots, trial.begin()[0], state.disk) == 4


def test_at_any_instant_an_allowed_release_boots_and_nothing_acknowledged_is_forgotten() -> None:
    assert violation(life, an_allowed_release_boots, CrashDisk()) is None


def test_after_any_power_cut_the_next_release_can_be_installed() -> None:
    disk = CrashDisk()
    life(disk)
    for number, state in enumerate(disk.after_crash()):
        # One in seven: each is a whole install.
        if number % 7 == 0:
            whatever_was_cut_short_can_be_finished(state)


def test_a_trial_that_never_ends_well_is_given_up_after_its_attempts() -> None:
    disk = CrashDisk()
    tried(disk, 1, Event.LOADED, Event.PASSED)
    states = []
    for _ in range(ATTEMPTS + 2):
        trial, *_ = opened(disk)
        slot, _ = trial.begin()
        assert slot is Slot.FACTORY
        states.append(trial.state)
        if trial.state not in RESTS:
            trial.handle(Event.LOADED, "")
    assert states == [*[State.STAGED] * (ATTEMPTS - 1), *[State.INCONCLUSIVE] * 3]


def test_any_flipped_bit_leaves_a_release_that_boots_and_lowers_no_floor() -> None:
    whole = CrashDisk()
    tried(whole, 1, *COMMITS)
    tried(whole, 3, *COMMITS)
    for path in ("model/boot.0", "model/boot.1", "floors.release.0", "floors.release.1", "model/a/bundle.json",
                 "model/b/bundle.json", "model/b/files/model.onnx", "model/a/files/model.onnx", "denied"):  # fmt: skip
        for byte in (0, 5, 13, 40, 70):
            disk = whole.after_shutdown()
            if not disk.exists(path):
                continue
            was = disk.read_at(path, byte, 1)
            disk.write_at(path, byte, bytes([was[0] ^ 16]))
            trial, slots, floors, _ = opened(disk)
            assert booted_release(slots, trial.begin()[0], disk) in (1, 3)
            assert floors.release(Kind.MODEL) == 3
