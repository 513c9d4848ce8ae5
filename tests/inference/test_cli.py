"""`outrider model` as its user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from inference.cli import app
from inference.errors import PackageNotFound, PackageRefused, Unjudgeable
from tests.inference.labelled import mute, write_evaluation
from tests.inference.tiny import graph, write_package


@pytest.fixture
def models(tmp_path: Path) -> Path:
    write_package(tmp_path / "tiny-1.0")
    write_package(
        tmp_path / "tiny-1.1",
        models={"wrong": graph(gain=0.5), "right": graph()},
        meant={"wrong": graph()},
        change=lambda manifest: manifest.update(version="1.1"),
    )
    return tmp_path


def said(*args: str) -> str:
    done = CliRunner().invoke(app, args, catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def told(*args: str) -> Any:
    return json.loads(said(*args, "--json"))


def test_list_shows_each_package_and_why_one_is_refused(models: Path) -> None:
    (models / "tiny-1.0" / "CARD.md").write_bytes(b"# tinY\n")
    first, second = told("list", "--models", str(models))["packages"]
    assert first["package"] == "tiny@1.0"
    assert "CARD.md" in first["refused"]
    assert second["package"] == "tiny@1.1"
    assert second["variants"] == ["wrong", "right"]
    assert "refused" in said("list", "--models", str(models))


def test_inspect_tells_the_whole_manifest_and_the_graphs_operators(models: Path) -> None:
    content = told("inspect", "tiny@1.0", "--models", str(models))
    assert content["name"] == "tiny"
    assert content["variants"][0]["operators"]["Conv"] == 3
    shown = said("inspect", "drive-detect@2.0")
    assert "drive-detect@2.0" in shown
    assert "not accuracy" in shown
    assert "240" in said("inspect", "face-blur@1.0")
    assert told("inspect", "face-blur@1.0")["recall"]["trusted_person_px"] == 120.0


def test_verify_tells_of_each_variant_and_which_one_runs(models: Path) -> None:
    verdict = told("verify", "tiny", "--models", str(models))
    assert verdict["package"] == "tiny@1.1"
    assert [variant["golden_fault"] is None for variant in verdict["variants"]] == [False, True]
    assert (verdict["chosen"], verdict["ok"]) == ("right", True)
    assert "Runs here as right" in said("verify", "tiny", "--models", str(models))


def test_a_folder_of_ones_own_can_be_verified(models: Path) -> None:
    assert told("verify", str(models / "tiny-1.0"))["package"] == "tiny@1.0"


def test_text_of_a_package_is_never_taken_for_markup(models: Path) -> None:
    folder = write_package(
        models / "tiny-1.2",
        change=lambda manifest: manifest["licence"].update(holder="[bold]nobody[/bold] [/]"),
    )
    assert "[bold]nobody[/bold] [/]" in said("inspect", str(folder))


def test_a_package_that_cant_run_here_is_an_answer_of_no(models: Path) -> None:
    (models / "tiny-1.0" / "plain.onnx").write_bytes(b"")
    with pytest.raises(PackageRefused) as refused:
        said("verify", "tiny@1.0", "--models", str(models))
    assert refused.value.exit_code == 1


@pytest.mark.parametrize("args", [("verify", "tiny@9.9"), ("inspect", "none"), ("list",)])
def test_a_wrong_name_is_a_fault_of_usage(models: Path, args: tuple[str, ...]) -> None:
    where = str(models) if args[0] != "list" else str(models / "nowhere")
    with pytest.raises(PackageNotFound) as wrong:
        said(*args, "--models", where)
    assert wrong.value.exit_code == 2


def compared(*args: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["compare", *args], catch_exceptions=False)
    return done.exit_code, done.stdout


def test_compare_judges_as_a_vehicle_does_and_ends_well_only_when_passed(models: Path, tmp_path: Path) -> None:
    labelled = write_evaluation(tmp_path / "set")
    write_package(models / "tiny-2.0", {"plain": graph(mute)}, change=lambda manifest: manifest.update(version="2.0"))
    where = ("--on", str(labelled), "--models", str(models))
    code, shown = compared("tiny@1.0", "tiny@1.0", *where)
    assert (code, "tiny@1.0: passed" in shown) == (0, True)
    code, shown = compared("tiny@1.0", "tiny@2.0", *where)
    assert (code, "tiny@2.0: failed" in shown, "the candidate finds none" in shown) == (1, True, True)
    code, told_ = compared("tiny@1.0", "tiny@2.0", *where, "--json")
    verdict = json.loads(told_)
    assert (code, verdict["ok"], verdict["outcome"], verdict["evaluation"]["set"]) == (1, False, "failed", "tiny@1.0")
    assert verdict["candidate"]["package"] == "tiny@2.0"
    assert verdict["classes"][0]["candidate"]["found"] == 0


def test_compare_on_a_set_that_isnt_whole_is_an_answer_of_no(models: Path, tmp_path: Path) -> None:
    (write_evaluation(tmp_path / "set") / "003.jpg").write_bytes(b"")
    with pytest.raises(Unjudgeable, match=r"003\.jpg") as refused:
        compared("tiny@1.0", "tiny@1.0", "--on", str(tmp_path / "set"), "--models", str(models))
    assert refused.value.exit_code == 1


def test_the_front_door_leads_here() -> None:
    command = [sys.executable, "-m", "outrider", "model", "verify", "drive-detect@3.0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Known: drive-detect@1.0, drive-detect@2.0" in done.stderr
