"""Blocks as a vehicle would send them, of the sizes that are measured."""

from __future__ import annotations

from base64 import b85encode
from enum import Enum
from random import Random
from typing import Final

import msgspec

from telemetry.records import Health, Lane, Purpose, Stored, VehicleSummary, encode_event
from telemetry.signals import vss
from telemetry.wire import CODEC_RECORDS_ZSTD, NO_DICTIONARY, BlockHeader, pack_block, pack_body

_NOISE_BYTES: Final = 94 * 1024
_EPOCH: Final = bytes(range(16))


class BlockKind(Enum):
    """`records` in each."""

    SMALL = "small"  # about 200 B: two summaries of a vehicle's signals
    LARGE = "large"  # nearly 96 KiB, the most a block may have: one record that doesn't compress

    @property
    def records(self) -> int:
        return 2 if self is BlockKind.SMALL else 1


def make_blocks(kind: BlockKind, count: int, first_seq: int = 0) -> list[bytes]:
    """`count` blocks on end, from `first_seq` on; the same every time."""
    rng = Random(first_seq)
    make = _small if kind is BlockKind.SMALL else _large
    return [make(first_seq + number * kind.records, rng) for number in range(count)]


def _small(seq: int, rng: Random) -> bytes:
    return _block(seq, [_stored(seq + n, _summary(rng)) for n in range(BlockKind.SMALL.records)])


def _large(seq: int, rng: Random) -> bytes:
    noise = b85encode(rng.randbytes(_NOISE_BYTES)).decode()
    return _block(seq, [_stored(seq, encode_event(Health("bench", noise)))])


def _summary(rng: Random) -> bytes:
    return encode_event(VehicleSummary({vss.SPEED: rng.uniform(0, 130), vss.HEADING: rng.uniform(0, 360)}))


def _stored(seq: int, event: bytes) -> Stored:
    return Stored(seq * 50_000_000, seq * 50_000_000, msgspec.Raw(event))


def _block(seq: int, records: list[Stored]) -> bytes:
    body = pack_body(records)
    header = BlockHeader(
        Lane.P1, Purpose.DRIVING, _EPOCH, seq, len(records), CODEC_RECORDS_ZSTD, NO_DICTIONARY, len(body)
    )
    return pack_block(header, body)
