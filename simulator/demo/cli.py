"""`outrider demo`."""

from __future__ import annotations

import asyncio
import os
import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ecu.clock import SystemClock
from ecu.disk import RealDisk, replace_file
from ecu.errors import EXIT_NO, UsageFault
from simulator.demo.clouds.cloud import CLOUDS, DIRECT
from simulator.demo.demo import perform
from simulator.display import Display, open_display
from simulator.report import write_report

app = typer.Typer(add_completion=False)


@app.command()
def main(
    fast: Annotated[bool, typer.Option("--fast", help="Lockstep, in the drive's own time: under 25 s.")] = False,
    report: Annotated[Path, typer.Option(help="Folder for report.html, junit.xml, claims.json, drive.mcap.")] = Path(
        "report"
    ),
    show: Annotated[bool, typer.Option("--open", help="Open the report in a browser at the end.")] = False,
    link: Annotated[
        str, typer.Option("--link", help=f"What the vehicle tells its records over: {', '.join([DIRECT, *CLOUDS])}.")
    ] = DIRECT,
    as_json: Annotated[bool, typer.Option("--json", help="The claims as JSON on standard output.")] = False,
) -> None:
    """A vehicle, its receiver, a real drive and its faults, all on this machine; exit 0 only if every claim held."""
    _demand_writable(report.absolute())
    result = asyncio.run(perform(fast, _display(as_json), os.environ, report.absolute(), link))
    written = write_report(report.absolute(), result.evidence, result.recording)
    if as_json:
        print(result.verdict.to_json(), end="")
    else:
        Console().print(f"Report: {written.html}", highlight=False, soft_wrap=True)
    if show:
        webbrowser.open(written.html.as_uri())
    raise typer.Exit(0 if result.verdict.ok else EXIT_NO)


def _demand_writable(folder: Path) -> None:
    """Before the drive, not after it. Raises UsageFault or DiskError."""
    disk = RealDisk(folder)
    try:
        disk.make_folder("")
        replace_file(disk, ".writable", b"")
        disk.remove(".writable")
    except (FileExistsError, FileNotFoundError) as error:
        raise UsageFault(f"--report {folder}: no folder can be made there. Name another one.") from error


def _display(as_json: bool) -> Display:
    return open_display(Console(), SystemClock(), silent=as_json)
