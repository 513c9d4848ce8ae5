"""Raw frames in a file: docs/formats/frames.md has the layout, of which the golden vector is a part of a real drive."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import zstandard
from numpy.typing import NDArray

from ecu.errors import shown
from telemetry.records import TelemetryError
from telemetry.signals.frames import CLASSIC_BYTES, FD_BYTES, Frames, by_id

CHUNK_FRAMES: Final = 65_536
MAX_CHUNK_BYTES: Final = 8 * 1024 * 1024
VERSION: Final = 1

_MAGIC: Final = b"ORR1"
_HEADER: Final = struct.Struct("<4sHHQqq")  # magic, version, zero, frames, first and last time in us
_CRC: Final = struct.Struct("<I")
_CHUNK: Final = struct.Struct("<II")  # bytes of its zstd frame, frames
_HEAD: Final = struct.Struct("<qHH")  # first time in us, messages, zero
_MESSAGE: Final = np.dtype([("can_id", "<u4"), ("bus", "u1"), ("length", "u1"), ("frames", "<u4")])
_VARIES: Final = 255
_MICROSECOND_NS: Final = 1000
HEADER_BYTES: Final = _HEADER.size + _CRC.size


class RecordingRefused(TelemetryError):
    """The file is no recording that this version reads, or it is damaged."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole recording, compressed in memory. Times are in whole microseconds."""

    name: str
    data: bytes
    frames: int
    first_ns: int
    last_ns: int

    def chunks(self) -> Iterator[Frames]:
        """Its frames in order of time, at most CHUNK_FRAMES at once. Raises RecordingRefused at what is damaged."""
        at, seen, last_ns = HEADER_BYTES, 0, self.first_ns
        while at < len(self.data):
            if at + _CHUNK.size > len(self.data):
                raise _refused(self.name, "it ends within a chunk")
            length, count = _CHUNK.unpack_from(self.data, at)
            at += _CHUNK.size
            frames = _chunk(self.name, self.data[at : at + length], length, count)
            at, seen = at + length, seen + count
            if int(frames.t_ns[0]) < last_ns or int(frames.t_ns[-1]) > self.last_ns:
                raise _refused(self.name, "its times run backwards, or beyond its end")
            last_ns = int(frames.t_ns[-1])
            yield frames
        if seen != self.frames:
            raise _refused(self.name, f"it has {seen} frames, its header says {self.frames}")


def open_recording(data: bytes, name: str = "the recording") -> Recording:
    """Raises RecordingRefused; what is damaged behind the header shows only when it is read."""
    if len(data) < HEADER_BYTES:
        raise _refused(name, f"{len(data)} bytes are less than its header")
    magic, version, _, frames, first_us, last_us = _HEADER.unpack_from(data)
    if (magic, version) != (_MAGIC, VERSION) or _CRC.unpack_from(data, _HEADER.size) != (_crc(data),):
        raise _refused(name, "it doesn't begin as a recording of this version, or its header is damaged")
    if frames < 1 or not 0 <= last_us - first_us < 1 << 50 or abs(first_us) >= 1 << 52:
        raise _refused(name, f"{frames} frames from {first_us} to {last_us} us are no recording")
    return Recording(name, data, frames, first_us * _MICROSECOND_NS, last_us * _MICROSECOND_NS)


def encode_recording(frames: Frames, level: int = 19) -> bytes:
    """The whole file of at least one frame. Times are rounded to microseconds."""
    if not len(frames):
        raise ValueError("a recording of no frame")
    us = np.round(frames.t_ns / _MICROSECOND_NS).astype(np.int64)
    head = _HEADER.pack(_MAGIC, VERSION, 0, len(frames), int(us[0]), int(us[-1]))
    parts = [head, _CRC.pack(zlib.crc32(head))]
    compressor = zstandard.ZstdCompressor(level=level, write_checksum=True)
    for begin in range(0, len(frames), CHUNK_FRAMES):
        rows = slice(begin, begin + CHUNK_FRAMES)
        chunk = frames.rows(rows)
        body = compressor.compress(_plain(chunk, us[rows]))
        parts += [_CHUNK.pack(len(body), len(chunk)), body]
    return b"".join(parts)


def _plain(frames: Frames, us: NDArray[np.int64]) -> bytes:
    groups = [rows for _, _, rows in by_id(frames)]
    numbers = np.empty(len(frames), "<u2")
    table = np.zeros(len(groups), _MESSAGE)
    lengths: list[bytes] = []
    data: list[bytes] = []
    for number, rows in enumerate(groups):
        numbers[rows] = number
        first, each = rows[0], frames.length[rows]
        varies = bool((each != each[0]).any())
        table[number] = (frames.can_id[first], frames.bus[first], _VARIES if varies else each[0], len(rows))
        lengths += [each.tobytes()] if varies else []
        content = frames.data[rows][:, : int(each.max())]
        data.append(np.diff(content, axis=0, prepend=np.zeros((1, content.shape[1]), np.uint8)).T.tobytes())
    times = np.diff(us, prepend=us[0])
    if times.max() >= 1 << 32:
        raise ValueError("an hour without any frame")
    head = _HEAD.pack(int(us[0]), len(groups), 0)
    planes = _planes(times.astype("<u4")), _planes(numbers)
    return b"".join([head, table.tobytes(), *planes, *lengths, *data])


def _planes(values: NDArray[np.unsignedinteger]) -> bytes:
    """First all lowest bytes, then all next ones, ...: alike bytes are together."""
    return values.view(np.uint8).reshape(-1, values.itemsize).T.tobytes()


class _Plain:
    """The plain bytes of a chunk, read front to back; raises ValueError where they end too soon."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def bytes(self, count: int) -> NDArray[np.uint8]:
        taken = np.frombuffer(self._data, np.uint8, count, self._at)
        self._at += count
        return taken

    def unplaned(self, count: int, size: int) -> NDArray[np.uint8]:
        return np.ascontiguousarray(self.bytes(count * size).reshape(size, count).T)

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError(f"{len(self._data) - self._at} bytes are left over")


def _chunk(name: str, body: bytes, length: int, count: int) -> Frames:
    try:
        if len(body) != length or not 1 <= count <= CHUNK_FRAMES:
            raise ValueError(f"{len(body)} of {length} bytes, {count} frames")
        # A frame's size is said in its header, and believed only up to the limit.
        if zstandard.get_frame_parameters(body).content_size > MAX_CHUNK_BYTES:
            raise ValueError("it would be too large")
        return _frames(_Plain(zstandard.ZstdDecompressor().decompress(body)), count)
    except (ValueError, IndexError, zstandard.ZstdError) as error:
        raise _refused(name, f"a chunk can't be read ({error})") from error


def _frames(plain: _Plain, count: int) -> Frames:
    first_us, messages, _ = _HEAD.unpack(plain.bytes(_HEAD.size).tobytes())
    table = plain.bytes(messages * _MESSAGE.itemsize).view(_MESSAGE)
    times = plain.unplaned(count, 4).view("<u4")[:, 0]
    numbers = plain.unplaned(count, 2).view("<u2")[:, 0]
    if not np.array_equal(np.bincount(numbers, minlength=messages), table["frames"]):
        raise ValueError("its messages don't have the frames that its table says")
    order = np.argsort(numbers, kind="stable")
    length = _lengths(plain, table)
    wide = FD_BYTES if length.max() > CLASSIC_BYTES else CLASSIC_BYTES
    data = np.zeros((count, wide), np.uint8)
    lengths = np.empty(count, np.uint8)
    lengths[order] = length
    begin = 0
    for rows in table["frames"].tolist():
        which = order[begin : begin + rows]
        width = int(length[begin : begin + rows].max())
        deltas = plain.bytes(rows * width).reshape(width, rows)
        data[which, :width] = np.add.accumulate(deltas, axis=1, dtype=np.uint8).T
        begin += rows
    plain.end()
    t_ns = (first_us + np.cumsum(times, dtype=np.int64)) * _MICROSECOND_NS
    return Frames(t_ns, table["bus"][numbers], table["can_id"][numbers].astype(np.uint32), lengths, data)


def _lengths(plain: _Plain, table: NDArray[np.void]) -> NDArray[np.uint8]:
    """(n,): of the frames of the first message, then of those of the next."""
    if (table["frames"] < 1).any():
        raise ValueError("a message has no frame")
    each = [
        plain.bytes(rows) if said == _VARIES else np.full(rows, said, np.uint8)
        for said, rows in zip(table["length"].tolist(), table["frames"].tolist(), strict=True)
    ]
    length = np.concatenate(each)
    if length.max() > FD_BYTES:
        raise ValueError(f"a frame of {length.max()} bytes")
    return length


def _crc(data: bytes) -> int:
    return zlib.crc32(data[: _HEADER.size])


def _refused(name: str, reason: str) -> RecordingRefused:
    return RecordingRefused(f"{shown(name)} is refused: {shown(reason)}. Record or copy it again.")
