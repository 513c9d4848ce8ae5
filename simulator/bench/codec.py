"""How many bytes a sample takes on the way, and what that costs: signal blocks beside FleetWise's protobuf and snappy,
events with a dictionary and without.

Ours are counted as sent: each block in a record of its own, each record in a wire block of its own. Of the peer's only
the payload is counted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from random import Random
from statistics import median
from typing import Final

import msgspec

from simulator.bench.fifty import fifty_signals, samples_in, windows
from simulator.bench.fleetwise import snappy, vehicle_data
from simulator.bench.metric import Metric, unless
from simulator.bench.minute import real_minute
from simulator.events import make_records
from telemetry.columns.block import Naming, decode, encode
from telemetry.dictionaries import NEWEST_DICTIONARY, NO_DICTIONARY
from telemetry.records import SignalBlock, Stored, encode_event
from telemetry.signals.schema import Columns, Schema
from telemetry.wire import HEADER_BYTES, pack_body

MAX_BYTES_A_SAMPLE: Final = 1.0
MIN_TIMES_BELOW: Final = 8.0
AIMED_S: Final = 10
_BLOCKS_S: Final = (1, AIMED_S, 60)
_ROUNDS: Final = 9
_EVENTS: Final = 3000
_UNSEEN_SEED: Final = 2  # the dictionary is trained with another


def run() -> list[Metric]:
    schema, batches = fifty_signals()
    return [
        *_sizes("50 signals", schema, batches, MAX_BYTES_A_SAMPLE, MIN_TIMES_BELOW),
        *_speeds(schema, batches),
        *_sizes("comma2k19 minute", *real_minute(), None, None),
        *_events(),
    ]


def _sizes(of: str, schema: Schema, batches: list[Columns], bar: float | None, times_bar: float | None) -> list[Metric]:
    ours = {seconds: _bytes_a_sample(schema, windows(batches, seconds)) for seconds in _BLOCKS_S}
    metrics = [
        Metric(
            f"{of}: bytes a sample, blocks of {seconds} s", size, "bytes",
            f"{samples_in(batches):,} samples, exact to the microsecond and to the last bit",
            bar if seconds == AIMED_S else None,
        )
        for seconds, size in ours.items()
    ]  # fmt: skip
    aimed = windows(batches, AIMED_S)
    alone = Metric(
        f"{of}: bytes a sample, blocks of {AIMED_S} s that name themselves",
        _bytes_a_sample(schema, aimed, Naming.INLINE),
        "bytes",
        "paths, scales and units within each block",
    )
    return [*metrics, alone, *_beside_fleetwise(of, schema, aimed, ours[AIMED_S], times_bar, snappy())]


def _bytes_a_sample(schema: Schema, blocks: Sequence[list[Columns]], naming: Naming = Naming.DIGEST) -> float:
    sent = 0
    for block in blocks:
        data = encode(block, schema, naming)
        parts = decode(data, {schema.digest: schema}.get).parts
        if not all(_is_same(*pair) for pair in zip(parts, block, strict=True)):
            raise AssertionError("a block that doesn't come back to the last bit counts for nothing")
        sent += HEADER_BYTES + len(pack_body([_stored(data)], NEWEST_DICTIONARY))
    return sent / sum(samples_in(block) for block in blocks)


def _is_same(one: Columns, other: Columns) -> bool:
    """To the last bit, times too. Groups may have other numbers."""
    told, expected = ([batch.t_ns, *(v for v in batch.values if v is not None)] for batch in (one, other))
    return len(told) == len(expected) and all(a.tobytes() == b.tobytes() for a, b in zip(told, expected, strict=True))


def _stored(columns: bytes) -> Stored:
    return Stored(10**15, 10**18, msgspec.Raw(encode_event(SignalBlock("fifty", 1, columns))))


def _beside_fleetwise(
    of: str, schema: Schema, blocks: Sequence[list[Columns]], ours: float, bar: float | None,
    compress: Callable[[bytes], bytes] | None,
) -> list[Metric]:  # fmt: skip
    """Rows without a number where there is no snappy: the peer's is never made up."""
    how = f"VehicleData protobuf and snappy, whole milliseconds, blocks of {AIMED_S} s"
    each = math.nan
    if compress is not None:
        theirs = sum(len(compress(vehicle_data(schema, block))) for block in blocks)
        each = theirs / sum(samples_in(block) for block in blocks)
    return unless(
        None if compress else "snappy isn't installed here (pip install cramjam)",
        Metric(f"{of}: FleetWise's bytes a sample", each, "bytes", how),
        Metric(f"{of}: times below FleetWise", each / ours, "x", how, bar, "at least"),
    )


def _speeds(schema: Schema, batches: list[Columns]) -> list[Metric]:
    """CPU time by block length; the median of rounds that take turns."""
    blocks = {seconds: windows(batches, seconds) for seconds in (1, AIMED_S)}
    spent: dict[tuple[str, int], list[float]] = {(what, s): [] for what in ("encode", "decode") for s in blocks}
    for _ in range(_ROUNDS):
        for seconds, cut in blocks.items():
            began = time.process_time()
            written = [encode(block, schema) for block in cut]
            between = time.process_time()
            for data in written:
                decode(data, {schema.digest: schema}.get)
            spent["encode", seconds].append(between - began)
            spent["decode", seconds].append(time.process_time() - between)
    samples = samples_in(batches)
    return [
        Metric(f"{what}, blocks of {seconds} s", samples / median(times) / 1e6, "M samples/s", f"CPU, {_ROUNDS} rounds")
        for (what, seconds), times in spent.items()
    ]


def _events() -> list[Metric]:
    """Of every kind in turn, unseen by the dictionary."""
    records = make_records(Random(_UNSEEN_SEED), _EVENTS)
    return [
        Metric(
            f"bytes an event, {batch} a body, {'with' if dictionary else 'without'} dictionary",
            _bytes_an_event(records, batch, dictionary), "bytes", "all kinds in turn, codec 1 without its header",
        )
        for batch in (1, 10, 100)
        for dictionary in (NO_DICTIONARY, NEWEST_DICTIONARY)
    ]  # fmt: skip


def _bytes_an_event(records: list[Stored], batch: int, dictionary: int) -> float:
    bodies = [pack_body(records[start : start + batch], dictionary) for start in range(0, len(records), batch)]
    return sum(map(len, bodies)) / len(records)
