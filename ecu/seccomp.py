"""What a process may ask of the kernel: a seccomp filter as a classic BPF program (Linux seccomp(2)).

The filter forbids by name what a sandboxed worker never needs: new sockets, other programs, other processes' memory,
mounts, modules, and on request every act that changes a file. A forbidden call returns EPERM; a call by another
instruction set's numbers kills. Everything else is allowed, so that numeric libraries never meet a surprise.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from typing import Final

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_INSTRUCTION = struct.Struct("=HBBI")
_NR_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16

ALLOW: Final = 0x7FFF0000
KILL: Final = 0x80000000
DENY: Final = 0x00050000 | errno.EPERM
UNKNOWN: Final = 0x00050000 | errno.ENOSYS

AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT: Final = 0x40000000
_CHANGES_A_FILE: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

# name: (x86_64, aarch64); None where that instruction set never had it.
ISOLATION: Final[dict[str, tuple[int | None, int | None]]] = {
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "mount": (165, 40),
    "umount2": (166, 39),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "open_by_handle_at": (304, 265),
    "clock_settime": (227, 112),
    "settimeofday": (164, 170),
    # An io_uring opens sockets and files without a system call that a filter could see.
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}
FILE_CHANGES: Final[dict[str, tuple[int | None, int | None]]] = {
    "creat": (85, None),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "truncate": (76, 45),
    "chmod": (90, None),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchownat": (260, 54),
}
# name: (numbers, which argument holds the flags)
OPENS: Final[dict[str, tuple[tuple[int | None, int | None], int]]] = {"open": ((2, None), 1), "openat": ((257, 56), 2)}
# Its flags lie in memory, where a filter can't look; ENOSYS makes the C library fall back to openat.
OPENAT2: Final = 437


def program(machine: str, file_changes: bool) -> bytes:
    """The filter for `machine` (platform.machine()); `file_changes` False forbids them too. Raises KeyError."""
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in _instructions(machine, file_changes))


def _instructions(machine: str, file_changes: bool) -> Iterator[tuple[int, int, int, int]]:
    architecture, which = AUDIT_ARCH[machine], 0 if machine == "x86_64" else 1
    yield _LOAD, 0, 0, _ARCH_AT
    yield _EQUAL, 1, 0, architecture
    yield _RETURN, 0, 0, KILL
    yield _LOAD, 0, 0, _NR_AT
    if machine == "x86_64":
        yield _AT_LEAST, 0, 1, _X32_BIT
        yield _RETURN, 0, 0, DENY
    for numbers in (ISOLATION if file_changes else ISOLATION | FILE_CHANGES).values():
        yield from _answer(numbers[which], DENY)
    if not file_changes:
        yield from _answer(OPENAT2, UNKNOWN)
        for numbers, argument in OPENS.values():
            yield from _deny_opening_to_change(numbers[which], argument)
    yield _RETURN, 0, 0, ALLOW


def _answer(number: int | None, answer: int) -> Iterator[tuple[int, int, int, int]]:
    if number is not None:
        yield _EQUAL, 0, 1, number
        yield _RETURN, 0, 0, answer


def _deny_opening_to_change(number: int | None, argument: int) -> Iterator[tuple[int, int, int, int]]:
    if number is not None:
        yield _EQUAL, 0, 4, number
        yield _LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument
        yield _ANY_BIT, 0, 1, _CHANGES_A_FILE
        yield _RETURN, 0, 0, DENY
        yield _RETURN, 0, 0, ALLOW


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


_SECCOMP: Final = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER = 1
_ALL_THREADS = 1


def install(machine: str, file_changes: bool) -> None:
    """From here on, for every thread of this process and for ever. Raises OSError, KeyError for another machine.

    Needs no_new_privs (or CAP_SYS_ADMIN) beforehand.
    """
    code = program(machine, file_changes)
    filter_ = _Program(len(code) // _INSTRUCTION.size, code)
    libc = ctypes.CDLL(None, use_errno=True)
    answer = libc.syscall(_SECCOMP[machine], _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(filter_))
    if answer:
        # A positive answer is the thread that couldn't follow.
        number = ctypes.get_errno() if answer < 0 else errno.EBUSY
        raise OSError(number, os.strerror(number))
