"""Conditions come from the kernel's files as they are; what can't be read counts as unknown and never raises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.conditions import (
    Conditions,
    ConditionsSource,
    Heat,
    LinuxConditions,
    Network,
    Power,
    SettableConditions,
    cpu_pressure,
    heat,
    hottest,
    power,
)

FILES = {
    "thermal/thermal_zone0/temp": "41000\n",
    "thermal/thermal_zone1/temp": "78500\n",
    "power/ac/type": "Mains\n",
    "power/ac/online": "0\n",
    "power/bat/type": "Battery\n",
    "pressure": "some avg10=12.50 avg60=3.00 avg300=1.00 total=123\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    "load": "1.50 1.00 0.50 2/345 6789\n",
}


def source(root: Path, files: dict[str, str]) -> LinuxConditions:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return LinuxConditions(
        parked=lambda: True,
        network=lambda: Network.METERED,
        thermal=root / "thermal",
        power_supply=root / "power",
        pressure=root / "pressure",
        load=root / "load",
        cpus=2,
    )


def test_the_kernel_is_believed(tmp_path: Path) -> None:
    assert source(tmp_path, FILES).now() == Conditions(
        parked=True,
        power=Power.BATTERY,
        network=Network.METERED,
        heat=Heat.WARM,
        hottest_c=78.5,
        cpu_pressure=0.125,
        load=0.75,
    )


@pytest.mark.parametrize("garbage", ["", "nan-sense", "\x00\xff", "some\n", "some avg10=?"])
def test_what_cannot_be_read_counts_as_unknown(tmp_path: Path, garbage: str) -> None:
    assert source(tmp_path, dict.fromkeys(FILES, garbage)).now() == Conditions(parked=True, network=Network.METERED)


def test_a_computer_without_sensors_is_cool_and_its_power_unknown(tmp_path: Path) -> None:
    assert source(tmp_path, {}).now() == Conditions(parked=True, network=Network.METERED)


def test_this_computer_can_be_asked() -> None:
    now = LinuxConditions(lambda: False, lambda: Network.NONE).now()
    assert not now.parked
    assert 0.0 <= now.cpu_pressure <= 1.0
    assert now.load >= 0.0


@given(st.floats(-40, 150) | st.none(), st.floats(-40, 150))
def test_heat_never_falls_as_it_gets_warmer(hottest_c: float | None, warmer_c: float) -> None:
    ranks = list(Heat)
    if hottest_c is not None and warmer_c >= hottest_c:
        assert ranks.index(heat(warmer_c, 75, 90)) >= ranks.index(heat(hottest_c, 75, 90))
    assert heat(None, 75, 90) is Heat.COOL
    assert (heat(74.9, 75, 90), heat(75, 75, 90), heat(90, 75, 90)) == (Heat.COOL, Heat.WARM, Heat.HOT)


def test_the_hottest_zone_counts_and_silent_ones_do_not() -> None:
    assert hottest(["-5000", "", "300"]) == 0.3
    assert hottest(["", "off"]) is None


@pytest.mark.parametrize(
    ("supplies", "expected"),
    [
        ([], Power.UNKNOWN),
        ([("Mains", "1"), ("Battery", "")], Power.EXTERNAL),
        ([("USB", "1")], Power.EXTERNAL),
        ([("USB", "2"), ("Battery", "")], Power.EXTERNAL),
        ([("Mains", "0"), ("Battery", "")], Power.BATTERY),
        ([("UPS", "1")], Power.UNKNOWN),
    ],
)
def test_one_supply_from_outside_is_enough(supplies: list[tuple[str, str]], expected: Power) -> None:
    assert power(supplies) is expected


def test_pressure_is_the_share_in_which_some_task_waited() -> None:
    assert cpu_pressure("full avg10=9.00\nsome avg10=50.00 avg60=1.00") == 0.5
    assert cpu_pressure("") == 0.0


def test_settable_conditions_are_what_they_were_set_to() -> None:
    settable = SettableConditions()
    sources: list[ConditionsSource] = [settable]
    assert sources[0].now() == Conditions()
    settable.conditions = replace(settable.conditions, parked=True, heat=Heat.HOT)
    assert sources[0].now() == Conditions(parked=True, heat=Heat.HOT)
