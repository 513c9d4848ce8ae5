"""The report's files: report.html, junit.xml and claims.json, each whole or not there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ecu.disk import RealDisk, replace_file
from simulator.report.evidence import Evidence
from simulator.report.html import render
from simulator.report.junit import junit


@dataclass(frozen=True, slots=True)
class Written:
    """Where the report's parts are."""

    html: Path
    junit: Path
    claims: Path


def write_report(folder: Path, evidence: Evidence, recording: Path | None = None) -> Written:
    """Makes `folder` where it is missing. `recording` is the drive's MCAP file, best in the same folder.

    Raises DiskError; a file of an earlier report then is as it was.
    """
    disk = RealDisk(folder)
    disk.make_folder("")
    written = Written(folder / "report.html", folder / "junit.xml", folder / "claims.json")
    contents = {
        written.html: render(evidence, recording.name if recording else None),
        written.junit: junit(evidence),
        written.claims: evidence.verdict.to_json(),
    }
    for path, text in contents.items():
        replace_file(disk, path.name, text.encode("utf-8"))
        # A report is there to be passed on; state is not, and so ecu/disk.py keeps it private.
        path.chmod(0o644)
    return written
