"""A sparse change survives its wire but for rounding, and nothing that isn't one gets in, whatever it claims."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.federated.errors import Refusal, UpdateRefused
from telemetry.federated.payload import SCALE_EVERY, SparseDelta, decode_delta, encode_delta

PARAMETERS = 100_000


def delta(indices: list[int], values: list[float], parameters: int = PARAMETERS) -> SparseDelta:
    return SparseDelta(parameters, np.array(indices, np.int64), np.array(values, np.float32))


@st.composite
def deltas(draw: st.DrawFn) -> SparseDelta:
    parameters = draw(st.integers(1, PARAMETERS))
    indices = sorted(draw(st.sets(st.integers(0, parameters - 1), min_size=1, max_size=600)))
    number = st.floats(-1e6, 1e6, width=32).filter(lambda value: value == 0 or abs(value) > 1e-30)
    values = draw(st.lists(number, min_size=len(indices), max_size=len(indices)))
    return delta(indices, values, parameters)


@given(sent=deltas())
def test_what_was_sent_arrives_within_half_a_step_of_the_largest_near_it(sent: SparseDelta) -> None:
    got = decode_delta(encode_delta(sent), sent.parameters, len(sent.indices))
    assert (got.indices == sent.indices).all()
    for at in range(0, len(sent.values), SCALE_EVERY):
        near = slice(at, at + SCALE_EVERY)
        step = np.abs(sent.values[near]).max() / 127
        assert np.abs(got.values[near] - sent.values[near]).max() <= 0.5001 * step


@given(sent=deltas())
def test_what_arrived_is_sent_again_as_it_is(sent: SparseDelta) -> None:
    once = decode_delta(encode_delta(sent), sent.parameters, len(sent.indices))
    again = decode_delta(encode_delta(once), sent.parameters, len(sent.indices))
    assert again.values == pytest.approx(once.values, rel=1e-6)


@given(noise=st.binary(max_size=200))
def test_noise_is_refused_by_name(noise: bytes) -> None:
    with pytest.raises(UpdateRefused):
        decode_delta(noise, PARAMETERS, 1000)


@given(sent=deltas(), data=st.data())
def test_a_damaged_payload_is_refused_or_means_something_bounded(sent: SparseDelta, data: st.DataObject) -> None:
    payload = bytearray(encode_delta(sent))
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] ^= data.draw(st.integers(1, 255))
    try:
        got = decode_delta(bytes(payload), sent.parameters, len(sent.indices))
    except UpdateRefused:
        return
    assert len(got.indices) <= len(sent.indices)
    assert got.indices.min() >= 0
    assert got.indices.max() < sent.parameters
    assert (np.diff(got.indices) > 0).all()
    assert np.isfinite(got.values).all()


# --- built by hand, since the encoder can't be made to lie --------------------------------------------


def forged(gaps: bytes, scales: list[float], values: bytes, kept: int, parameters: int = PARAMETERS) -> bytes:
    body = gaps + struct.pack(f"<{len(scales)}f", *scales) + values
    return struct.pack("<4sHHII", b"ORF1", 1, 256, parameters, kept) + zlib.compress(body)


def refusal_of(payload: bytes, most_kept: int = 1000) -> UpdateRefused:
    with pytest.raises(UpdateRefused) as refused:
        decode_delta(payload, PARAMETERS, most_kept)
    return refused.value


def test_the_forger_can_also_tell_the_truth() -> None:
    got = decode_delta(forged(b"\x03\x80\x01", [0.5], b"\x02\xff", 2), PARAMETERS, 2)
    assert got.indices.tolist() == [2, 130]
    assert got.values.tolist() == [1.0, -0.5]


@pytest.mark.parametrize(
    ("payload", "refusal", "words"),
    [
        (forged(b"\x03\x00", [0.5], b"\x01\x01", 2), Refusal.INDICES, "parameter 2 is named twice"),
        (forged(b"\x00\x03", [0.5], b"\x01\x01", 2), Refusal.INDICES, "parameter -1 is named twice, or out of order"),
        (forged(b"\xa1\x8d\x06", [0.5], b"\x01", 1), Refusal.INDICES, "parameter 100000 is named, the last is 99999"),
        (forged(b"\x01", [float("nan")], b"\x01", 1), Refusal.NOT_FINITE, "a scale is nan"),
        (forged(b"\x01", [float("inf")], b"\x01", 1), Refusal.NOT_FINITE, "a scale is inf"),
        (forged(b"\x01", [-1.0], b"\x01", 1), Refusal.NOT_FINITE, "a scale is -1"),
        (forged(b"\x01", [0.0], b"\x01", 1), Refusal.NOT_FINITE, "a scale is 0"),
        (forged(b"\x01", [3e38], b"\x02", 1), Refusal.NOT_FINITE, "beyond what a float32 holds"),
        (forged(b"\x01", [0.5], b"\x01", 1, PARAMETERS - 1), Refusal.WRONG_LAYOUT, "it changes 99999 parameters"),
        (forged(b"\x01" * 1001, [0.5] * 4, b"\x01" * 1001, 1001), Refusal.TOO_LARGE, "it names 1001 values"),
        (forged(b"", [], b"", 0), Refusal.TOO_LARGE, "it names 0 values"),
        (forged(b"\x01", [0.5], bytes(10_000_000), 1), Refusal.TOO_LARGE, "inflates to more than the 9 bytes"),
        (forged(b"\x01", [], b"", 1), Refusal.MALFORMED, "1 bytes are too few for 1 values"),
        (forged(b"\x81\x00", [0.5], b"\x01", 1), Refusal.MALFORMED, "isn't written in its one way"),
        (forged(b"\x80\x80\x80\x80\x01", [0.5], b"\x01" * 2, 2), Refusal.MALFORMED, "there are 1 indices for 2 values"),
        (forged(b"\x01\x80", [0.5], b"\x01", 1), Refusal.MALFORMED, "there are 1 indices for 1 values"),
        (forged(b"\x01", [0.5], b"\x01", 1) + b"x", Refusal.MALFORMED, "doesn't end where its deflated part ends"),
        (forged(b"\x01", [0.5], b"\x01", 1)[:-1], Refusal.MALFORMED, "doesn't end where its deflated part ends"),
        (forged(b"\x01", [0.5], b"\x01", 1)[:16] + b"not deflated", Refusal.MALFORMED, "it can't be inflated"),
        (b"ORF2" + forged(b"\x01", [0.5], b"\x01", 1)[4:], Refusal.MALFORMED, "no update of version 1"),
        (b"ORF1", Refusal.MALFORMED, "4 bytes are no update"),
    ],
)
def test_what_lies_is_refused_by_its_name_and_numbers(payload: bytes, refusal: Refusal, words: str) -> None:
    refused = refusal_of(payload)
    assert refused.refusal is refusal
    assert words in str(refused)


def test_what_fits_exactly_isnt_too_large() -> None:
    gaps = b"\x80\x80\x80\x01"  # the longest way to write an index
    big = 1 << 22
    payload = struct.pack("<4sHHII", b"ORF1", 1, 256, big, 1) + zlib.compress(gaps + struct.pack("<f", 1.0) + b"\x01")
    assert decode_delta(payload, big, 1).indices.tolist() == [(1 << 21) - 1]


def test_numbers_that_arent_finite_are_never_sent() -> None:
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="isn't finite"):
            encode_delta(delta([1], [bad]))
