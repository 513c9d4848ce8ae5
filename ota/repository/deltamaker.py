"""Makes a delta between two files: aligns them, tries the codecs on each block and keeps the smallest.

Memory is bounded: a block of each file and what becomes of it; the whole delta is on disk until it is worth keeping.
"""

from __future__ import annotations

import bz2
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import zstandard

from ota.delta import (
    BITS,
    BLOCK,
    ESCAPE_BYTES,
    MAX_ESCAPES,
    MAX_INDEX_BYTES,
    MAX_RUNS,
    NOWHERE,
    OF_ITSELF,
    RUN,
    Codec,
    Ends,
    Run,
    encode_head,
    under_runs,
)
from ota.manifest import BLOCK_BYTES
from ota.repository.files import Watch
from ota.repository.initializers import NotOnnx, Read, Span, initializers

WORTH_IT: Final = 0.6
"""Of the full file: a delta above that isn't kept."""

_BZ2_GAIN: Final = 0.95
"""A vehicle takes twenty times as long for bzip2: it has to be that much smaller."""
_QUICK: Final = zstandard.ZstdCompressionParameters.from_level(1, write_content_size=True, write_checksum=False)
_GENERAL: Final = zstandard.ZstdCompressionParameters.from_level(9, write_content_size=True, write_checksum=False)
_THOROUGH: Final = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_BTOPT,
    window_log=20,
    hash_log=12,
    chain_log=12,
    search_log=1,
    min_match=4,
    target_length=8,
    write_content_size=True,
    write_checksum=False,
)
"""Differences of weights repeat themselves by chance alone: an optimal parser which hardly looks for repetitions comes
within some percent of their entropy, and below what the highest levels make of them, in a tenth of the time."""
_NEAR: Final = 1.06
"""What is so near to the entropy of single differences isn't tried with slower means."""

Put = Callable[[bytes], None]
_Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Aligned:
    """A stretch of the new file and where its like begins in the old one; None where there is none."""

    begin: int
    end: int
    old: int | None


# --- alignment ------------------------------------------------------------------------------------


def aligned(old: Read, new: Read, old_size: int, new_size: int) -> list[Aligned]:
    """The whole new file, in order: by place, or weight by weight where both are ONNX and their weights moved."""
    try:
        olds, news = initializers(old, old_size), initializers(new, new_size)
    except NotOnnx:
        return _clipped([Aligned(0, new_size, 0)], old_size)
    pairs = [(span, olds[name]) for name, span in news.items() if name in olds and olds[name].length == span.length]
    if not pairs or all(new.offset == old.offset for new, old in pairs):
        return _clipped([Aligned(0, new_size, 0)], old_size)
    return _clipped(list(_by_weight(sorted(pairs, key=lambda pair: pair[0].offset), new_size)), old_size)


def _by_weight(pairs: Sequence[tuple[Span, Span]], new_size: int) -> Iterator[Aligned]:
    """What lies between two weights tells of the second: its name and shape come before its bytes."""
    at = shift = 0
    for new, old in pairs:
        shift = old.offset - new.offset
        yield Aligned(at, new.end, at + shift)
        at = new.end
    if at < new_size:
        yield Aligned(at, new_size, at + shift)


def _clipped(stretches: Sequence[Aligned], old_size: int) -> list[Aligned]:
    """Neighbours of one shift are one; what would lie outside the old file has no like."""
    joined = list[Aligned]()
    for stretch in (part for whole in stretches for part in _inside(whole, old_size)):
        last = joined[-1] if joined else None
        if last is not None and _goes_on(last, stretch):
            joined[-1] = Aligned(last.begin, stretch.end, last.old)
        else:
            joined.append(stretch)
    return joined


def _goes_on(last: Aligned, after: Aligned) -> bool:
    if last.old is None or after.old is None:
        return last.old is after.old
    return last.old + (last.end - last.begin) == after.old


def _inside(stretch: Aligned, old_size: int) -> Iterator[Aligned]:
    if stretch.old is None:
        yield stretch
        return
    shift = stretch.old - stretch.begin
    begin = min(max(stretch.begin, -shift), stretch.end)
    end = max(begin, min(stretch.end, old_size - shift))
    parts = ((stretch.begin, begin, None), (begin, end, begin + shift), (end, stretch.end, None))
    yield from (Aligned(*part) for part in parts if part[0] < part[1])


def runs_of(stretches: Sequence[Aligned], begin: int, end: int) -> tuple[Run, ...]:
    """For the block from `begin` to `end`; one run of nothing where there would be too many."""
    runs = []
    for its in stretches:
        first, last = max(begin, its.begin), min(end, its.end)
        if first < last:
            runs.append(Run(NOWHERE if its.old is None else its.old + first - its.begin, last - first))
    return tuple(runs) if len(runs) <= MAX_RUNS else (Run(NOWHERE, end - begin),)


# --- the delta ------------------------------------------------------------------------------------


def make(old: Read, new: Read, ends: Ends, bodies: Put, watch: Watch) -> bytes | None:
    """Hands on the body of each block in order, and returns the head that goes before them; None, after some bodies,
    where the delta isn't worth it. `watch` is told the bytes of every block that was dealt with."""
    stretches = aligned(old, new, ends.old_size, ends.new_size)
    blocks = list[tuple[Codec, Sequence[Run], int]]()
    written = entries = 0
    for number in range(ends.count):
        begin, size = number * BLOCK_BYTES, ends.block_bytes(number)
        codec, runs, body = smallest(new(begin, size), runs_of(stretches, begin, begin + size), old)
        bodies(body)
        blocks.append((codec, runs, len(body)))
        written += len(body)
        entries += BLOCK.size + RUN.size * len(runs)
        if written + entries > WORTH_IT * ends.new_size or entries > MAX_INDEX_BYTES:
            return None
        watch(size)
    return encode_head(ends, blocks)


def smallest(block: bytes, runs: tuple[Run, ...], old: Read) -> tuple[Codec, tuple[Run, ...], bytes]:
    """Codec, runs and body of the least bytes, at a fair price for the vehicle."""
    under = under_runs(runs, old)
    if under == block:
        return Codec.SAME, runs, b""
    differences = np.frombuffer(block, np.uint8) - np.frombuffer(under, np.uint8)
    best = min(_tried(block, differences), key=lambda pair: len(pair[1]))
    best = _or_bzip2(differences, best)
    return best[0], () if best[0] in OF_ITSELF else runs, best[1]


def _tried(block: bytes, differences: _Bytes) -> Iterator[tuple[Codec, bytes]]:
    yield Codec.RAW, block
    counts = np.bincount(differences, minlength=256)
    packings = {codec: packed for codec, bits in BITS.items() if (packed := _packed(differences, counts, bits))}
    quick = {codec: _zipped(packed, _QUICK) for codec, packed in packings.items()}
    yield from quick.items()
    yield Codec.BYTES_ZSTD, _zipped(differences.tobytes(), _QUICK)
    if not packings:
        # Nothing of the old one is in it: it is what it is.
        yield Codec.ZSTD, _zipped(block, _GENERAL)
        return
    likely = min(quick, key=lambda codec: len(quick[codec]))
    if len(quick[likely]) > _NEAR * _entropy_bytes(counts):
        yield likely, _zipped(packings[likely], _THOROUGH)


def _or_bzip2(differences: _Bytes, best: tuple[Codec, bytes]) -> tuple[Codec, bytes]:
    counts = np.bincount(differences, minlength=256)
    if best[0] in OF_ITSELF or len(best[1]) <= _NEAR * _entropy_bytes(counts):
        return best
    zipped = bz2.compress(differences.tobytes())
    return (Codec.BYTES_BZ2, zipped) if len(zipped) < _BZ2_GAIN * len(best[1]) else best


def _entropy_bytes(counts: npt.NDArray[np.intp]) -> float:
    """What single differences of these counts take at least, each for itself."""
    some = counts[counts > 0].astype(np.float64)
    return float(-(some * np.log2(some / some.sum())).sum() / 8)


def _packed(differences: _Bytes, counts: npt.NDArray[np.intp], bits: int) -> bytes | None:
    """Table, planes and escapes; None where too many differences aren't in the table."""
    table = np.argsort(-counts, kind="stable")[: 1 << bits]
    if len(differences) - counts[table].sum() > min(MAX_ESCAPES, len(differences) // ESCAPE_BYTES):
        return None
    code_of = np.full(256, 255, np.uint8)
    code_of[table] = np.arange(1 << bits, dtype=np.uint8)
    codes = code_of[differences]
    escaped = np.flatnonzero(codes == 255)
    codes[escaped] = 0
    per = 8 // bits
    planes = np.pad(codes, (0, -len(codes) % per)).reshape(per, -1)
    packed = np.zeros(planes.shape[1], np.uint8)
    for number, plane in enumerate(planes):
        packed |= plane << np.uint8(bits * number)
    escapes = escaped.astype("<u4").tobytes() + differences[escaped].tobytes()
    return table.astype(np.uint8).tobytes() + packed.tobytes() + escapes


def _zipped(data: bytes, how: zstandard.ZstdCompressionParameters) -> bytes:
    return zstandard.ZstdCompressor(compression_params=how).compress(data)
