"""`outrider spool`: inspect, verify. They only look, whether the agent runs or not."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table

from ecu.clock import SystemClock
from ecu.errors import OutriderError
from ecu.toml import load_toml
from telemetry.spool.inspection import SPOOL_FOLDER, Inspection, LaneView, inspect, verify
from telemetry.spool.limits import SpoolLimits

app = typer.Typer(
    help="What is kept on flash, and whether all of it is accounted for.", no_args_is_help=True, add_completion=False
)

State = Annotated[Path, typer.Option("--state", help="The agent's state folder.")]
Config = Annotated[Path | None, typer.Option("--config", help="outrider.toml; its section 'spool' is read.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else there.")]
DEFAULT_STATE: Final = Path("outrider-state")

_SUMS: Final = (
    "offered", "durable", "pending", "dropped", "lost_in_crash", "acknowledged", "spooled", "evicted", "quarantined",
    "erased",
)  # fmt: skip


@app.command(name="inspect")
def inspect_command(state: State = DEFAULT_STATE, config: Config = None, as_json: AsJson = False) -> None:
    """Where every record is, lane by lane; exit 1 when that doesn't add up or flash lost any."""
    _tell(inspect(state, load_toml(config, SpoolLimits, section="spool"), SystemClock()), as_json)


@app.command(name="verify")
def verify_command(state: State = DEFAULT_STATE, config: Config = None, as_json: AsJson = False) -> None:
    """As inspect, and every block is decrypted and checked."""
    limits = load_toml(config, SpoolLimits, section="spool")
    columns = TextColumn("checking"), BarColumn(), DownloadColumn()
    found = inspect(state, limits, SystemClock())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=as_json) as progress:
        bar = progress.add_task("", total=sum(view.flash_bytes for view in found.lanes))
        checked = verify(found, state, limits, SystemClock(), lambda flash_bytes: progress.advance(bar, flash_bytes))
    _tell(checked, as_json)


def _tell(found: Inspection, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode(_document(found)).decode() + "\n")
    else:
        _show(found)
    if not found.is_sound:
        raise OutriderError(
            "Flash doesn't hold all that was durable: see the quarantined records, by lane. Check its health (dmesg,"
            " smartctl); what is readable is still sent."
        )


def _document(found: Inspection) -> dict[str, Any]:
    spool = dataclasses.asdict(found.counts)
    del spool["lanes"]
    lanes = [_lane(view) for view in found.lanes]
    return {"lanes": lanes, "law_1_holds": found.counts.holds, "bad_blocks": found.bad_blocks, **spool}


def _lane(view: LaneView) -> dict[str, Any]:
    flat = {field.name: getattr(view, field.name) for field in dataclasses.fields(view) if field.name != "counts"}
    counts = {name: getattr(view.counts, name) for name in _SUMS}
    return {"lane": view.counts.lane.name, **counts, "holds": view.counts.conservation.holds, **flat}


def _show(found: Inspection) -> None:
    table = Table(title="Law 1: records are conserved", caption=_verdict(found))
    table.add_column("records")
    for view in found.lanes:
        table.add_column(view.counts.lane.name, justify="right")
    for name in _SUMS:
        table.add_row(name.replace("_", " "), *(_cell(getattr(view.counts, name)) for view in found.lanes))
    table.add_section()
    for name in ("segments", "blocks", "flash_bytes", "epochs", "oldest_age_s", "damaged"):
        table.add_row(name.removesuffix("_s").replace("_", " "), *(_cell(getattr(view, name)) for view in found.lanes))
    console = Console()
    console.print(table)
    for line in _lines(found):
        console.print(line, highlight=False)


def _verdict(found: Inspection) -> str:
    return "both sides equal: it holds" if found.counts.holds else "[red]BROKEN[/]"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f} s"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{sum(value.values()):,}" + "".join(f"\n{reason} {records:,}" for reason, records in value.items())


def _lines(found: Inspection) -> list[str]:
    counts = found.counts
    lines = [f"flash   {counts.flash_bytes:,} bytes, {counts.segments} segments, {counts.free_segments} free"]
    if counts.untold:
        lines.append(f"untold  {counts.untold:,} records left unacknowledged, and the receiver wasn't told yet")
    if counts.copies:
        lines.append(f"copies  {counts.copies} blocks in quarantine, still encrypted: {SPOOL_FOLDER}/bad-*.blk")
    if counts.ledger_lost:
        lines.append("ledger  lost (a power cut): counts are what flash knows, without what was in memory then")
    if counts.books_lost:
        lines.append("books   lost: what was acknowledged isn't known; it is sent again")
    return lines + [f"[red]bad[/]     {words}" for words in found.bad_blocks]
