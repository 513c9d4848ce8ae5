"""Datagrams of a socket, as many at once as are there: recvmmsg(2), which Python's socket module doesn't have."""

from __future__ import annotations

import ctypes
import errno
import os
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


_HEADER: Final = ctypes.sizeof(_CMsgHdr)
_ALIGN: Final = ctypes.sizeof(ctypes.c_size_t)
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
        self._view = np.ctypeslib.as_array(self._headers)

    def receive(self, fd: int) -> Datagrams | None:
        """What is there now, None when nothing is. Raises OSError as recvmmsg does."""
        ctypes.memmove(self._headers, self._fresh, len(self._fresh))
        count = _libc.recvmmsg(fd, self._headers, len(self._headers), _MSG_DONTWAIT | _MSG_TRUNC, None)
        if count < 0:
            number = ctypes.get_errno()
            if number in (errno.EAGAIN, errno.EINTR):
                return None
            raise OSError(number, os.strerror(number))
        view = self._view[:count]
        wall_ns, dropped = ancillary(self._control[:count], view["header"]["control_length"])
        return Datagrams(self._data[:count], view["length"].astype(np.uint32), wall_ns, dropped)


def ancillary(control: NDArray[np.uint8], length: NDArray[np.integer]) -> tuple[NDArray[np.int64], int | None]:
    """(n,) wall times of arrival, -1 where there is none, and the latest count of dropped datagrams, of (n, c) control
    bytes (cmsg(3)) of which `length` (n,) are used."""
    wall_ns = np.full(len(control), -1, np.int64)
    dropped = None
    begin = 0
    while begin < len(control):
        places = _places(control[begin], int(length[begin]))
        end = begin + _alike(control[begin:], length[begin:], places)
        for kind, at in places.items():
            if kind == SO_TIMESTAMPNS:
                spec = np.ascontiguousarray(control[begin:end, at : at + ctypes.sizeof(_TimeSpec)]).view(f"i{_ALIGN}")
                wall_ns[begin:end] = spec[:, 0].astype(np.int64) * SECOND_NS + spec[:, 1]
            elif kind == SO_RXQ_OVFL:
                dropped = int(np.ascontiguousarray(control[end - 1, at : at + 4]).view(np.uint32)[0])
        begin = end
    return wall_ns, dropped


def _places(control: NDArray[np.uint8], length: int) -> dict[int, int]:
    """Where the content of each of a datagram's control messages begins, by type."""
    places: dict[int, int] = {}
    at = 0
    while at + _HEADER <= length:
        header = _CMsgHdr.from_buffer_copy(control[at : at + _HEADER].tobytes())
        if not _HEADER <= header.length <= length - at:
            break
        if header.level == _SOL_SOCKET:
            places[header.kind] = at + _HEADER
        at += -(-header.length // _ALIGN) * _ALIGN
    return places


def _alike(control: NDArray[np.uint8], length: NDArray[np.integer], places: dict[int, int]) -> int:
    """How many datagrams from the first on have the same control messages."""
    alike = length == length[0]
    for at in places.values():
        alike &= (control[:, at - _HEADER : at] == control[0, at - _HEADER : at]).all(axis=1)
    return len(alike) if alike.all() else int(np.argmin(alike))
