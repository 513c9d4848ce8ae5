"""What was found worse once stays denied, whatever becomes of single bits, tails and power.

Mutants of ota/denied.py that these tests were seen to catch: a line without its newline; `at` without rounding
up to a line; no sync of the file; no sync of the folder; `_is_nearly` always False, and without its length; a line
taken without comparing its checksum.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecu.crashdisk import CrashDisk, CrashState, unnoticed_without, violation
from ecu.disk import DiskFull
from ota.denied import Denied


def digest_of(number: int) -> str:
    return hashlib.sha256(bytes([number])).hexdigest()


FIRST, SECOND, THIRD, OTHER = map(digest_of, range(4))


def with_three() -> CrashDisk:
    disk = CrashDisk()
    for digest in (FIRST, SECOND, THIRD):
        Denied(disk).add(digest)
    return disk


def test_what_was_denied_is_denied_at_every_later_start_and_nothing_else_is() -> None:
    denied = Denied(with_three())
    assert all(digest in denied for digest in (FIRST, SECOND, THIRD))
    assert OTHER not in denied
    assert len(denied) == 3


def test_thousands_of_denials_are_remembered_and_told_apart() -> None:
    disk = CrashDisk()
    digests = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(2_500)]
    denied = Denied(disk)
    for digest in digests[:2_000]:
        denied.add(digest)
    again = Denied(disk.after_shutdown())
    assert len(again) == 2_000
    assert [digest in again for digest in digests] == [True] * 2_000 + [False] * 500


def test_a_vehicle_that_denied_nothing_has_no_file() -> None:
    disk = CrashDisk()
    assert FIRST not in Denied(disk)
    assert disk.names("") == []


def test_a_line_is_a_digest_its_checksum_and_a_newline() -> None:
    checksums = [f"{zlib.crc32(digest.encode()):08x}" for digest in (FIRST, SECOND, THIRD)]
    lines = [f"{digest} {sum_}\n" for digest, sum_ in zip((FIRST, SECOND, THIRD), checksums, strict=True)]
    assert with_three().read("denied").decode() == "".join(lines)


def test_denying_twice_is_one_line() -> None:
    disk = with_three()
    size = disk.size("denied")
    Denied(disk).add(SECOND)
    assert disk.size("denied") == size


def denies_two(disk: CrashDisk) -> None:
    for digest in (FIRST, SECOND):
        Denied(disk).add(digest)
        disk.mark(digest)


def whoever_was_denied_still_is(state: CrashState) -> None:
    denied = Denied(state.disk)
    assert all(digest in denied for digest in state.acknowledged)
    assert OTHER not in denied
    denied.add(THIRD)
    assert all(digest in Denied(state.disk) for digest in (*state.acknowledged, THIRD))


def test_no_power_cut_takes_back_a_denial_or_denies_another() -> None:
    assert violation(denies_two, whoever_was_denied_still_is, CrashDisk()) is None


def test_every_sync_is_needed() -> None:
    # The name is durable with the first; the second's sync of the folder mends what a killed one may have left.
    assert unnoticed_without(denies_two, whoever_was_denied_still_is) == ["sync 3: sync_folder ''"]


@given(bit=st.integers(0, 3 * 74 * 8 - 1))
@settings(max_examples=200)
def test_one_flipped_bit_allows_nothing_and_denies_nothing_new(bit: int) -> None:
    disk = with_three()
    disk.flip_bit("denied", bit)
    denied = Denied(disk)
    assert all(digest in denied for digest in (FIRST, SECOND, THIRD))
    assert OTHER not in denied


@pytest.mark.parametrize("torn", [1, 20, 63, 64, 73])
def test_a_torn_last_line_costs_itself_alone_and_the_next_stands_behind_it(torn: int) -> None:
    disk = with_three()
    disk.truncate("denied", 2 * 74 + torn)
    denied = Denied(disk)
    assert [digest in denied for digest in (FIRST, SECOND, THIRD)] == [True, True, False]
    denied.add(THIRD)
    assert all(digest in Denied(disk) for digest in (FIRST, SECOND, THIRD))


def test_room_that_was_made_is_for_the_next_alone_and_denies_nothing() -> None:
    disk = with_three()
    for _ in range(3):
        Denied(disk).make_room()
    assert disk.size("denied") == 4 * 74
    assert OTHER not in Denied(disk)
    disk.fail(lambda call: call.act == "create" or (call.act == "write_at" and call.path != "denied"), DiskFull("full"))
    Denied(disk).add(OTHER)
    assert disk.size("denied") == 4 * 74
    assert all(digest in Denied(disk) for digest in (FIRST, SECOND, THIRD, OTHER))


def makes_room_and_denies(disk: CrashDisk) -> None:
    for digest in (FIRST, SECOND):
        Denied(disk).make_room()
        disk.mark(f"room for {digest}")
        Denied(disk).add(digest)
        disk.mark(digest)


def denied_stays_and_room_stands(state: CrashState) -> None:
    rooms = {mark for mark in state.acknowledged if mark.startswith("room")}
    assert not rooms or state.disk.size("denied") >= 74 * len(rooms)
    whoever_was_denied_still_is(replace(state, acknowledged=state.acknowledged - rooms))


def test_no_power_cut_takes_back_a_denial_or_the_room_for_it() -> None:
    assert violation(makes_room_and_denies, denied_stays_and_room_stands, CrashDisk()) is None


def test_after_a_full_disk_it_can_be_denied_again() -> None:
    disk = with_three()
    disk.fail(lambda call: call.act == "write_at", DiskFull("no space"))
    denied = Denied(disk)
    with pytest.raises(DiskFull):
        denied.add(OTHER)
    disk.heal()
    assert OTHER not in denied
    denied.add(OTHER)
    assert all(digest in Denied(disk) for digest in (FIRST, SECOND, THIRD, OTHER))
