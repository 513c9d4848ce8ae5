"""The report's files agree with each other and with the verdict, and each is whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ecu.disk import DiskError
from simulator.report import write_report
from tests.simulator.report.synthetic import evidence, verdict


def test_page_xml_and_json_are_written_and_say_the_same(tmp_path: Path) -> None:
    written = write_report(tmp_path / "new" / "report", evidence(failing=True), tmp_path / "drive.mcap")
    claims = json.loads(written.claims.read_text())
    assert claims == json.loads(verdict(failing=True).to_json())
    assert written.html.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "drive.mcap" in written.html.read_text(encoding="utf-8")
    assert written.junit.read_text(encoding="utf-8").count("<failure") == 2
    assert sorted(path.name for path in written.html.parent.iterdir()) == ["claims.json", "junit.xml", "report.html"]


def test_a_new_report_replaces_the_old_one(tmp_path: Path) -> None:
    write_report(tmp_path, evidence(failing=True))
    written = write_report(tmp_path, evidence())
    assert "All 12 claims held." in written.html.read_text(encoding="utf-8")
    assert "drive.mcap" not in written.html.read_text(encoding="utf-8")


def test_a_report_can_be_passed_on(tmp_path: Path) -> None:
    written = write_report(tmp_path, evidence())
    assert {path.stat().st_mode & 0o777 for path in (written.html, written.junit, written.claims)} == {0o644}


def test_a_folder_that_can_not_be_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="file"):
        write_report(tmp_path / "file" / "report", evidence())
