"""What travels through an IoT hub, as values: whole or refused, and never more than a hub can hold."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.links.azure.messages import (
    MAX_REPORTED_BYTES,
    hint_of,
    hint_of_desired,
    lane_of,
    pack_answers,
    properties_of,
    reported_of,
    unpack_answers,
)
from telemetry.links.link import Hint, Refused
from telemetry.records import Lane
from telemetry.wire import MAX_REFUSAL_CHARACTERS, BadBlock, Decision, Receipt, Refusal

lanes = st.sampled_from(list(Lane))
receipts = st.builds(
    lambda lane, epoch, start, count: Receipt(lane, epoch, ((start, start + count),)),
    lanes, st.binary(min_size=16, max_size=16), st.integers(0, 1 << 60), st.integers(1, 1 << 20),
)  # fmt: skip
refusals = st.builds(
    Refusal,
    st.binary(min_size=16, max_size=16),
    st.sampled_from(list(Decision)),
    st.text(max_size=MAX_REFUSAL_CHARACTERS),
)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(receipts, max_size=5), st.lists(refusals, max_size=5))
def test_answers_come_out_as_they_went_in(told: list[Receipt], refused: list[Refusal]) -> None:
    payload = json.loads(json.dumps(pack_answers(told, refused)))
    assert unpack_answers(payload) == (told, refused)


@given(values)
def test_whatever_else_comes_is_refused_and_breaks_nothing(payload: Any) -> None:
    if payload == {}:
        assert unpack_answers(payload) == ([], [])
        return
    with pytest.raises(BadBlock):
        unpack_answers(payload)


@given(values)
def test_a_hint_is_short_ascii_text_and_nothing_else(payload: Any) -> None:
    if isinstance(payload, str) and payload.isascii() and 0 < len(payload) <= 64:
        assert hint_of(payload) == Hint(payload)
    else:
        with pytest.raises(BadBlock):
            hint_of(payload)


@given(values)
def test_a_twin_hints_only_by_our_part_of_it(patch: Any) -> None:
    hint = hint_of_desired(patch)
    assert (hint is None) == (not isinstance(patch, dict) or "outrider" not in patch)
    assert hint_of_desired({"outrider": patch}) is not None
    assert hint_of_desired({"outrider": {"hint": "updates"}}) == Hint("updates")


@given(lanes)
def test_a_lane_is_known_by_its_property_alone(lane: Lane) -> None:
    assert lane_of(properties_of(lane)) is lane
    assert lane_of({"lane": lane.name}) is None
    assert lane_of({}) is None


@given(st.dictionaries(st.text(max_size=12), values, max_size=6))
def test_a_status_becomes_what_a_twin_can_hold(status: dict[str, Any]) -> None:
    reported = reported_of(msgspec.json.encode(status))
    assert list(reported) == ["outrider"]
    assert_holds(reported["outrider"], 1)
    assert json.loads(json.dumps(reported)) == reported


def assert_holds(value: Any, level: int) -> None:
    assert level <= 10
    match value:
        case dict():
            for name, part in value.items():
                assert not set("$. \t\n\x00") & set(name)
                assert_holds(part, level + 1)
        case list():
            for part in value:
                assert_holds(part, level + 1)
        case str():
            assert len(value.encode()) <= 4096
        case int():
            assert abs(value) < 1 << 52


def test_what_no_twin_can_hold_is_refused_by_name() -> None:
    large = {f"n{n}": "x" * 4000 for n in range(10)}
    with pytest.raises(Refused, match=str(MAX_REPORTED_BYTES)):
        reported_of(json.dumps(large).encode())
    for status in (b"", b"7", b"[]", b"\xff", b"{" * 5000):
        with pytest.raises(Refused, match="JSON object"):
            reported_of(status)


def test_a_small_status_stays_as_it_is_and_large_numbers_become_text() -> None:
    assert reported_of(b'{"n":1,"wall_ns":1767225600000000000,"deep":[[[1.5,null]]]}') == {
        "outrider": {"n": 1, "wall_ns": "1767225600000000000", "deep": [[[1.5, None]]]}
    }
