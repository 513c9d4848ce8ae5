"""The same samples as AWS IoT FleetWise's edge agent sends them: protobuf's VehicleData, then raw snappy.

Written from interfaces/protobuf/schemas/edgeToCloud/vehicle_data.proto of aws/aws-iot-fleetwise-edge, with protobuf's
documented encoding (protobuf.dev/programming-guides/encoding): one CapturedSignal {sint64 relative_time_ms = 1;
uint32 signal_id = 2; double double_value = 3} for each sample.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetry.signals.schema import Columns, Schema, physical

_CAMPAIGN: Final = b"arn:aws:iotfleetwise:us-east-1:123456789012:campaign/x"
_DECODER: Final = b"arn:aws:iotfleetwise:us-east-1:123456789012:decoder-manifest/y"
_EVENT_ID: Final = 7
_EVENT_MS: Final = 1_763_850_000_000
_DIGITS: Final = 4
_MAX_VARINT_BYTES: Final = 10

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.uint64]


def snappy() -> Callable[[bytes], bytes] | None:
    """Raw snappy, None where no library for it is installed."""
    try:
        library = importlib.import_module("cramjam")
    except ImportError:
        return None
    return lambda data: bytes(library.snappy.compress_raw(data))


def vehicle_data(schema: Schema, batches: list[Columns]) -> bytes:
    """One message of all samples by time, as many digits behind the point as any scale here has."""
    times, ids, values = _rows(schema, batches)
    relative_ms = (times - times[0]).view(np.uint64) << np.uint64(1)
    return b"".join(
        [
            _text(1, _CAMPAIGN),
            _text(2, _DECODER),
            _number(3, _EVENT_ID),
            _number(4, _EVENT_MS),
            _captured(relative_ms, ids, values),
        ]
    )


def _rows(schema: Schema, batches: list[Columns]) -> tuple[NDArray[np.int64], Numbers, NDArray[np.float64]]:
    """By time: milliseconds, the signal's id from 1 on, the value."""
    firsts = np.cumsum([1, *(len(group.signals) for group in schema.groups)])
    times, ids, values = [], [], []
    for batch in batches:
        for place, (spec, raw) in enumerate(zip(schema.groups[batch.group].signals, batch.values, strict=True)):
            if raw is not None:
                times.append(batch.t_ns // 1000)
                ids.append(np.full(len(batch), firsts[batch.group] + place, np.uint64))
                values.append(np.round(physical(spec, raw), _DIGITS))
    order = np.argsort(np.concatenate(times), kind="stable")
    return np.concatenate(times)[order] // 1000, np.concatenate(ids)[order], np.concatenate(values)[order]


def _captured(relative_ms: Numbers, ids: Numbers, values: NDArray[np.float64]) -> bytes:
    """Field 5, once for each sample; a time of 0 is left out, as proto3 does."""
    has_time = relative_ms > 0
    time_bytes, id_bytes = np.where(has_time, 1 + _lengths(relative_ms), 0), _lengths(ids)
    inner = time_bytes + 1 + id_bytes + 9
    starts = np.cumsum(inner + 2) - (inner + 2)
    out = np.zeros(int((inner + 2).sum()), np.uint8)
    out[starts] = 5 << 3 | 2
    out[starts + 1] = inner  # below 128: one byte
    out[starts[has_time] + 2] = 1 << 3
    _put(out, starts[has_time] + 3, relative_ms[has_time])
    at = starts + 2 + time_bytes
    out[at] = 2 << 3
    _put(out, at + 1, ids)
    at = at + 1 + id_bytes
    out[at] = 3 << 3 | 1
    out[at[:, None] + np.arange(1, 9)] = values.astype("<f8").view(np.uint8).reshape(-1, 8)
    return out.tobytes()


def _lengths(numbers: Numbers) -> NDArray[np.int64]:
    """How many bytes each takes as a varint."""
    bounds = [1 << 7 * size for size in range(1, _MAX_VARINT_BYTES)]
    return 1 + np.searchsorted(np.array(bounds, np.uint64), numbers, "right")


def _put(out: Bytes, at: NDArray[np.int64], numbers: Numbers) -> None:
    """Varints: seven bits a byte, lowest first, the top bit set where more follow."""
    while len(at):
        more = numbers >= 128
        out[at] = (numbers & np.uint64(127)).astype(np.uint8) | more.astype(np.uint8) << 7
        at, numbers = at[more] + 1, numbers[more] >> np.uint64(7)


def _text(field: int, text: bytes) -> bytes:
    return bytes([field << 3 | 2, len(text)]) + text


def _number(field: int, number: int) -> bytes:
    """One whole number."""
    numbers = np.array([number], np.uint64)
    out = np.zeros(int(_lengths(numbers)[0]), np.uint8)
    _put(out, np.zeros(1, np.int64), numbers)
    return bytes([field << 3]) + out.tobytes()
