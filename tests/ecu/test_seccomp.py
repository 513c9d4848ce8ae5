"""The filter's program, run by a small interpreter of classic BPF, for every machine it knows."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.seccomp import ALLOW, AUDIT_ARCH, DENY, FILE_CHANGES, ISOLATION, KILL, OPENAT2, UNKNOWN, program

MACHINES = sorted(AUDIT_ARCH)
OPENAT = {"x86_64": 257, "aarch64": 56}
# read, write, mmap, futex, sendmsg, recvmsg, clone, close, exit_group, memfd_create, socketpair, kill, fsync
NEEDED = {
    "x86_64": (0, 1, 9, 202, 46, 47, 56, 3, 231, 319, 53, 62, 74),
    "aarch64": (63, 64, 222, 98, 211, 212, 220, 57, 94, 279, 199, 129, 82),
}


def run(code: bytes, machine: str, number: int, arguments: Sequence[int] = ()) -> int:
    """The filter's answer to one system call (struct seccomp_data, little-endian)."""
    data = struct.pack("<IIQ6Q", number, AUDIT_ARCH[machine], 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    accumulator, at = 0, 0
    while True:
        operation, if_true, if_false, value = struct.unpack_from("=HBBI", code, at * 8)
        at += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif operation == 0x06:
            return int(value)
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[operation]
            at += if_true if holds else if_false


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("file_changes", [True, False])
def test_every_named_call_is_denied_and_what_libraries_need_is_allowed(machine: str, file_changes: bool) -> None:
    code, which = program(machine, file_changes), tuple(AUDIT_ARCH).index(machine)
    assert {run(code, machine, n) for name in ISOLATION if (n := ISOLATION[name][which]) is not None} == {DENY}
    changes = {run(code, machine, n) for name in FILE_CHANGES if (n := FILE_CHANGES[name][which]) is not None}
    assert changes == {ALLOW if file_changes else DENY}
    assert {run(code, machine, n) for n in NEEDED[machine]} == {ALLOW}


@pytest.mark.parametrize("machine", MACHINES)
@given(flags=st.integers(0, 2**31))
def test_opening_to_change_is_denied_and_opening_to_read_is_not(machine: str, flags: int) -> None:
    changes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    assert run(program(machine, False), machine, OPENAT[machine], (0, 0, flags)) == (DENY if changes else ALLOW)
    assert run(program(machine, True), machine, OPENAT[machine], (0, 0, flags)) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_a_call_whose_flags_cannot_be_seen_looks_missing(machine: str) -> None:
    assert run(program(machine, False), machine, OPENAT2) == UNKNOWN


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_of_another_instruction_set_kill(machine: str) -> None:
    other = next(name for name in MACHINES if name != machine)
    assert run(program(machine, False), other, NEEDED[machine][0]) == KILL


def test_the_x32_numbers_of_the_same_calls_are_denied() -> None:
    assert run(program("x86_64", True), "x86_64", 0x40000000 | 41) == DENY


@pytest.mark.parametrize("machine", MACHINES)
def test_no_call_is_listed_twice_under_one_number(machine: str) -> None:
    which = tuple(AUDIT_ARCH).index(machine)
    numbers = [n for pair in (*ISOLATION.values(), *FILE_CHANGES.values()) if (n := pair[which]) is not None]
    assert len(numbers) == len(set(numbers))


def test_an_unknown_machine_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        program("riscv64", True)
