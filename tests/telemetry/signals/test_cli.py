"""`outrider signals`, as a person uses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import outrider
from ecu.errors import EXIT_NO, OutriderError, UsageFault
from telemetry.signals.plan import load_plan
from tests.telemetry.signals.dbcfiles import FOLDER


def test_a_plan_is_compiled_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mapped, out = tmp_path / "car.toml", tmp_path / "car.plan"
    mapped.write_text('["PLAIN@3"]\nSPEED = "Vehicle.Speed"\n')
    arguments = ["signals", "compile", str(FOLDER / "own.dbc"), "--bus", "3", "--map", str(mapped), "--out", str(out)]
    assert outrider.run([*arguments, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    plan = load_plan(out.read_bytes())
    assert said == {"schema": plan.schema.digest.hex(), "groups": 10, "signals": 23}
    assert outrider.run(["signals", "inspect", str(out)]) == 0
    shown = capsys.readouterr().out
    assert (
        "PLAIN@3  bus 3  id 0x102 standard\n  Vehicle.Speed  bit 0, 16 bits little-endian  * 0.0160934 + 0 km/h\n"
        in shown
    )
    assert "NESTED@3[OUTER=0]  bus 3  id 0x201 extended" in shown
    assert outrider.run(["signals", "inspect", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["each"][0]["signals"][0]["path"] == "Vehicle.Private.FLOATS.SINGLE_LE"


def test_what_is_wrong_is_said_and_leaves_the_plan_that_was_there(tmp_path: Path) -> None:
    out, mapped = tmp_path / "car.plan", tmp_path / "car.toml"
    out.write_bytes(b"before")
    mapped.write_text('[NOWHERE]\nSPEED = "Vehicle.Speed"\n')
    with pytest.raises(UsageFault, match=r"car\.toml:2: NOWHERE\.SPEED: there is no message NOWHERE"):
        outrider.run(["signals", "compile", str(FOLDER / "own.dbc"), "--map", str(mapped), "--out", str(out)])
    with pytest.raises(UsageFault, match="give each file one number"):
        outrider.run(["signals", "compile", str(FOLDER / "own.dbc"), "--bus", "0", "--bus", "1", "--out", str(out)])
    with pytest.raises(UsageFault, match="gone"):
        outrider.run(["signals", "compile", str(tmp_path / "gone.dbc"), "--out", str(out)])
    assert out.read_bytes() == b"before"
    with pytest.raises(OutriderError, match="doesn't begin as a signal plan") as refused:
        outrider.run(["signals", "inspect", str(out)])
    assert refused.value.exit_code == EXIT_NO
