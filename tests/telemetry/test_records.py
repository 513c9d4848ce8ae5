"""The records' own encoding, held to its golden vectors (docs/formats/records.md)."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.privacy.stage import OF_CAMPAIGNS
from telemetry.records import (
    PLACES,
    AnyEvent,
    HardBrake,
    Health,
    Lane,
    Purpose,
    Record,
    Stored,
    VehicleSummary,
    decode_event,
    decode_records,
    encode_event,
    encode_records,
    kind_of,
    record_of,
    tag_of,
)

VECTORS = Path(__file__).parents[1] / "vectors" / "records"
EVENTS: list[dict[str, Any]] = json.loads((VECTORS / "events.json").read_text())
STORED: dict[str, Any] = json.loads((VECTORS / "stored.json").read_text())
FORMAT = (Path(__file__).parents[2] / "docs" / "formats" / "records.md").read_text()


@pytest.mark.parametrize("vector", EVENTS, ids=lambda vector: vector["name"])
def test_every_kind_has_the_bytes_of_its_golden_vector(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    event = decode_event(data)
    assert encode_event(event) == data
    # Read without our own structs: what any other MessagePack reader finds in the bytes.
    plain = msgspec.msgpack.decode(data)
    assert _shown(plain) == vector["event"]
    assert next(iter(plain)) == "kind"
    assert kind_of(event) == vector["event"]["kind"]
    if vector["lane"] is not None:
        record = record_of(5, event)
        assert (record.lane.name, record.purpose.name) == (vector["lane"], vector["purpose"])
    else:
        assert type(event) in OF_CAMPAIGNS


def _shown(value: Any) -> Any:
    """As JSON can hold it: bytes in hex."""
    if isinstance(value, dict):
        return {key: _shown(inner) for key, inner in value.items()}
    return value.hex() if isinstance(value, bytes) else value


def test_the_vectors_and_the_format_name_every_kind_with_its_place() -> None:
    kinds = {kind.__struct_config__.tag: place for kind, place in PLACES.items()}
    by_campaign = {tag_of(kind) for kind in OF_CAMPAIGNS}
    assert {vector["event"]["kind"] for vector in EVENTS} == set(kinds) | by_campaign
    assert set(PLACES) | set(OF_CAMPAIGNS) == set(typing.get_args(AnyEvent))
    for kind, (lane, purpose) in kinds.items():
        assert f"| `{kind}` | {lane.name} | {purpose.name.lower()} |" in FORMAT
        assert f"### {kind}" in FORMAT
    for kind in by_campaign:
        assert f"| `{kind}` | its campaign's | its campaign's |" in FORMAT
        assert f"### {kind}" in FORMAT


def test_a_list_of_records_has_the_bytes_of_its_golden_vector() -> None:
    data = bytes.fromhex(STORED["hex"])
    records = decode_records(data)
    assert encode_records(records) == data
    told = [
        {"captured_ns": r.captured_ns, "wall_ns": r.wall_ns, "event": msgspec.msgpack.decode(r.event)} for r in records
    ]
    assert told == STORED["records"]


signals = st.dictionaries(st.text(max_size=20), st.floats(allow_nan=False), max_size=8)


@given(st.dictionaries(st.text(max_size=20), st.floats(allow_nan=False), max_size=8), st.randoms())
def test_equal_events_have_equal_bytes_however_they_were_made(values: dict[str, float], chance: Any) -> None:
    # Mutation: without order="deterministic" the bytes follow the order in which the signals arrived.
    shuffled = list(values.items())
    chance.shuffle(shuffled)
    assert encode_event(VehicleSummary(dict(shuffled))) == encode_event(VehicleSummary(values))


@given(st.one_of(st.builds(HardBrake, st.floats(allow_nan=False), st.none() | st.floats(allow_nan=False), signals)))
def test_an_event_comes_back_as_it_went(event: HardBrake) -> None:
    assert decode_event(encode_event(event)) == event


@given(st.binary(max_size=200))
def test_bytes_that_are_no_event_or_no_list_raise_decode_errors_only(data: bytes) -> None:
    for decode in (decode_event, decode_records):
        try:
            decode(data)
        except msgspec.DecodeError:
            continue


@pytest.mark.parametrize(
    "event",
    [
        encode_event(Health("camera", "lost")).replace(b"camera", b"cam\xffra"),
        b"\x82\xa1x" + b"\x91" * 100_000,
        b"\x82\xa1\xff\xc0",
    ],
    ids=["text", "nested_without_end", "a_key"],
)
def test_text_that_isnt_utf8_and_nesting_without_end_are_decode_errors_too(event: bytes) -> None:
    # A ValueError that is none ended whoever had relied on the promise.
    with pytest.raises(msgspec.DecodeError):
        decode_event(event)
    with pytest.raises(msgspec.DecodeError):
        decode_records(b"\x91\x94\x01\x02\xc0" + b"\x91" * 100_000)


def test_an_unknown_kind_is_refused_and_an_unknown_field_ignored() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_event(msgspec.msgpack.encode({"kind": "novelty"}))
    newer = {"kind": "health", "what": "a", "detail": "b", "since_ns": 5}
    assert decode_event(msgspec.msgpack.encode(newer)) == Health("a", "b")


def test_purposes_and_lanes_keep_their_numbers() -> None:
    assert [(p.name, p.value) for p in Purpose] == [
        ("SAFETY", 1), ("DRIVING", 2), ("PERCEPTION", 3), ("OPERATION", 4), ("LEARNING", 5)
    ]  # fmt: skip
    assert [int(lane) for lane in Lane] == [0, 1, 2, 3]


def test_a_record_of_an_event_has_its_kinds_place() -> None:
    assert record_of(7, Health("a", "b")) == Record(Lane.P1, Purpose.OPERATION, 7, Health("a", "b"))
    raw = msgspec.Raw(encode_event(Health("a", "b")))
    assert decode_records(encode_records([Stored(1, 2, raw)]))[0].wall_ns == 2
