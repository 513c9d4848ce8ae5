"""Deltas in every hostile form. Nobody believes one, so nothing is refused: the release comes, right, without it."""

from __future__ import annotations

import bz2
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import zstandard

from ecu.clock import SteppingClock
from ota.source import Source
from tests.ota.corpus.base import MIB, Base, sha256
from tests.ota.corpus.case import Act, Before, Case, Unfit
from tests.ota.corpus.draft import Draft
from tests.ota.corpus.metadata import both
from tests.ota.corpus.sources import lying

HEADER: Final = struct.Struct("<4sQQ32s32sI")
BLOCK: Final = struct.Struct("<BHI")
RUN: Final = struct.Struct("<QI")
SAME, BYTES_ZSTD, BYTES_BZ2, PAIRS, NIBBLES, ZSTD, RAW = range(7)
NOWHERE: Final = (1 << 64) - 1
TAIL: Final = 5_000

Part = tuple[int, Sequence[tuple[int, int]], bytes]
"""Codec, runs and body of a block."""
Bodies = Callable[[Base], bytes]


def with_a_delta(draft: Draft) -> None:
    draft.contents["model.onnx"] = draft.base.new
    draft.has_delta = True


def delta_cases() -> Iterator[Case]:
    yield from _of_the_header()
    yield from _of_the_index()
    yield from _of_bodies()
    yield from _of_its_bytes()


def _case(defect: str, act: Act, words: str = ".") -> Case:
    return Case(f"delta {defect}", Unfit.DELTA, act, with_a_delta, Before.KEPT, words=words)


def changed(change: Callable[[bytes], bytes]) -> Act:
    def edit(files: dict[str, bytes]) -> None:
        for path in files:
            if path.startswith("image/deltas/"):
                files[path] = change(files[path])

    return lambda draft: draft.edit("files", edit)


# --- the head ---------------------------------------------------------------------------------------


def _of_the_header() -> Iterator[Case]:
    for words, at, value, told in (
        ("of another form", 0, b"ODL2", "begins with"),
        ("to a file of another size", 4, b"\x01", "other files"),
        ("from a file of another size", 12, b"\x01", "other files"),
        ("to another file", 20, b"\x00" * 8, "other files"),
        ("from another file", 52, b"\x00" * 8, "other files"),
        ("with an endless index", 84, struct.pack("<I", (1 << 20) + 1), "more than 1048576"),
        ("with the longest of indexes", 84, struct.pack("<I", 0xFFFFFFFF), "more than 1048576"),
        ("with no index", 84, bytes(4), "within block 0"),
        ("with an index a byte short", 84, struct.pack("<I", 3 * 7 + 3 * 12 - 1), "within block 2"),
        ("with an index a byte long", 84, struct.pack("<I", 3 * 7 + 3 * 12 + 1), "goes on for 1 bytes"),
    ):
        put = lambda data, at=at, value=value: data[:at] + value + data[at + len(value) :]  # noqa: E731
        yield _case(words, changed(put), told)
    yield _case("of nothing", changed(lambda data: b""), "within its header")
    yield _case("cut within its header", changed(lambda data: data[: HEADER.size - 1]), "within its header")
    yield _case("cut within its index", changed(lambda data: data[: HEADER.size + 30]), "within block")


def made_of(*parts: Callable[[Base], Part] | Part) -> Act:
    """A delta whose first blocks are these, and whose others are as they should be."""

    def act(draft: Draft) -> None:
        base = draft.base
        given = [part(base) if callable(part) else part for part in parts]
        right = [_right(base, number) for number in range(3)]
        its = [*given, *right[len(given) :]]
        changed(lambda data: _encoded(base, its))(draft)

    return act


def _right(base: Base, number: int) -> Part:
    size = MIB if number < 2 else TAIL
    return BYTES_ZSTD, [(number * MIB, size)], zipped(_difference(base, number))


def _difference(base: Base, number: int) -> bytes:
    at = slice(number * MIB, (number + 1) * MIB)
    new, old = (np.frombuffer(its[at], np.uint8) for its in (base.new, base.old))
    return bytes(new - old)


def zipped(data: bytes, **more: Any) -> bytes:
    return zstandard.ZstdCompressor(level=1, **more).compress(data)


def _encoded(base: Base, parts: Sequence[Part]) -> bytes:
    index = b"".join(
        BLOCK.pack(codec, len(runs), len(body)) + b"".join(RUN.pack(*run) for run in runs)
        for codec, runs, body in parts
    )
    names = bytes.fromhex(sha256(base.new)), bytes.fromhex(sha256(base.old))
    head = HEADER.pack(b"ODL1", len(base.new), len(base.old), *names, len(index))
    return head + index + b"".join(body for *_, body in parts)


def _of_the_index() -> Iterator[Case]:
    whole = [(0, MIB)]
    odd = zipped(bytes(MIB))
    for words, part, told in (
        ("with too many runs", (BYTES_ZSTD, [(0, 4096)] * 256 + [(0, 0)], odd), "257 runs"),
        ("of a codec that nobody knows", (7, whole, odd), "codec 7"),
        ("of the last codec there could be", (255, whole, odd), "codec 255"),
        ("with a body larger than its block", (BYTES_ZSTD, whole, bytes(MIB + 1)), "body of 1048577"),
        ("with a body for what is the same", (SAME, whole, b"x"), "body of 1 bytes"),
        ("with a raw body that is short", (RAW, [], bytes(MIB - 1)), "body of 1048575"),
        ("with runs that are short", (SAME, [(0, MIB - 1)], b""), "don't make"),
        ("with runs that are long", (SAME, [(0, MIB), (0, 1)], b""), "don't make"),
        ("with no runs", (SAME, [], b""), "don't make"),
        ("raw and with runs", (RAW, whole, bytes(MIB)), "don't make"),
        ("with a run beyond the old file", (SAME, [(2 * MIB + TAIL - 10, MIB)], b""), "goes beyond"),
        ("with a run far beyond the old file", (SAME, [(1 << 62, MIB)], b""), "goes beyond"),
        ("with a run just before nowhere", (SAME, [(NOWHERE - 1, MIB)], b""), "goes beyond"),
        ("that makes a block of nothing", (SAME, [(NOWHERE, MIB)], b""), "isn't what was signed"),
        ("that says a block is the same", (SAME, whole, b""), "isn't what was signed"),
        ("that makes a block of another", (SAME, [(MIB, MIB)], b""), "isn't what was signed"),
        ("whose raw block is another", (RAW, [], bytes(MIB)), "isn't what was signed"),
    ):
        yield _case(words, made_of(part), told)


# --- bodies -----------------------------------------------------------------------------------------


def _of_bodies() -> Iterator[Case]:
    whole = [(0, MIB)]
    for codec, name in ((BYTES_ZSTD, "differences"), (ZSTD, "bytes")):
        runs = whole if codec == BYTES_ZSTD else []
        for words, body, told in (
            ("that aren't zstd", b"garbage", "isn't zstd|says that it holds"),
            ("of nothing", b"", "isn't zstd|says that it holds"),
            ("of another file", zipped(bytes(MIB)), "isn't what was signed"),
            ("that are short", zipped(bytes(MIB - 1)), "holds 1048575"),
            ("that are long", zipped(bytes(MIB + 1)), "holds 1048577"),
            ("that are a bomb", zipped(bytes(8 * MIB)), "holds 8388608"),
            ("that don't say how many", zipped(bytes(MIB), write_content_size=False), "says that it holds"),
            ("with more behind them", zipped(bytes(MIB)) + b"more", "isn't zstd"),
            ("in two frames", zipped(bytes(MIB)) + zipped(b"more"), "isn't zstd"),
            ("cut short", zipped(bytes(MIB))[:-1], "isn't zstd|less than it says"),
            ("in a vast window", _windowed(27), "says that it holds"),
            ("with a dictionary", _with_a_dictionary(), "says that it holds|isn't zstd"),
        ):
            yield _case(f"of zstd {name} {words}", made_of((codec, runs, body)), told)
    packed = bz2.compress(bytes(MIB))
    for words, body, told in (
        ("that aren't bzip2", b"garbage", "isn't bzip2"),
        ("of nothing", b"", "isn't bzip2|doesn't hold"),
        ("of another file", packed, "isn't what was signed"),
        ("that are short", bz2.compress(bytes(MIB - 1)), "doesn't hold"),
        ("that are long", bz2.compress(bytes(MIB + 1)), "doesn't hold"),
        ("that are a bomb", bz2.compress(bytes(8 * MIB)), "doesn't hold"),
        ("with more behind them", packed + b"more", "doesn't hold"),
        ("in two streams", packed + bz2.compress(b"more"), "doesn't hold"),
        ("cut short", packed[:-1], "isn't bzip2|doesn't hold"),
    ):
        yield _case(f"of bzip2 differences {words}", made_of((BYTES_BZ2, whole, body)), told)
    yield from _of_packed(whole)


def _windowed(log: int) -> bytes:
    """The frame of a stream: its window is its own, and not what it holds (RFC 8878 section 3.1.1.1)."""
    parameters = zstandard.ZstdCompressionParameters(window_log=log, write_content_size=True)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=MIB)
    body = packer.compress(bytes(MIB)) + packer.flush()
    # Not a single segment, and a window of its own, as no compressor would write for so little.
    magic, descriptor = body[:4], body[4]
    if descriptor & 0x20:
        body = magic + bytes([descriptor & ~0x20, (log - 10) << 3]) + body[5:]
    return body


def _with_a_dictionary() -> bytes:
    samples = zstandard.ZstdCompressionDict(
        b"a dictionary that nobody has" * 9, dict_type=zstandard.DICT_TYPE_RAWCONTENT
    )
    body = zstandard.ZstdCompressor(dict_data=samples).compress(bytes(MIB))
    descriptor = body[4] | 1  # one byte of a dictionary's number follows the window, if there is one
    return (
        body[:4]
        + bytes([descriptor])
        + (b"" if descriptor & 0x20 else body[5:6])
        + b"\x07"
        + body[5 if descriptor & 0x20 else 6 :]
    )


def _of_packed(whole: list[tuple[int, int]]) -> Iterator[Case]:
    for codec, bits, name in ((PAIRS, 2, "pairs"), (NIBBLES, 4, "nibbles")):
        table, plane = bytes(1 << bits), bytes(-(-MIB * bits // 8))
        fixed = table + plane
        for words, body, told in (
            ("of another file", fixed, "isn't what was signed"),
            ("that are short", fixed[:-1], "says that it holds"),
            ("that are nothing", b"", "says that it holds"),
            ("with half an escape", fixed + b"abc", "within one"),
            ("with an escape beyond its block", fixed + struct.pack("<IB", MIB, 1), "at 1048576"),
            ("with an escape far beyond", fixed + struct.pack("<IB", 0xFFFFFFFF, 1), "at 4294967295"),
            ("with too many escapes", fixed + bytes(5 * (MIB // 64 + 1)), "says that it holds"),
            ("that are a bomb", bytes(8 * MIB), "says that it holds"),
        ):
            yield _case(f"of {name} {words}", made_of((codec, whole, zipped(body))), told)
        yield _case(f"of {name} that aren't zstd", made_of((codec, whole, b"garbage")), "isn't zstd|says that it")


# --- on its way -------------------------------------------------------------------------------------


def _of_its_bytes() -> Iterator[Case]:
    yield _case("cut within a body", changed(lambda data: data[:-10]), "ends within the body of block 2")
    yield _case(
        "cut behind its head", changed(lambda data: data[: HEADER.size + 57]), "ends within the body of block 0"
    )
    yield _case("flipped in a body", changed(lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]))
    yield _case("of zeros behind its head", changed(lambda data: data[:150].ljust(len(data), b"\0")))
    yield _case(
        "whose blocks are swapped", made_of(lambda base: _right(base, 1), lambda base: _right(base, 0)), "signed"
    )
    yield _case("that goes on and on", _generous(65_536), "goes on beyond")
    in_pieces = both(
        with_a_delta, made_of(lambda base: (RAW, [], base.new[:MIB]), lambda base: (RAW, [], base.new[MIB : 2 * MIB]))
    )
    yield Case(
        "delta that comes in one piece", Unfit.DELTA, _in_one_piece, in_pieces, Before.KEPT, words="goes on beyond"
    )


def _generous(more: int) -> Act:
    """More of a delta than was asked for."""

    def read(source: Source, clock: SteppingClock, path: str, offset: int, most: int) -> Iterator[bytes]:
        yield from source.read(path, offset, most)
        for _ in range(100):
            yield bytes(more)
        raise AssertionError("who reads so far would read on for ever")

    return lying("deltas/", read)


def _in_one_piece(draft: Draft) -> None:
    lying("deltas/", lambda source, clock, path, offset, most: iter([b"".join(source.read(path, offset, most))]))(draft)
