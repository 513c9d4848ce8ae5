"""Recordings: exact, and refused where they are damaged; what other tools recorded; the drive that comes along."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ecu.clock import SECOND_NS, SteppingClock
from ecu.errors import UsageFault
from simulator.recordings import from_candump, from_comma2k19, main
from telemetry.signals.decode import Decoder
from telemetry.signals.frames import EXTENDED, Frames, concat, in_order
from telemetry.signals.plan import load_plan
from telemetry.signals.recording import HEADER_BYTES, RecordingRefused, encode_recording, open_recording
from telemetry.signals.replay import RecordingSource, Tape
from telemetry.signals.schema import physical
from telemetry.signals.source import SourceLost

DRIVES = Path(__file__).parents[3] / "simulator" / "drives"
MINUTE = (DRIVES / "comma2k19-rav4.frames").read_bytes()

LOG = """\
(1436509052.249713) can0 123#0102
(1436509052.249800) vcan1 1ABCDEF0#
(1436509052.250000) can0 7FF##1000102030405060708090A0B
(1436509052.250001) can0 123#R
(1436509052.250002) can0 123#R4 T
"""


@st.composite
def recordings(draw: st.DrawFn) -> Frames:
    count = draw(st.integers(1, 40))
    width = draw(st.sampled_from([8, 64]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    length = rng.integers(0, width + 1, count).astype(np.uint8)
    if draw(st.booleans()):
        length[:] = length[0]
    if width == 64:
        length[0] = 64
    data = rng.integers(0, 256, (count, width), dtype=np.uint8)
    data[np.arange(width) >= length[:, None]] = 0
    can_id = rng.integers(0, draw(st.sampled_from([1, 3, 2**29])), count).astype(np.uint32)
    t_us = np.sort(rng.integers(0, draw(st.sampled_from([1, 10**6, 10**9])), count)) - draw(st.integers(0, 10**6))
    return Frames(t_us * 1000, rng.integers(0, 3, count).astype(np.uint8), can_id, length, data)


def same(one: Frames, other: Frames) -> bool:
    pairs = ((one.t_ns, other.t_ns), (one.bus, other.bus), (one.can_id, other.can_id), (one.length, other.length))
    return all(np.array_equal(a, b) for a, b in (*pairs, (one.data, other.data)))


@settings(max_examples=60)
@given(recordings())
def test_a_recording_is_read_as_it_was_written(frames: Frames) -> None:
    recording = open_recording(encode_recording(frames, 1))
    assert same(concat(list(recording.chunks())), frames)
    assert (recording.frames, recording.first_ns, recording.last_ns) == (len(frames), frames.t_ns[0], frames.t_ns[-1])


def test_the_recorded_minute_is_what_it_was() -> None:
    """The digest is of comma2k19's own arrays: times in us, bus, id and eight bytes of each frame."""
    frames = concat(list(open_recording(MINUTE).chunks()))
    digest = hashlib.sha256()
    for column in (frames.t_ns // 1000, frames.bus, frames.can_id, frames.data):
        digest.update(np.ascontiguousarray(column).tobytes())
    assert len(frames) == 135_468
    assert digest.hexdigest() == "2c589793a3928da5f0f8fead88628b38c31ccada29f4b7cc76da5358279db969"


def test_the_recorded_minute_drives() -> None:
    plan = load_plan((DRIVES / "comma2k19-rav4.plan").read_bytes())
    frames = concat(list(open_recording(MINUTE).chunks()))
    series = {}
    for columns in Decoder(plan).decode(frames):
        for spec, raw in zip(plan.schema.groups[columns.group].signals, columns.values, strict=True):
            assert raw is not None
            series[spec.path] = columns.t_ns / SECOND_NS, physical(spec, raw)
    seconds, kmh = series["Vehicle.Speed"]
    assert (len(kmh), round(kmh.min(), 2), round(kmh.max(), 2)) == (2487, 29.38, 73.05)
    wheel_s, wheel = series["Vehicle.Chassis.Axle.Row1.Wheel.Left.Speed"]
    assert np.abs(np.interp(wheel_s, seconds, kmh) - wheel).max() < 4
    # What the car feels is how its speed changes, with VSS's sign.
    at = np.arange(seconds[0] + 2, seconds[-1] - 2, 0.5)
    change = (np.interp(at + 0.5, seconds, kmh) - np.interp(at - 0.5, seconds, kmh)) / 3.6
    felt = np.interp(at, *series["Vehicle.Acceleration.Longitudinal"])
    assert np.corrcoef(change, felt)[0, 1] > 0.6


@pytest.mark.parametrize("length", [0, 10, HEADER_BYTES, HEADER_BYTES + 4, len(MINUTE) // 2, len(MINUTE) - 1])
def test_a_recording_that_was_cut_is_refused(length: int) -> None:
    with pytest.raises(RecordingRefused, match="minute"):
        list(open_recording(MINUTE[:length], "minute").chunks())


def test_chunks_out_of_order_are_refused() -> None:
    early = from_candump(["(1.0) can0 123#00", "(2.0) can0 123#01"])
    late = from_candump(["(2.0) can0 123#02", "(3.0) can0 123#03"])
    head = bytearray(encode_recording(concat([early, late]))[:HEADER_BYTES])
    first, second = (encode_recording(part)[HEADER_BYTES:] for part in (early, late))
    assert len(concat(list(open_recording(bytes(head) + first + second).chunks()))) == 4
    with pytest.raises(RecordingRefused, match="backwards"):
        list(open_recording(bytes(head) + second + first).chunks())


SMALL = encode_recording(in_order(from_candump(LOG.splitlines())))


@settings(max_examples=60)
@given(st.integers(0, len(SMALL) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_changes_nothing(at: int, flip: int) -> None:
    data = bytearray(SMALL)
    data[at] ^= flip
    try:
        frames = concat(list(open_recording(bytes(data)).chunks()))
    except RecordingRefused:
        return
    assert same(frames, concat(list(open_recording(SMALL).chunks())))


def test_a_chunk_that_would_fill_the_memory_is_refused_unread() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(200_000_000))
    chunk = len(bomb).to_bytes(4, "little") + (10).to_bytes(4, "little") + bomb
    with pytest.raises(RecordingRefused, match="too large"):
        list(open_recording(SMALL[:HEADER_BYTES] + chunk).chunks())


def test_a_log_of_candump_is_read() -> None:
    frames = from_candump(LOG.splitlines())
    assert frames.t_ns.tolist() == [1436509052249713000, 1436509052249800000, 1436509052250000000]
    assert frames.bus.tolist() == [0, 1, 0]
    assert frames.can_id.tolist() == [0x123, 0x1ABCDEF0 | EXTENDED, 0x7FF]
    assert frames.length.tolist() == [2, 0, 12]
    assert frames.data[2, :12].tobytes() == bytes(range(12))


@pytest.mark.parametrize("line", ["hello", "(1.0) can0 12#00", "(1.0) can0 123#0", "(1.0) can0 123##1" + "00" * 65])
def test_what_candump_doesnt_write_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(UsageFault, match=r"car\.log:2"):
        from_candump(["(1.0) can0 123#00", line], "car.log")


def test_arrays_of_comma2k19_are_read(tmp_path: Path) -> None:
    t, address = np.array([1.0000004, 1.000002]), np.array([0x25, 0x1FFFFFFF])
    for name, values in {
        "t": t,
        "address": address,
        "src": np.array([0, 129]),
        "data": np.array([b"\1\0\2", b"\xff" * 8]),
    }.items():
        with (tmp_path / name).open("wb") as file:
            np.save(file, values)
    assert main(["comma2k19", str(tmp_path), str(tmp_path / "out.frames")]) == 0
    frames = concat(list(open_recording((tmp_path / "out.frames").read_bytes()).chunks()))
    assert same(frames, from_comma2k19(tmp_path))
    assert frames.t_ns.tolist() == [1_000_000_000, 1_000_002_000]
    assert frames.can_id.tolist() == [0x25, 0x1FFFFFFF | EXTENDED]
    assert frames.data[0].tolist() == [1, 0, 2, 0, 0, 0, 0, 0]
    assert main(["comma2k19", str(tmp_path / "nowhere"), str(tmp_path / "x")]) == 2


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(5, 99))
def test_a_loop_goes_on_as_after_any_other_frame(loops: int, step_us: int) -> None:
    frames = from_candump(LOG.splitlines())
    recording = open_recording(SMALL)
    tape = Tape(recording, 0, loop=True)
    length_ns = 287_000 + 143_500  # from the first to the last, and a mean gap
    parts = [tape.until(t_us * 1000) for t_us in range(0, loops * 430, step_us)]
    whole = concat([*parts, tape.until(loops * length_ns - 1)])
    assert len(whole) == loops * len(frames)
    since = frames.t_ns - frames.t_ns[0]
    assert whole.t_ns.tolist() == [int(t) + n * length_ns for n in range(loops) for t in since]


def test_a_rate_stretches_time() -> None:
    tape = Tape(open_recording(SMALL), 5000, rate=0.5)
    assert tape.until(10**9).t_ns.tolist() == [5000, 5000 + 174_000, 5000 + 574_000]
    assert tape.next_ns() is None


async def test_a_damaged_recording_is_a_lost_source() -> None:
    damaged = bytearray(SMALL)
    damaged[-1] ^= 1
    source = RecordingSource(open_recording(bytes(damaged), "drive"), SteppingClock())
    assert [frames async for frames in source.batches()] == []
    assert "drive is refused" in source.status().reason
    assert source.status().losses == 1
    await source.begin(0)
    with pytest.raises(SourceLost, match="drive is refused"):
        await source.advance(0)


def test_nothing_is_no_recording() -> None:
    frames = from_candump(LOG.splitlines())
    with pytest.raises(ValueError, match="no frame"):
        encode_recording(frames.rows(slice(0, 0)))
    with pytest.raises(ValueError, match="an hour"):
        encode_recording(replace(frames, t_ns=frames.t_ns + np.array([0, 0, 3 * 3600 * SECOND_NS])))
