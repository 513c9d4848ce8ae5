"""Any one bit that flash forgets, in any file of a vehicle's updates: a release that was kept boots, no floor sinks, no
denial is lost and no attempt is refunded.
"""

from __future__ import annotations

import pytest

from ecu.clock import SteppingClock
from ecu.crashdisk import CrashDisk
from ota.audit import Audit
from ota.kinds import Kind
from ota.machine import Event, State
from ota.slots import Slot, Slots
from tests.crash.updates.laws import booted_release, files_below, opened
from tests.crash.updates.lives import changes
from tests.crash.updates.releases import digests_of
from tests.crash.updates.vehicle import Diary, Life, Promise

KINDS = (Kind.MODEL, Kind.CONFIG, Kind.RUNTIME, Kind.CAMPAIGN)


def in_a_trial(life: Life) -> None:
    """1 and 3 were kept, 2 was denied, and 5 is tried for the second time."""
    changes(life)
    if life.kind is Kind.CAMPAIGN:
        return
    life.install(5)
    if life.kind is Kind.RUNTIME:
        life.handle(Event.ALLOWED)
        life.launch("exit 1", "")
    else:
        life.restart()


def flipped(kind: Kind, every: int) -> int:
    """How many bits were flipped, one byte in so many: of each byte another bit."""
    disk, diary = CrashDisk(), Diary(kind)
    in_a_trial(Life(disk, diary))
    disk, promised = disk.after_shutdown(), diary.promises[-1]
    good = Slots(disk.after_shutdown(), kind).record.good
    count = 0
    for path in files_below(disk, ""):
        for byte in range(count % every, disk.size(path), every):
            its = disk.after_shutdown()
            its.flip_bit(path, 8 * byte + byte % 8)
            judge(diary, promised, its, path, is_of_good=path.startswith(f"{kind}/{good}/"))
            count += 1
    return count


def judge(diary: Diary, promised: Promise, disk: CrashDisk, path: str, is_of_good: bool) -> None:
    kind, where = diary.kind, f"a flipped bit in {path}"
    raw = Slots(disk.after_shutdown(), kind).record
    assert raw.attempts == promised.attempts, where
    trial, slots, floors, denied = opened(disk, kind)
    slot, _ = trial.begin(raw.trial if raw.state is State.TRIAL and raw.trial is not None else Slot.FACTORY)
    booted = booted_release(diary, slots, slot, disk)
    # Where the good one isn't whole any more, what was kept before it boots, or the factory's.
    kept = {promise.good for promise in diary.promises}
    assert booted == promised.good or (is_of_good and booted in kept), where
    assert (floors.release(kind), floors.bootable_from(kind)) == (promised.kept, promised.bootable_from), where
    assert {release for release, digest in digests_of(kind).items() if digest in denied} == promised.denied, where
    Audit(disk, SteppingClock(), "car-1").add("goes on", "")


@pytest.mark.parametrize("kind", KINDS)
def test_one_flipped_bit_in_a_hundred_costs_nothing_that_was_promised(kind: Kind) -> None:
    assert flipped(kind, every=101) > 100


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_no_flipped_bit_costs_anything_that_was_promised(kind: Kind) -> None:
    assert flipped(kind, every=1) > 10_000
