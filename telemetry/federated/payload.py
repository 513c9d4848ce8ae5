"""A sparse change of parameters on the wire, version 1; layout and golden vectors: docs/formats/federated.md.

    magic "ORF1" | version | values a scale | parameters | values kept | zlib of:
        how far each index is from the one before it, LEB128 | scales, float32 | values, int8

All integers are little-endian. What is decoded is bounded before anything is inflated.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetry.federated.errors import Refusal, UpdateRefused

VERSION: Final = 1
SCALE_EVERY: Final = 256
"""Values that share a scale: with one for all, a layer of small ones would be rounded to nothing."""
LARGEST: Final = 127
_MAGIC: Final = b"ORF1"
_HEAD: Final = struct.Struct("<4sHHII")
_MOST_GAP_BYTES: Final = 4
_LEVEL: Final = 6


@dataclass(frozen=True, slots=True)
class SparseDelta:
    """A change of `parameters` numbers: `values` (K,) float32 at `indices` (K,) int64, which rise; 0 elsewhere."""

    parameters: int
    indices: NDArray[np.int64]
    values: NDArray[np.float32]

    @property
    def norm(self) -> float:
        """Euclidean, in double precision."""
        return float(np.linalg.norm(self.values.astype(np.float64)))

    def scaled(self, factor: float) -> SparseDelta:
        return SparseDelta(self.parameters, self.indices, (self.values * np.float64(factor)).astype(np.float32))

    def dense(self) -> NDArray[np.float32]:
        """(parameters,) float32."""
        whole = np.zeros(self.parameters, np.float32)
        whole[self.indices] = self.values
        return whole


def encode_delta(delta: SparseDelta) -> bytes:
    """Values are rounded to 127 steps either way of the largest among their neighbours: decode to learn what is left.

    Raises ValueError for values that aren't finite, or so small that their scale is none.
    """
    scales = np.array([_scale(chunk) for chunk in _chunks(delta.values)], np.float32)
    if not np.isfinite(scales).all() or (scales <= 0).any():
        raise ValueError("a change of parameters isn't finite")
    steps = [np.rint(chunk / scale) for chunk, scale in zip(_chunks(delta.values), scales, strict=True)]
    values = np.concatenate(steps).astype(np.int8) if steps else np.zeros(0, np.int8)
    body = _leb128(np.diff(delta.indices, prepend=-1)) + scales.astype("<f4").tobytes() + values.tobytes()
    head = _HEAD.pack(_MAGIC, VERSION, SCALE_EVERY, delta.parameters, len(delta.indices))
    return head + zlib.compress(body, _LEVEL)


def decode_delta(payload: bytes, parameters: int, most_kept: int) -> SparseDelta:
    """Of a plan's `parameters`, of which an update may name `most_kept`. Raises UpdateRefused."""
    kept = _demand_head(payload, parameters, most_kept)
    body = _inflated(payload[_HEAD.size :], kept)
    scales = math.ceil(kept / SCALE_EVERY)
    gap_bytes = len(body) - 4 * scales - kept
    if gap_bytes < kept:
        raise UpdateRefused(Refusal.MALFORMED, f"{len(body)} bytes are too few for {kept} values")
    indices = np.cumsum(_from_leb128(np.frombuffer(body[:gap_bytes], np.uint8), kept)) - 1
    _demand_indices(indices, parameters)
    scale = np.frombuffer(body, "<f4", scales, gap_bytes)
    if not np.isfinite(scale).all() or (scale <= 0).any():
        raise UpdateRefused(Refusal.NOT_FINITE, f"a scale is {scale[~(np.isfinite(scale) & (scale > 0))][0]}")
    steps = np.frombuffer(body, np.int8, kept, gap_bytes + 4 * scales)
    values = steps * np.repeat(scale.astype(np.float64), SCALE_EVERY)[:kept]
    if np.abs(values).max() > np.finfo(np.float32).max:
        raise UpdateRefused(Refusal.NOT_FINITE, "a value is beyond what a float32 holds")
    return SparseDelta(parameters, indices, values.astype(np.float32))


# --- before anything is inflated ----------------------------------------------------------------------


def _demand_head(payload: bytes, parameters: int, most_kept: int) -> int:
    """How many values there are."""
    if len(payload) < _HEAD.size:
        raise UpdateRefused(Refusal.MALFORMED, f"{len(payload)} bytes are no update")
    magic, version, every, told, kept = _HEAD.unpack_from(payload)
    if (magic, version, every) != (_MAGIC, VERSION, SCALE_EVERY):
        raise UpdateRefused(Refusal.MALFORMED, f"it begins with {payload[:8].hex()}, no update of version {VERSION}")
    if told != parameters:
        raise UpdateRefused(Refusal.WRONG_LAYOUT, f"it changes {told} parameters, there are {parameters}")
    if not 0 < kept <= min(most_kept, parameters):
        raise UpdateRefused(Refusal.TOO_LARGE, f"it names {kept} values, a plan's update has 1 to {most_kept}")
    return int(kept)


def _inflated(data: bytes, kept: int) -> bytes:
    """Never more than `kept` values can need."""
    most = kept * (_MOST_GAP_BYTES + 1) + 4 * math.ceil(kept / SCALE_EVERY)
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(data, most)
        if not inflater.eof and inflater.decompress(inflater.unconsumed_tail, 1):
            raise UpdateRefused(Refusal.TOO_LARGE, f"it inflates to more than the {most} bytes of {kept} values")
    except zlib.error as error:
        raise UpdateRefused(Refusal.MALFORMED, f"it can't be inflated: {error}") from error
    if not inflater.eof or inflater.unused_data:
        raise UpdateRefused(Refusal.MALFORMED, "it doesn't end where its deflated part ends")
    return body


def _demand_indices(indices: NDArray[np.int64], parameters: int) -> None:
    if indices[-1] >= parameters:
        raise UpdateRefused(Refusal.INDICES, f"parameter {indices[-1]} is named, the last is {parameters - 1}")
    if (twice := np.flatnonzero(np.diff(indices, prepend=-1) <= 0)).size:
        raise UpdateRefused(Refusal.INDICES, f"parameter {indices[twice[0]]} is named twice, or out of order")


# --- numbers ------------------------------------------------------------------------------------------


def _chunks(values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return [values[at : at + SCALE_EVERY] for at in range(0, len(values), SCALE_EVERY)]


def _scale(chunk: NDArray[np.float32]) -> float:
    """1 where all are 0, which then stay it."""
    largest = float(np.abs(chunk).max())
    return largest / LARGEST if largest else 1.0


def _leb128(numbers: NDArray[np.int64]) -> bytes:
    """Seven bits a byte, the lowest first, the eighth set on all but a number's last (DWARF 5, section 7.6)."""
    out = bytearray()
    for number in numbers.tolist():
        while number >= 0x80:
            out.append(number & 0x7F | 0x80)
            number >>= 7
        out.append(number)
    return bytes(out)


def _from_leb128(data: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    last = data < 0x80
    ends = np.flatnonzero(last)
    if len(ends) != count or not last[-1]:
        raise UpdateRefused(Refusal.MALFORMED, f"there are {len(ends)} indices for {count} values")
    begins = np.concatenate(([0], ends[:-1] + 1))
    place = np.arange(len(data)) - np.repeat(begins, ends - begins + 1)
    padded = (data[ends] == 0) & (ends > begins)
    if place.max() >= _MOST_GAP_BYTES or padded.any():
        raise UpdateRefused(Refusal.MALFORMED, "an index isn't written in its one way")
    return np.add.reduceat((data & 0x7F).astype(np.int64) << (7 * place), begins)
