"""DBC files and maps: what they become, and how a wrong one is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.errors import EXIT_USAGE, UsageFault
from telemetry.signals.dbc import DbcText, compile_plan
from telemetry.signals.mapfile import parse_map
from telemetry.signals.plan import SignalPlan
from telemetry.signals.schema import Form, SignalSpec
from telemetry.signals.units import KNOWN, conversion, unit_of
from tests.telemetry.signals.dbcfiles import dbc


def plan_with(text: str, *names: str) -> SignalPlan:
    sources = [dbc(name, bus) for bus, name in enumerate(names or ("own",))]
    return compile_plan(sources, parse_map(text, "car.toml"))


def spec_of(plan: SignalPlan, path: str) -> SignalSpec:
    return next(spec for group in plan.schema.groups for spec in group.signals if spec.path == path)


def test_a_signal_without_a_line_is_private() -> None:
    spec = spec_of(plan_with(""), "Vehicle.Private.NESTED.IN_ZERO")
    assert (spec.scale, spec.unit, spec.minimum, spec.maximum) == (0.1, "celsius", -100.0, 100.0)


def test_a_mapped_signal_is_in_its_paths_unit() -> None:
    spec = spec_of(plan_with('[PLAIN]\nSPEED = "Vehicle.Speed"\n'), "Vehicle.Speed")
    assert spec.unit == "km/h"
    assert math.isclose(spec.scale, 0.01 * 1.609344)
    assert spec.maximum is not None
    assert math.isclose(spec.maximum, 200 * 1.609344)


def test_factor_and_offset_turn_a_range_round() -> None:
    text = '[NESTED]\nIN_ZERO = { path = "Vehicle.Cold", unit = "K", factor = -2, offset = 10 }\n'
    spec = spec_of(plan_with(text), "Vehicle.Cold")
    assert (spec.scale, spec.offset, spec.minimum, spec.maximum) == (-0.2, 10.0, -190.0, 210.0)


def test_a_unit_may_be_said_where_the_dbc_file_has_none() -> None:
    text = '[PLAIN]\nTEMPERATURE = { path = "Vehicle.Exterior.AirTemperature", unit = "degC" }\n'
    spec = spec_of(plan_with(text), "Vehicle.Exterior.AirTemperature")
    assert (spec.unit, spec.offset) == ("celsius", -40.0)


def test_what_always_comes_together_is_one_group() -> None:
    plan = compile_plan([dbc("own")])
    names = {group.name: [spec.path.rpartition(".")[2] for spec in group.signals] for group in plan.schema.groups}
    assert names == {
        "FLOATS": ["SINGLE_LE", "SINGLE_BE", "DOUBLE_LE"],
        "WIDE": [
            "UNSIGNED_64_LE", "UNSIGNED_64_BE", "STRADDLE_LE", "STRADDLE_BE", "STRADDLE_64_LE", "STRADDLE_64_BE",
            "DOUBLE_BE", "LAST",
        ],
        "NESTED": ["OUTER", "ALWAYS"],
        "NESTED[OUTER=0]": ["IN_ZERO"],
        "NESTED[OUTER=1]": ["INNER"],
        "NESTED[OUTER=2-5|9]": ["IN_SOME"],
        "NESTED[OUTER=1,INNER=0-2]": ["DEEP_A"],
        "NESTED[OUTER=1,INNER=3-15]": ["DEEP_B"],
        "PLAIN": ["SPEED", "TEMPERATURE", "ONE_BIT_SIGNED"],
        "BROAD": ["ALL_BUT_ONE", "THE_ONE"],
    }  # fmt: skip


def test_forms_hold_every_value() -> None:
    plan = compile_plan([dbc("own")])
    forms = {spec.path.rpartition(".")[2]: spec.form for group in plan.schema.groups for spec in group.signals}
    assert forms["UNSIGNED_64_LE"] == forms["UNSIGNED_64_BE"] == forms["STRADDLE_64_LE"] == Form.UINT
    assert forms["SINGLE_BE"] == forms["DOUBLE_LE"] == Form.FLOAT
    assert forms["STRADDLE_64_BE"] == forms["ALL_BUT_ONE"] == forms["SPEED"] == Form.INT


def test_periods_are_the_files_or_the_maps() -> None:
    periods = {group.name: group.period_us for group in plan_with("[FLOATS]\nperiod_ms = 2.5\n").schema.groups}
    assert (periods["PLAIN"], periods["FLOATS"], periods["WIDE"]) == (20_000, 2_500, None)


def test_two_buses_may_have_messages_of_one_name() -> None:
    plan = plan_with('["PLAIN@1"]\nSPEED = "Vehicle.Speed"\n', "own", "own")
    assert [cut.bus for cut in plan.sources] == [0] * 10 + [1] * 10
    assert spec_of(plan, "Vehicle.Private.PLAIN.SPEED")
    assert spec_of(plan, "Vehicle.Private.Bus1.FLOATS.SINGLE_LE")
    assert "PLAIN@1" in {group.name for group in plan.schema.groups}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[PLAINE]\nSPEED = "A.B"\n', "car.toml:2: PLAINE.SPEED: there is no message PLAINE. Did you mean PLAIN?"),
        ('\n[PLAIN]\nSPED = "A.B"\n', "car.toml:3: PLAIN.SPED: PLAIN has no signal SPED. Did you mean SPEED?"),
        ('["PLAIN@1"]\nSPEED = "A.B"\n', "there is no message PLAIN on bus 1"),
        ('[PLAIN]\nSPEED = "A.B"\nTEMPERATURE = "A.B"\n',
         "car.toml:3: PLAIN.TEMPERATURE: the path A.B is SPEED's already (line 2)"),
        ('[PLAIN]\nTEMPERATURE = "Vehicle.Speed"\n', "the signal is in no unit, its path in km/h"),
        ('[NESTED]\nIN_ZERO = "Vehicle.Speed"\n', "the signal is in celsius, its path in km/h"),
        ('[PLAIN]\nSPEED = { path = "Vehicle.Speed", unit = "m/s" }\n', "Vehicle.Speed is in km/h, not in m/s"),
        ('[PLAIN]\nSPEED = { path = "A.B", units = "m" }\n', "unknown key 'units'. Did you mean unit?"),
        ('[PLAIN]\nSPEED = { path = "A B" }\n', "'A B' is no path"),
        ('[PLAIN]\nSPEED = { path = "A.B", factor = 0 }\n', "give no values"),
        ('[PLAIN]\nSPEED = { path = "A.B", factor = "2" }\n', "are numbers"),
        ('[PLAIN]\nSPEED = { path = "A.B", offset = nan }\n', "give no values"),
        ('[PLAIN]\nSPEED = 7\n', "write a VSS path"),
        ('[PLAIN]\nperiod_ms = -1\n', "milliseconds"),
        ('[PLAIN]\nperiod_ms = true\n', "milliseconds"),
        ('PLAIN = 3\n', "is no table"),
        ('[PLAIN]\nSPEED = "A.B"\n["PLAIN@0"]\nSPEED = "A.C"\n', "has a path already"),
        ('[PLAIN\n', "isn't TOML"),
    ],
)  # fmt: skip
def test_a_wrong_map_is_refused_with_its_line_and_the_nearest_right_name(text: str, said: str) -> None:
    with pytest.raises(UsageFault) as refused:
        plan_with(text)
    assert "car.toml" in str(refused.value)
    assert said in str(refused.value)
    assert refused.value.exit_code == EXIT_USAGE


def test_a_name_that_several_buses_have_must_say_which() -> None:
    with pytest.raises(UsageFault, match=r'write one of \["PLAIN@0"\], \["PLAIN@1"\]'):
        plan_with('[PLAIN]\nSPEED = "A.B"\n', "own", "own")


def test_two_messages_of_one_id_on_one_bus_are_refused() -> None:
    with pytest.raises(UsageFault, match=r"has the id 0x100 of FLOATS in own\.dbc, both on bus 0"):
        compile_plan([dbc("own"), dbc("own")])


def test_what_is_no_dbc_file_is_refused_by_name() -> None:
    with pytest.raises(UsageFault, match=r"bad\.dbc can't be read: .*line 1"):
        compile_plan([DbcText("bad.dbc", "BO_ twelve")])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("DEEP_A INNER 0-2", "DEEP_A GONE 0-2", "DEEP_A hangs on no multiplexer"),
        ("SG_ LAST : 511|1@1+", "SG_ LAST : 511|8@1+", "beyond the 64 bytes"),
        ("SG_ SPEED : 0|16@1+ (0.01,0)", "SG_ SPEED : 0|16@1+ (0,0)", "scale 0"),
        ("BO_ 258 PLAIN", "BO_ 256 PLAIN", "0x100"),
    ],
)
def test_a_dbc_file_that_cant_be_meant_is_refused(old: str, new: str, said: str) -> None:
    source = dbc("own")
    assert old in source.text
    with pytest.raises(UsageFault, match=said):
        compile_plan([replace(source, text=source.text.replace(old, new))])


@given(st.sampled_from(KNOWN), st.sampled_from(KNOWN), st.floats(-1e3, 1e3))
def test_conversions_turn_back(one: str, other: str, value: float) -> None:
    there, back = conversion(one, other), conversion(other, one)
    assert (there is None) == (back is None)
    if there is not None and back is not None:
        returned = (value * there[0] + there[1]) * back[0] + back[1]
        assert math.isclose(returned, value, rel_tol=1e-9, abs_tol=1e-6)


@pytest.mark.parametrize(
    ("given_unit", "wanted", "value", "becomes"),
    [
        ("mph", "km/h", 100, 160.9344), ("degF", "celsius", 212, 100), ("g", "m/s^2", 1, 9.80665),
        ("deg/s", "rad/s", 180, math.pi), ("psi", "kPa", 1, 6.894757293168361), ("kelvin", "celsius", 0, -273.15),
    ],
)  # fmt: skip
def test_units_are_what_they_are(given_unit: str, wanted: str, value: float, becomes: float) -> None:
    line = conversion(given_unit, wanted)
    assert line is not None
    assert math.isclose(value * line[0] + line[1], becomes)


def test_what_isnt_known_stays_as_it_was_written() -> None:
    assert unit_of(" furlong ") == "furlong"
    assert conversion("furlong", "furlong") == (1.0, 0.0)
    assert conversion("furlong", "m") is None
    assert conversion("s", "m") is None
