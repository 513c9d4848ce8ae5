"""What rose never sinks: not for power cuts, flipped bits, rotated keys, or whoever says less.

Mutants of ota/floors.py that these tests were seen to catch: `max` left out for a role, and for the time; `write` for
`write_both` and `read` for `read_both`, in either record; `<` made `<=` in `demand_current` and `<=` made `<` in
`demand_newer`; TwinLost read as nothing; floors of other keys dropped, and kept without end; the newest of them
forgotten first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.crashdisk import CrashDisk, CrashState, unnoticed_without, violation
from ecu.disk import DiskFull
from ecu.twin import TwinRecord
from ota.errors import Attack, TrustError
from ota.floors import Floors, FloorsLost
from ota.kinds import Kind

ROLES = ("director/root", "director/timestamp#01", "image/root", "image/model#02")
RECORDS = ("floors.metadata", "floors.release")

refreshes = st.lists(
    st.tuples(st.dictionaries(st.sampled_from(ROLES), st.integers(1, 9)), st.integers(0, 99)), max_size=8
)


class Killed(BaseException):
    """SIGKILL: nobody catches it."""


def floor_of(floors: Floors, role: str) -> int:
    """The lowest version that is let through."""
    for version in range(1_000):
        try:
            floors.demand_current({role: version})
        except TrustError:
            continue
        return version
    raise AssertionError("no version is")


@given(refreshes)
def test_a_floor_is_the_highest_that_was_ever_verified(refreshed: list[tuple[dict[str, int], int]]) -> None:
    disk = CrashDisk()
    for versions, signed_at_s in refreshed:
        Floors(disk).raise_metadata(versions, signed_at_s)
    floors = Floors(disk)
    for role in ROLES:
        assert floor_of(floors, role) == max((versions.get(role, 0) for versions, _ in refreshed), default=0)
    assert floors.signed_at_s == max((signed_at_s for _, signed_at_s in refreshed), default=0)


@given(st.lists(st.tuples(st.sampled_from(list(Kind)), st.integers(1, 9)), max_size=8))
def test_a_kinds_release_is_the_highest_that_was_ever_committed(commits: list[tuple[Kind, int]]) -> None:
    disk = CrashDisk()
    for kind, release in commits:
        Floors(disk).raise_release(kind, release)
    for kind in Kind:
        highest = max((release for other, release in commits if other is kind), default=0)
        assert Floors(disk).release(kind) == highest
        Floors(disk).demand_newer(kind, highest + 1, highest)
        with pytest.raises(TrustError, match=f"offered release {highest}, installed {highest}") as refused:
            Floors(disk).demand_newer(kind, highest, highest)
        assert refused.value.attack is Attack.ROLLBACK


@given(floor=st.integers(1, 9), held=st.integers(0, 9), offered=st.integers(1, 10))
def test_what_was_lost_to_damage_may_come_again_and_nothing_below_it(floor: int, held: int, offered: int) -> None:
    disk = CrashDisk()
    Floors(disk).raise_release(Kind.MODEL, floor)
    if offered > max(floor, held) or (offered == floor and held < floor):
        Floors(disk).demand_newer(Kind.MODEL, offered, held)
    else:
        with pytest.raises(TrustError):
            Floors(disk).demand_newer(Kind.MODEL, offered, held)


def test_a_version_below_its_floor_is_a_rollback_with_both_numbers() -> None:
    floors = Floors(CrashDisk())
    floors.raise_metadata({"image/model#02": 7}, 0)
    floors.demand_current({"image/model#02": 7, "image/model#03": 1, "image/other#02": 1})
    with pytest.raises(TrustError, match="offered image/model version 6, seen 7") as refused:
        floors.demand_current({"image/model#02": 6})
    assert refused.value.attack is Attack.ROLLBACK


def test_room_for_a_floor_lowers_none_and_is_made_once() -> None:
    disk = CrashDisk()
    floors = Floors(disk)
    floors.make_room()
    sizes = [disk.size(f"floors.release.{twin}") for twin in (0, 1)]
    disk.fail(lambda call: call.act == "create", DiskFull("no space"))
    floors.raise_release(Kind.MODEL, 3)
    calls = len(disk.calls)
    floors.make_room()
    assert {call.act for call in disk.calls[calls:]} <= {"read", "size"}
    assert Floors(disk).release(Kind.MODEL) == 3
    assert [disk.size(f"floors.release.{twin}") for twin in (0, 1)] == sizes


def test_what_raises_nothing_writes_nothing() -> None:
    disk = CrashDisk()
    Floors(disk).raise_metadata({"director/root": 2}, 5)
    Floors(disk).raise_release(Kind.MODEL, 2)
    writes = len([call for call in disk.calls if call.act == "write_at"])
    floors = Floors(disk)
    floors.raise_metadata({"director/root": 1}, 4)
    floors.raise_release(Kind.MODEL, 1)
    # A start writes the newest twin over itself, once a record: a killed process may not have synced it.
    assert len([call for call in disk.calls if call.act == "write_at"]) - writes == len(RECORDS)


# --- power cuts and damage --------------------------------------------------------------------------


def rises(disk: CrashDisk) -> None:
    floors = Floors(disk)
    for number in (1, 2, 3):
        floors.raise_metadata({"director/root": number}, number * 100)
        floors.raise_release(Kind.MODEL, number)
        disk.mark(str(number))


def no_floor_sank(state: CrashState) -> None:
    demand_floors(state.disk, max(map(int, state.acknowledged), default=0))


def demand_floors(disk: CrashDisk, promised: int) -> None:
    floors = Floors(disk)
    assert promised <= floors.release(Kind.MODEL) <= 3
    assert floor_of(floors, "director/root") >= promised
    assert floors.signed_at_s >= promised * 100


def test_no_power_cut_lowers_a_floor() -> None:
    assert violation(rises, no_floor_sank, CrashDisk()) is None


def test_when_a_floor_was_raised_both_twins_hold_it() -> None:
    disk = CrashDisk()
    rises(disk)
    for record in RECORDS:
        for twin in (0, 1):
            for bit in range(0, 80 * 8, 3):
                damaged = disk.after_shutdown()
                damaged.flip_bit(f"{record}.{twin}", bit)
                floors = Floors(damaged)
                assert floors.release(Kind.MODEL) == 3
                assert floor_of(floors, "director/root") == 3
                assert floors.signed_at_s == 300


@pytest.mark.parametrize("record", RECORDS)
def test_a_raise_that_was_killed_between_its_twins_is_in_both_once_it_was_read(record: str) -> None:
    def value(of: CrashDisk) -> int:
        return Floors(of).release(Kind.MODEL) if record == "floors.release" else Floors(of).signed_at_s

    disk = CrashDisk()
    rises(disk)
    floors = Floors(disk)
    assert (floors.signed_at_s, floors.release(Kind.MODEL)) == (300, 3)
    disk.fail(lambda call: call.act == "sync" and call.path == f"{record}.0", Killed())
    with contextlib.suppress(Killed):
        floors.raise_metadata({"director/root": 4}, 400)
        floors.raise_release(Kind.MODEL, 4)
    disk.heal()
    seen = value(disk)
    assert seen in (4, 400)
    for twin in (f"{record}.0", f"{record}.1"):
        damaged = disk.after_shutdown()
        damaged.flip_bit(twin, 200)
        assert value(damaged) == seen


def no_floor_sank_with_a_twin_lost(state: CrashState) -> None:
    promised = max(map(int, state.acknowledged), default=0)
    for twin in [f"{record}.{twin}" for record in RECORDS for twin in (0, 1)]:
        if promised and state.disk.exists(twin):
            damaged = state.disk.after_shutdown()
            damaged.flip_bit(twin, 200)
            demand_floors(damaged, promised)


def test_no_power_cut_and_then_a_lost_twin_lowers_a_floor_and_every_sync_of_its_bytes_is_needed() -> None:
    assert violation(rises, no_floor_sank_with_a_twin_lost, CrashDisk()) is None
    # Both records' four names lie in one folder: all but the last sync of it are made good by the next one.
    unnoticed = unnoticed_without(rises, no_floor_sank_with_a_twin_lost)
    assert [sync.split(": ")[1] for sync in unnoticed] == ["sync_folder ''"] * 3


@pytest.mark.parametrize("record", RECORDS)
def test_both_twins_lost_is_never_zero(record: str) -> None:
    disk = CrashDisk()
    rises(disk)
    for twin in (0, 1):
        disk.flip_bit(f"{record}.{twin}", 200)
    floors = Floors(disk)
    ask: dict[str, tuple[Callable[[], object], ...]] = {
        "floors.metadata": (
            lambda: floors.demand_current({}),
            lambda: floors.signed_at_s,
            lambda: floors.raise_metadata({"director/root": 9}, 9),
        ),
        "floors.release": (
            lambda: floors.release(Kind.MODEL),
            lambda: floors.demand_newer(Kind.MODEL, 9, 0),
            lambda: floors.raise_release(Kind.MODEL, 9),
        ),
    }
    for act in ask[record]:
        with pytest.raises(FloorsLost, match="refused until this vehicle is provisioned anew"):
            act()


@pytest.mark.parametrize(
    ("record", "ask"),
    [
        ("floors.metadata", lambda floors: floors.signed_at_s),
        ("floors.release", lambda floors: floors.release(Kind.MODEL)),
    ],
)
def test_a_floor_that_isnt_understood_is_never_zero(record: str, ask: Callable[[Floors], object]) -> None:
    disk = CrashDisk()
    TwinRecord(disk, record).write_both(b'{"versions": "all", "model": true}')
    with pytest.raises(FloorsLost, match="provisioned anew"):
        ask(Floors(disk))


def test_a_full_disk_refuses_the_raise_and_keeps_the_floor() -> None:
    disk = CrashDisk()
    rises(disk)
    disk.fail(lambda call: call.act == "write_at", DiskFull("no space"))
    with pytest.raises(DiskFull):
        Floors(disk).raise_release(Kind.MODEL, 4)
    disk.heal()
    assert Floors(disk).release(Kind.MODEL) == 3


# --- rotated keys -----------------------------------------------------------------------------------


def test_with_other_keys_a_role_begins_anew_and_the_old_keys_floor_stays() -> None:
    floors = Floors(CrashDisk())
    floors.raise_metadata({"director/root": 1, "image/model#old": 900}, 0)
    floors.raise_metadata({"director/root": 2, "image/model#new": 1}, 0)
    assert floor_of(floors, "image/model#new") == 1
    assert floor_of(floors, "image/model#old") == 900


def test_of_many_rotations_the_oldest_keys_are_forgotten_first_and_a_root_never_is() -> None:
    disk = CrashDisk()
    for rotation in range(1, 301):
        Floors(disk).raise_metadata({"director/root": rotation, f"image/model#{rotation:016x}": 5}, rotation)
    floors = Floors(disk)
    assert floor_of(floors, "director/root") == 300
    remembered = [rotation for rotation in range(1, 301) if floor_of(floors, f"image/model#{rotation:016x}") == 5]
    assert remembered == list(range(300 - 127 + 1, 301))


def test_the_longest_names_of_our_roles_fit() -> None:
    floors = Floors(CrashDisk())
    for rotation in range(200):
        floors.raise_metadata({f"director/timestamp#{rotation:016x}": (1 << 62) + rotation}, 1 << 40)
    with pytest.raises(TrustError):
        floors.demand_current({f"director/timestamp#{199:016x}": 1})
