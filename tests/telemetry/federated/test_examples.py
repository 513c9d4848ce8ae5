"""The example store: bounded, encrypted, expiring, and empty for good once its purpose is purged."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.clock import SECOND_NS
from ecu.crashdisk import CrashDisk
from ecu.disk import DiskDenied, DiskFault, DiskFull, DiskStarved
from ecu.keys import MemoryKeyStore
from telemetry.federated.examples import Example, ExampleLimits, ExampleStore, Now, Why, age_ns
from tests.telemetry.spool.rig import seeded_entropy

DAY_NS = 24 * 3600 * SECOND_NS
WALL_NS = 1_800_000_000 * SECOND_NS
NOW = Now("boot-1", 5 * DAY_NS, WALL_NS)
LIMITS = ExampleLimits(most=5, max_bytes=100_000, days=30.0)
KEYS = MemoryKeyStore()


def later(days: float, boot: str = "boot-1", trusted: bool = True) -> Now:
    passed_ns = round(days * DAY_NS)
    return Now(boot, NOW.boot_ns + passed_ns, WALL_NS + passed_ns if trusted else None)


def example(number: int, label: str = "red", size: int = 8, now: Now = NOW) -> Example:
    pixels = hashlib.shake_256(f"crop {number}".encode()).digest(size * size * 3)
    return Example(pixels, size, label, "drive", now)


def opened(disk: CrashDisk, limits: ExampleLimits = LIMITS, now: Now = NOW, seed: int = 1) -> ExampleStore:
    return ExampleStore.open(disk, KEYS, seeded_entropy(seed), limits, now)


def dropped(store: ExampleStore) -> dict[str, int]:
    assert store.counts().holds, store.counts()
    return dict(store.counts().dropped)


def test_what_was_put_comes_back_as_it_was_also_after_a_start() -> None:
    disk = CrashDisk()
    store = opened(disk)
    there = [example(1), example(2, "green"), example(3)]
    assert [store.put(one) for one in there] == [None] * 3
    assert store.read(NOW) == there
    again = opened(disk, seed=2)
    assert again.read(NOW) == there
    assert again.by_class() == {"green": 1, "red": 2}
    assert (again.counts().found, again.counts().kept) == (3, 3)


def test_neither_pixels_nor_class_nor_source_nor_time_can_be_read_from_flash() -> None:
    disk = CrashDisk()
    told = example(1, "yellow")
    opened(disk).put(told)
    everything = b"".join(disk.read(name) for name in disk.names(""))
    for secret in (told.pixels[:16], b"yellow", b"drive", b"boot-1", WALL_NS.to_bytes(8, "big")):
        assert secret not in everything


@given(count=st.integers(0, 12), most=st.integers(0, 6))
def test_there_are_never_more_than_the_most_and_the_newest_stay(count: int, most: int) -> None:
    disk = CrashDisk()
    store = opened(disk, replace(LIMITS, most=most))
    there = [example(number) for number in range(count)]
    for one in there:
        store.put(one)
        assert store.counts().kept <= most
    assert store.read(NOW) == there[max(0, count - most) :]
    assert dropped(store) == ({"oldest": count - most} if count > most else {})
    assert opened(disk, replace(LIMITS, most=most), seed=2).read(NOW) == store.read(NOW)


def test_there_are_never_more_bytes_than_the_most() -> None:
    disk = CrashDisk()
    store = opened(disk, replace(LIMITS, most=100, max_bytes=2000))
    for number in range(20):
        store.put(example(number))
        size = sum(disk.size(name) for name in disk.names("") if name.endswith(".ex"))
        assert size == store.counts().kept_bytes <= 2000
    assert store.counts().kept > 2
    assert dropped(store) == {"oldest": 20 - store.counts().kept}


def test_one_too_large_costs_no_other() -> None:
    store = opened(CrashDisk(), replace(LIMITS, max_bytes=2000))
    store.put(example(1))
    assert store.put(example(2, size=20)) is Why.TOO_LARGE
    assert store.read(NOW) == [example(1)]
    assert dropped(store) == {"too_large": 1}


def test_the_same_again_is_kept_once_but_the_same_by_another_name_isnt_the_same() -> None:
    store = opened(CrashDisk())
    store.put(example(1))
    assert store.put(example(1)) is Why.DUPLICATE
    assert store.put(example(1, "green")) is None
    assert store.counts().kept == 2
    assert dropped(store) == {"duplicate": 1}


def test_lower_limits_hold_from_the_next_start_on() -> None:
    disk = CrashDisk()
    store = opened(disk)
    for number in range(4):
        store.put(example(number))
    assert opened(disk, replace(LIMITS, most=2), seed=2).read(NOW) == [example(2), example(3)]


# --- time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("taken", "now", "days"),
    [
        (NOW, later(3), 3),
        (replace(NOW, wall_ns=None), later(3), 3),  # one boot: boot time never jumps
        (NOW, replace(later(3, trusted=False)), 3),
        (NOW, Now("boot-2", DAY_NS, WALL_NS + 9 * DAY_NS), 9),
        (NOW, Now("boot-2", 2 * DAY_NS, None), 2),  # at least as long as this boot is
        (replace(NOW, wall_ns=WALL_NS + 40 * DAY_NS), later(3), 3),  # whatever the wall clock said meanwhile
    ],
)
def test_an_age_is_by_boot_time_within_a_boot_and_else_by_trusted_time(taken: Now, now: Now, days: int) -> None:
    assert age_ns(taken, now) == days * DAY_NS


def test_an_example_is_gone_after_its_days_and_not_before() -> None:
    disk = CrashDisk()
    store = opened(disk)
    store.put(example(1))
    store.put(example(2, now=later(10)))
    assert len(store.read(later(30))) == 2
    assert store.read(later(30.001)) == [example(2, now=later(10))]
    assert dropped(store) == {"expired": 1}
    assert len([name for name in disk.names("") if name.endswith(".ex")]) == 1
    assert opened(disk, now=later(41), seed=2).counts().dropped == {"expired": 1}


def test_what_was_taken_before_anybody_knew_the_time_is_dated_once_somebody_does() -> None:
    disk = CrashDisk()
    unsure = replace(NOW, wall_ns=None)
    opened(disk, now=unsure).put(example(1, now=unsure))
    store = opened(disk, now=later(2), seed=2)
    assert store.read(later(2))[0].taken == NOW
    # And so it is known in the next boot how old it is.
    again = opened(disk, now=Now("boot-2", 0, WALL_NS + 31 * DAY_NS), seed=3)
    assert dropped(again) == {"expired": 1}


def test_what_was_never_dated_doesnt_outlive_its_boot() -> None:
    disk = CrashDisk()
    unsure = replace(NOW, wall_ns=None)
    opened(disk, now=unsure).put(example(1, now=unsure))
    store = opened(disk, now=Now("boot-2", 0, WALL_NS), seed=2)
    assert store.read(NOW) == []
    assert dropped(store) == {"undated": 1}


# --- purge and damage ---------------------------------------------------------------------------------


class Watched(MemoryKeyStore):
    """Remembers every key that it sealed, and in which bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.sealed: list[bytes] = []

    def seal(self, label: str, plain: bytes) -> bytes:
        self.sealed.append(super().seal(label, plain))
        return self.sealed[-1]


def test_a_purge_destroys_the_key_in_both_twins_and_all_files() -> None:
    disk, keys = CrashDisk(), Watched()
    store = ExampleStore.open(disk, keys, seeded_entropy(1), LIMITS, NOW)
    for number in range(3):
        store.put(example(number))
    (sealed,) = keys.sealed
    assert any(sealed in disk.read(name) for name in ("keys.0", "keys.1"))
    assert store.purge() == 3
    assert not any(sealed in disk.read(name) for name in disk.names(""))
    assert not [name for name in disk.names("") if name.endswith(".ex")]
    assert dropped(store) == {"purged": 3}
    assert store.by_class() == {}


def test_files_that_survive_a_purge_decrypt_for_nobody() -> None:
    disk = CrashDisk()
    store = opened(disk)
    store.put(example(1))
    file = disk.read("00000001.ex")
    store.purge()
    store.put(example(2))  # with a new key
    disk.create("00000001.ex")
    disk.write_at("00000001.ex", 0, file)
    again = opened(disk, seed=2)
    assert again.read(NOW) == [example(2)]
    assert dropped(again) == {"damaged": 1}


def test_what_cant_be_opened_is_destroyed_all_the_same() -> None:
    disk = CrashDisk()
    opened(disk).put(example(1))
    disk.fail(lambda call: call.act == "read" and call.path.endswith(".ex"), DiskStarved("no descriptor is left"))
    with pytest.raises(DiskStarved):
        opened(disk, seed=2)
    ExampleStore.destroy(disk, KEYS, seeded_entropy(3))
    assert not [name for name in disk.names("") if name.endswith(".ex")]


def test_a_file_that_cant_be_removed_has_lost_its_key_before() -> None:
    disk = CrashDisk()
    opened(disk).put(example(1))
    disk.fail(lambda call: call.act == "remove", DiskDenied("read-only"))
    with pytest.raises(DiskDenied):
        ExampleStore.destroy(disk, KEYS, seeded_entropy(2))
    disk.heal()
    again = opened(disk, seed=3)
    assert (again.read(NOW), dropped(again)) == ([], {"damaged": 1})


def test_what_is_learned_from_together_is_of_the_newest_ones_size() -> None:
    store = opened(CrashDisk())
    for one in (example(1, size=8), example(2, size=9), example(3, size=8), example(4, size=9)):
        store.put(one)
    assert [one.size for one in store.read(NOW)] == [9, 9]
    assert (store.together(), store.counts().kept) == (2, 4)


def test_a_purged_store_lives_on() -> None:
    disk = CrashDisk()
    store = opened(disk)
    store.put(example(1))
    store.purge()
    store.put(example(1))
    assert store.read(NOW) == opened(disk, seed=2).read(NOW) == [example(1)]


def test_every_flipped_bit_costs_the_example_that_it_is_in_and_no_other() -> None:
    disk = CrashDisk()
    store = opened(disk)
    store.put(example(1, size=2))
    store.put(example(2, size=2))
    for bit in range(disk.size("00000001.ex") * 8):
        flipped = disk.after_shutdown()
        flipped.flip_bit("00000001.ex", bit)
        again = opened(flipped, seed=2)
        assert again.read(NOW) == [example(2, size=2)], f"bit {bit}"
        assert dropped(again) == {"damaged": 1}


@pytest.mark.parametrize(("error", "why"), [(DiskFull("full"), Why.DISK_FULL), (DiskFault("worn"), Why.DISK_FAULT)])
@pytest.mark.parametrize("act", ["create", "write_at", "sync", "sync_folder"])
def test_flash_that_refuses_costs_that_example_and_says_so(act: str, error: Exception, why: Why) -> None:
    disk = CrashDisk()
    store = opened(disk)
    store.put(example(1))
    disk.fail(lambda call: call.act == act, error)
    assert store.put(example(2)) is why
    disk.heal()
    assert store.put(example(3)) is None
    assert store.read(NOW) == [example(1), example(3)]
    assert dropped(store) == {why.value: 1}


def test_flash_that_keeps_an_expired_file_doesnt_keep_the_example() -> None:
    disk = CrashDisk()
    store = opened(disk)
    store.put(example(1))
    disk.fail(lambda call: call.act == "remove", DiskFault("worn"))
    assert store.read(later(31)) == []
    disk.heal()
    assert opened(disk, now=later(31), seed=2).read(later(31)) == []
    assert not [name for name in disk.names("") if name.endswith(".ex")]
