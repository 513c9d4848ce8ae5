"""Datagrams of a socket, as many at once as are there: recvmmsg(2), which Python's socket module doesn't have."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecu.clock import SECOND_NS

_MSG_DONTWAIT: Final = 0x40
_MSG_TRUNC: Final = 0x20
_CONTROL_BYTES: Final = 96
_SOL_SOCKET: Final = 1
SO_TIMESTAMPNS: Final = 35  # linux/asm-generic/socket.h: a control message of this type has a struct timespec
SO_RXQ_OVFL: Final = 40  # and of this type the datagrams dropped so far, 32 bits


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _MsgHdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iov_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _MMsgHdr(ctypes.Structure):
    _fields_ = (("header", _MsgHdr), ("length", ctypes.c_uint))


class _CMsgHdr(ctypes.Structure):
    _fields_ = (("length", ctypes.c_size_t), ("level", ctypes.c_int), ("kind", ctypes.c_int))


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


_SIZE_BYTES: Final = ctypes.sizeof(ctypes.c_size_t)
_ANSWERED: Final = np.dtype(
    {
        "names": ["control_length", "length"],
        "formats": [f"u{_SIZE_BYTES}", "u4"],
        "offsets": [_MsgHdr.control_length.offset, _MMsgHdr.length.offset],
        "itemsize": ctypes.sizeof(_MMsgHdr),
    }
)
"""What the kernel writes into an _MMsgHdr."""

_HEADER: Final = ctypes.sizeof(_CMsgHdr)
_CONTENT: Final = {(_SOL_SOCKET, SO_TIMESTAMPNS): ctypes.sizeof(_TimeSpec), (_SOL_SOCKET, SO_RXQ_OVFL): 4}
_libc: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Datagrams:
    """`data` (n, room) uint8, used again by the next receive; `length` (n,): bytes that came, more than there is room
    for when one was cut; `wall_ns` (n,): when the kernel took each in, -1 where it didn't say; `dropped`: how many it
    had no room for since the socket was made, None when it doesn't say."""

    data: NDArray[np.uint8]
    length: NDArray[np.uint32]
    wall_ns: NDArray[np.int64]
    dropped: int | None

    def __len__(self) -> int:
        return len(self.length)


class DatagramReader:
    """Takes at most `most` datagrams of at most `room` bytes at once into buffers of its own."""

    def __init__(self, most: int, room: int) -> None:
        self._data = np.zeros((most, room), np.uint8)
        self._control = np.zeros((most, _CONTROL_BYTES), np.uint8)
        self._iovecs = (_IoVec * most)()
        self._headers = (_MMsgHdr * most)()
        for i in range(most):
            self._iovecs[i] = _IoVec(self._data[i].ctypes.data, room)
            at = ctypes.addressof(self._iovecs) + i * ctypes.sizeof(_IoVec)
            control = self._control[i].ctypes.data
            self._headers[i].header = _MsgHdr(None, 0, at, 1, control, _CONTROL_BYTES, 0)
        self._fresh = bytes(self._headers)
        self._used = 0  # headers that the kernel wrote into: it takes what it wrote for the room that there is
        self._answered = np.frombuffer(memoryview(self._headers).cast("B"), _ANSWERED)

    def receive(self, fd: int) -> Datagrams | None:
        """What is there now, None when nothing is. Raises OSError as recvmmsg does."""
        ctypes.memmove(self._headers, self._fresh, self._used * ctypes.sizeof(_MMsgHdr))
        self._used = 0
        count = _libc.recvmmsg(fd, self._headers, len(self._headers), _MSG_DONTWAIT | _MSG_TRUNC, None)
        if count < 0:
            number = ctypes.get_errno()
            if number in (errno.EAGAIN, errno.EINTR):
                return None
            raise OSError(number, os.strerror(number))
        self._used = count
        answered = self._answered[:count]
        wall_ns, dropped = ancillary(self._control[:count], answered["control_length"].astype(np.int64))
        return Datagrams(self._data[:count], answered["length"].astype(np.uint32), wall_ns, dropped)


def ancillary(control: NDArray[np.uint8], length: NDArray[np.integer]) -> tuple[NDArray[np.int64], int | None]:
    """(n,) wall times of arrival, -1 where there is none, and the latest count of dropped datagrams, of (n, c) control
    bytes (cmsg(3)) of which `length` (n,) are used."""
    wall_ns = np.full(len(control), -1, np.int64)
    dropped = None
    begin = 0
    while begin < len(control):
        messages = _messages(control[begin].tobytes(), int(length[begin]))
        end = begin + _alike(control[begin:], length[begin:], messages)
        for at, level, kind in messages:
            content = control[begin:end, at + _HEADER :]
            if (level, kind) == (_SOL_SOCKET, SO_TIMESTAMPNS):
                spec = np.ascontiguousarray(content[:, : ctypes.sizeof(_TimeSpec)]).view(f"i{_SIZE_BYTES}")
                wall_ns[begin:end] = spec[:, 0].astype(np.int64) * SECOND_NS + spec[:, 1]
            elif (level, kind) == (_SOL_SOCKET, SO_RXQ_OVFL):
                dropped = int.from_bytes(content[-1, :4].tobytes(), sys.byteorder)
        begin = end
    return wall_ns, dropped


def _messages(control: bytes, length: int) -> list[tuple[int, int, int]]:
    """A datagram's control messages: where each begins, its level and its type."""
    messages: list[tuple[int, int, int]] = []
    at = 0
    while at + _HEADER <= min(length, len(control)):
        header = _CMsgHdr.from_buffer_copy(control, at)
        needed = _HEADER + _CONTENT.get((header.level, header.kind), 0)
        if not needed <= header.length <= min(length, len(control)) - at:
            break
        messages.append((at, header.level, header.kind))
        at += -(-header.length // _SIZE_BYTES) * _SIZE_BYTES
    return messages


def _alike(
    control: NDArray[np.uint8], length: NDArray[np.integer], messages: list[tuple[int, int, int]]
) -> int:  # fmt: skip
    """How many datagrams from the first on have the same control messages as it: in practice all."""
    alike = length == length[0]
    for at, _, _ in messages:
        alike &= (control[:, at : at + _HEADER] == control[0, at : at + _HEADER]).all(axis=1)
    if not messages and length[0]:
        return 1
    return len(alike) if alike.all() else int(np.argmin(alike))
