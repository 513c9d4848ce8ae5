"""One file as its difference from another: what turns each 1 MiB block of the new one out of bytes of the old one.

    byte of the new file = (byte of the old file + difference) mod 256

A fine-tuned integer network moves its weights by nothing, one up or one down, in place. So a block's differences are
few values, which take two or four bits each before they are compressed. Layout and golden vector:
docs/formats/delta.md.

A delta is believed in nothing: whoever applies it holds every block that it gives against the hash that was signed. The
caps here keep it from costing more than that: of memory one block, of work what one block takes.
"""

from __future__ import annotations

import bz2
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate
from typing import Final

import zstandard

from ota.errors import OtaError
from ota.manifest import BLOCK_BYTES, block_count

MAGIC: Final = b"ODL1"
HEADER: Final = struct.Struct("<4sQQ32s32sI")
"""Magic, size of the new file, size of the old one, SHA-256 of both, bytes of the index."""
BLOCK: Final = struct.Struct("<BHI")
"""Codec, number of runs, bytes of the body."""
RUN: Final = struct.Struct("<QI")
"""Offset in the old file, length."""
ESCAPE_BYTES: Final = 5
NOWHERE: Final = (1 << 64) - 1
"""The offset of a run of zeros: what has no like in the old file."""

MAX_RUNS: Final = 256
"""Of a block."""
MAX_INDEX_BYTES: Final = 1 << 20
MAX_ESCAPES: Final = BLOCK_BYTES // 64

ReadOld = Callable[[int, int], bytes]
"""(offset, length) -> these bytes of the old file."""


class DeltaUnfit(OtaError):
    """It makes nothing that was signed: not what it says it is, beyond its caps, or for other files. The blocks come
    from the file itself then."""


class Codec(IntEnum):
    """How a block's differences are written. The last two have nothing to do with the old file."""

    SAME = 0
    BYTES_ZSTD = 1
    BYTES_BZ2 = 2
    PAIRS_ZSTD = 3  # two bits each: one of four values
    NIBBLES_ZSTD = 4  # four bits each: one of sixteen
    ZSTD = 5
    RAW = 6


BITS: Final = {Codec.PAIRS_ZSTD: 2, Codec.NIBBLES_ZSTD: 4}
OF_ITSELF: Final = (Codec.ZSTD, Codec.RAW)


@dataclass(frozen=True, slots=True)
class Run:
    """Bytes of the old file that go, one after the other, under those of the new one."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class DeltaBlock:
    """How one block of the new file, of `size` bytes, is made; its body lies at `at` in the delta."""

    size: int
    codec: Codec
    runs: tuple[Run, ...]
    at: int
    body_bytes: int


@dataclass(frozen=True, slots=True)
class Ends:
    """The two files that a delta is between: sizes, and SHA-256 in hex."""

    new_sha256: str
    new_size: int
    old_sha256: str
    old_size: int

    @property
    def count(self) -> int:
        return block_count(self.new_size)

    def block_bytes(self, index: int) -> int:
        return min(BLOCK_BYTES, self.new_size - index * BLOCK_BYTES)


# --- the head: header and index -------------------------------------------------------------------


def encode_head(ends: Ends, blocks: Sequence[tuple[Codec, Sequence[Run], int]]) -> bytes:
    """`blocks` are codec, runs and bytes of the body of each block in order; the bodies follow the head so."""
    index = b"".join(
        BLOCK.pack(codec, len(runs), size) + b"".join(RUN.pack(run.offset, run.length) for run in runs)
        for codec, runs, size in blocks
    )
    names = bytes.fromhex(ends.new_sha256), bytes.fromhex(ends.old_sha256)
    return HEADER.pack(MAGIC, ends.new_size, ends.old_size, *names, len(index)) + index


def index_bytes(header: bytes, ends: Ends) -> int:
    """How long the index is that follows the header. Raises DeltaUnfit for a delta between other files."""
    if len(header) < HEADER.size:
        raise DeltaUnfit(f"The delta ends within its header, after {len(header)} bytes.")
    magic, new_size, old_size, new, old, size = HEADER.unpack(header[: HEADER.size])
    if magic != MAGIC:
        raise DeltaUnfit(f"What was given as a delta begins with {magic!r}, not with {MAGIC!r}.")
    if (new.hex(), new_size, old.hex(), old_size) != (ends.new_sha256, ends.new_size, ends.old_sha256, ends.old_size):
        raise DeltaUnfit("The delta is between other files than its name says.")
    if size > MAX_INDEX_BYTES:
        raise DeltaUnfit(f"The delta's index has {size} bytes, more than {MAX_INDEX_BYTES}.")
    return int(size)


def decode_index(index: bytes, ends: Ends) -> tuple[DeltaBlock, ...]:
    """Raises DeltaUnfit for anything but one entry a block that keeps to the old file and to the caps."""
    at, read = 0, list[tuple[int, Codec, tuple[Run, ...], int]]()
    try:
        for number in range(ends.count):
            code, runs, body = BLOCK.unpack_from(index, at)
            at += BLOCK.size
            if runs > MAX_RUNS:
                raise DeltaUnfit(f"Block {number} of the delta has {runs} runs, more than {MAX_RUNS}.")
            its = tuple(Run(*RUN.unpack_from(index, at + run * RUN.size)) for run in range(runs))
            at += runs * RUN.size
            size = ends.block_bytes(number)
            read.append((size, _checked(number, code, its, body, size, ends.old_size), its, body))
    except struct.error as error:
        raise DeltaUnfit(f"The delta's index ends within block {len(read)} of {ends.count}.") from error
    if at != len(index):
        raise DeltaUnfit(f"The delta's index goes on for {len(index) - at} bytes after its last block.")
    begins = accumulate((body for *_, body in read), initial=HEADER.size + len(index))
    return tuple(
        DeltaBlock(size, codec, runs, begin, body)
        for (size, codec, runs, body), begin in zip(read, begins, strict=False)
    )


def _checked(number: int, code: int, runs: tuple[Run, ...], body: int, size: int, old_size: int) -> Codec:
    """The codec. Raises DeltaUnfit."""
    if code >= len(Codec):
        raise DeltaUnfit(f"Block {number} of the delta has codec {code}, which this version doesn't know.")
    codec = Codec(code)
    if body > size or (codec is Codec.SAME and body) or (codec is Codec.RAW and body != size):
        raise DeltaUnfit(f"Block {number} of the delta has a body of {body} bytes for {size} as {codec.name}.")
    if sum(run.length for run in runs) != (0 if codec in OF_ITSELF else size):
        raise DeltaUnfit(f"The runs of block {number} of the delta don't make {size} bytes.")
    if any(run.offset != NOWHERE and run.offset + run.length > old_size for run in runs):
        raise DeltaUnfit(f"A run of block {number} of the delta goes beyond the old file's {old_size} bytes.")
    return codec


# --- a block --------------------------------------------------------------------------------------


def made(block: DeltaBlock, body: bytes, read_old: ReadOld) -> bytes:
    """The block that the delta gives: as long as it should be, and whatever it gives. Raises DeltaUnfit."""
    if block.codec is Codec.RAW:
        return body
    if block.codec is Codec.ZSTD:
        return _unzipped(body, block.size, block.size)
    under = under_runs(block.runs, read_old)
    if len(under) != block.size:
        raise DeltaUnfit("The old file ends before the delta's runs do.")
    match block.codec:
        case Codec.SAME:
            return under
        case Codec.BYTES_ZSTD:
            return add(under, _unzipped(body, block.size, block.size))
        case Codec.BYTES_BZ2:
            return add(under, _unbzipped(body, block.size))
        case codec:
            return add(under, _unpacked(body, block.size, BITS[codec]))


def under_runs(runs: Sequence[Run], read_old: ReadOld) -> bytes:
    parts = [bytes(run.length) if run.offset == NOWHERE else read_old(run.offset, run.length) for run in runs]
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _unzipped(body: bytes, least: int, most: int) -> bytes:
    """One zstd frame which says how much it holds, and holds just that: no memory is taken for more. (One that
    needs a dictionary the library refuses.) Its window may be
    as large as what it holds, since that is all its memory."""
    try:
        holds = zstandard.get_frame_parameters(body)
        if not least <= holds.content_size <= most or holds.window_size > max(most, 1 << 10):
            raise DeltaUnfit(f"A body of the delta says that it holds {holds.content_size} bytes, not {least}.")
        data = zstandard.ZstdDecompressor().decompress(body, max_output_size=most, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise DeltaUnfit(f"A body of the delta isn't zstd: {error}.") from error
    if len(data) != holds.content_size:
        raise DeltaUnfit("A body of the delta holds less than it says.")
    return data


def _unbzipped(body: bytes, size: int) -> bytes:
    unpacker = bz2.BZ2Decompressor()
    try:
        data = unpacker.decompress(body, size)
        # All may be there before the end was read: then nothing more may come.
        more = b"" if unpacker.eof else unpacker.decompress(b"", 1)
    except (OSError, EOFError, ValueError) as error:
        raise DeltaUnfit(f"A body of the delta isn't bzip2: {error}.") from error
    if len(data) != size or more or not unpacker.eof or unpacker.unused_data:
        raise DeltaUnfit(f"A body of the delta doesn't hold {size} bytes.")
    return data


def _unpacked(body: bytes, size: int, bits: int) -> bytes:
    """Differences of `bits` bits: a table of their values, planes, and escapes for those that aren't in the table."""
    per = 8 // bits
    plane = -(-size // per)
    fixed = (1 << bits) + plane
    data = _unzipped(body, fixed, fixed + MAX_ESCAPES * ESCAPE_BYTES)
    table, packed, escapes = data[: 1 << bits], data[1 << bits : fixed], data[fixed:]
    planes = b"".join(packed.translate(values) for values in _plane_tables(table, bits))
    if not escapes:
        return planes[:size]
    differences = bytearray(planes[:size])
    for at, value in _escapes(escapes):
        if at >= size:
            raise DeltaUnfit(f"The delta has a difference at {at} of a block of {size} bytes.")
        differences[at] = value
    return bytes(differences)


def _plane_tables(table: bytes, bits: int) -> Iterator[bytes]:
    """For each plane: what a packed byte says of it."""
    mask = (1 << bits) - 1
    return (bytes(table[(byte >> shift) & mask] for byte in range(256)) for shift in range(0, 8, bits))


def _escapes(data: bytes) -> Iterator[tuple[int, int]]:
    count, rest = divmod(len(data), ESCAPE_BYTES)
    if rest:
        raise DeltaUnfit("The delta's escapes end within one.")
    return zip(struct.unpack_from(f"<{count}I", data), data[4 * count :], strict=True)


# --- adding ---------------------------------------------------------------------------------------

_LANES: Final = 1 << 16
_LOW: Final = int.from_bytes(b"\x7f" * _LANES, "little")
_HIGH: Final = int.from_bytes(b"\x80" * _LANES, "little")


def add(under: bytes, differences: bytes) -> bytes:
    """Byte by byte, mod 256. Both as long.

    The vehicle loads no array library, so 64 KiB at a time are added as one integer whose bytes keep their carries to
    themselves (L. Lamport, "Multiple byte processing with full-word instructions", CACM 18 (8), 1975).
    """
    parts = []
    for at in range(0, len(under), _LANES):
        one, other = under[at : at + _LANES], differences[at : at + _LANES]
        parts.append(one if other.count(0) == len(other) else _added(one, other))
    return b"".join(parts)


def _added(one: bytes, other: bytes) -> bytes:
    a, b = int.from_bytes(one, "little"), int.from_bytes(other, "little")
    return (((a & _LOW) + (b & _LOW)) ^ ((a ^ b) & _HIGH)).to_bytes(len(one), "little")
