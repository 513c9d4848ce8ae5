"""The plan file: one way to write it, and nothing in it is believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from telemetry.signals.dbc import compile_plan
from telemetry.signals.decode import Decoder
from telemetry.signals.frames import EXTENDED
from telemetry.signals.mapfile import load_map
from telemetry.signals.plan import MAX_PLAN_BYTES, PlanFileRefused, encode_plan, load_plan
from tests.telemetry.signals.dbcfiles import dbc

OWN = encode_plan(compile_plan([dbc("own")]))
DRIVES = Path(__file__).parents[3] / "simulator" / "drives"


def selector(bits: int) -> dict[str, Any]:
    return {"start": 0, "bits": bits, "big_endian": False, "signed": False, "real": False}


def changed(**wrong: Any) -> bytes:
    """OWN with some of its first group's, first signal's or first cut's numbers others."""
    document = msgspec.msgpack.decode(OWN[4:])
    group = document["groups"][0]
    signal = group["signals"][0]
    for key, value in wrong.items():
        holder = group if key in ("bus", "can_id", "branches", "name", "period_us") else signal
        holder = signal["cut"] if key in ("start", "bits", "signed", "real", "big_endian") else holder
        holder[key] = value
    return OWN[:4] + msgspec.msgpack.encode(document)


def test_a_plan_is_read_as_it_was_written() -> None:
    plan = compile_plan([dbc("own"), dbc("tesla_model3_party", 3)])
    assert load_plan(encode_plan(plan)) == plan
    assert encode_plan(load_plan(OWN)) == OWN


def test_the_plan_of_the_recorded_drive_is_what_its_dbc_files_and_map_give() -> None:
    mapped = load_map(DRIVES / "comma2k19-rav4.toml")
    plan = compile_plan([dbc("toyota_new_mc_pt", 0), dbc("toyota_adas", 1)], mapped)
    assert encode_plan(plan) == (DRIVES / "comma2k19-rav4.plan").read_bytes()


@pytest.mark.parametrize(
    ("wrong", "place", "reason"),
    [
        ({"bus": 256}, "groups[0].bus", "255"),
        ({"bus": -1}, "groups[0].bus", "0"),
        ({"can_id": 0x800}, "group 0 (FLOATS)", "no CAN id"),
        ({"can_id": EXTENDED + (1 << 29)}, "groups[0].can_id", "int"),
        ({"start": 512}, "groups[0].signals[0].cut.start", "int"),
        ({"start": 500}, "group 0 (FLOATS), signal", "beyond the 64 bytes"),
        ({"bits": 0}, "cut.bits", "1"),
        ({"bits": 65, "real": False}, "cut.bits", "64"),
        ({"bits": 31}, "signal Vehicle.Private.FLOATS", "31 bits"),
        ({"scale": float("nan")}, "signal Vehicle.Private.FLOATS", "scale nan"),
        ({"scale": 0.0}, "signal Vehicle.Private.FLOATS", "scale 0"),
        ({"offset": float("inf")}, "signal Vehicle.Private.FLOATS", "offset inf"),
        ({"minimum": 2.0, "maximum": 1.0}, "signal Vehicle.Private.FLOATS", "no range"),
        ({"minimum": float("-inf")}, "signal Vehicle.Private.FLOATS", "no range"),
        ({"path": "../etc/passwd"}, "signals[0].path", "regex"),
        ({"path": "Vehicle.Private.PLAIN.SPEED"}, "Vehicle.Private.PLAIN.SPEED", "twice"),
        ({"unit": "\x1b[2J"}, "signals[0].unit", "regex"),
        ({"name": "a\nb"}, "groups[0].name", "regex"),
        ({"name": "a\n"}, "groups[0].name", "regex"),
        ({"path": "Vehicle.Speed\n"}, "signals[0].path", "regex"),
        ({"period_us": 0}, "groups[0].period_us", "1"),
        ({"secret": 1}, "groups[0].signals[0]", "unknown"),
        ({"branches": [{"selector": selector(8), "ranges": [[5, 4]]}]}, "group 0", "in order"),
        ({"branches": [{"selector": selector(8), "ranges": [[1, 3], [2, 9]]}]}, "group 0", "in order"),
        ({"branches": [{"selector": selector(64), "ranges": [[1, 1]]}]}, "group 0", "selector"),
        ({"branches": [{"selector": selector(8), "ranges": []}]}, "branches[0].ranges", "1"),
        ({"branches": [{"selector": selector(8), "ranges": [[1, 1]]}] * 5}, "branches", "4"),
    ],
)  # fmt: skip
def test_a_wrong_number_is_refused_with_its_place(wrong: dict[str, Any], place: str, reason: str) -> None:
    with pytest.raises(PlanFileRefused) as refused:
        load_plan(changed(**wrong), "car.plan")
    assert "car.plan" in str(refused.value)
    assert place in str(refused.value)
    assert reason in str(refused.value)
    assert refused.value.exit_code == 1


def test_a_plan_written_another_way_is_refused() -> None:
    with pytest.raises(PlanFileRefused, match="one way"):
        load_plan(changed(offset=0))  # an integer, where a floating-point number is written


@pytest.mark.parametrize("data", [b"", b"ORP1", b"ORP2" + OWN[4:], OWN[:-1], OWN + b"\0", b"ORP1" + b"\x91" * 100_000])
def test_what_is_no_plan_is_refused(data: bytes) -> None:
    with pytest.raises(PlanFileRefused):
        load_plan(data)


def test_a_file_beyond_the_limit_is_refused_unread() -> None:
    with pytest.raises(PlanFileRefused, match="the most are"):
        load_plan(OWN[:4] + bytes(MAX_PLAN_BYTES))


@settings(max_examples=60)
@given(st.integers(0, len(OWN) - 1), st.binary(min_size=1, max_size=9))
@example(10, b"\xff")
def test_damaged_bytes_are_refused_or_are_a_whole_plan(at: int, new: bytes) -> None:
    data = OWN[:at] + new + OWN[at + len(new) :]
    try:
        plan = load_plan(data)
    except PlanFileRefused:
        return
    assert encode_plan(plan) == data
    Decoder(plan)
