"""`outrider signals`: compile DBC files to a plan, and look at one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from ecu.disk import RealDisk, replace_file
from ecu.errors import UsageFault, shown
from telemetry.signals.dbc import DbcText, compile_plan
from telemetry.signals.frames import EXTENDED
from telemetry.signals.mapfile import NO_MAP, load_map
from telemetry.signals.plan import MAX_PLAN_BYTES, Cut, SignalPlan, encode_plan, load_plan

app = typer.Typer(
    help="Signals from CAN: DBC files and a map become a plan.", no_args_is_help=True, add_completion=False
)

AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else there.")]


@app.command(name="compile")
def compile_command(
    dbc: Annotated[list[Path], typer.Argument(help="DBC files.")],
    out: Annotated[Path, typer.Option("--out", help="The plan's file.")],
    mapped: Annotated[Path | None, typer.Option("--map", help="TOML: which signal has which VSS path.")] = None,
    bus: Annotated[list[int] | None, typer.Option("--bus", help="Each DBC file's bus, in order; else 0.")] = None,
    as_json: AsJson = False,
) -> None:
    """DBC files and their map become one plan, which a release of the vehicle's configuration carries."""
    buses = bus or [0] * len(dbc)
    if len(buses) != len(dbc) or not all(0 <= number <= 255 for number in buses):
        raise UsageFault(f"{len(dbc)} DBC files and --bus {buses}: give each file one number from 0 to 255.")
    sources = [DbcText(str(path), _text(path), number) for path, number in zip(dbc, buses, strict=True)]
    plan = compile_plan(sources, NO_MAP if mapped is None else load_map(mapped))
    replace_file(RealDisk(out.resolve().parent), out.name, encode_plan(plan))
    _tell(plan, as_json, short=True)


@app.command(name="inspect")
def inspect_command(file: Annotated[Path, typer.Argument(help="A plan.")], as_json: AsJson = False) -> None:
    """What a plan cuts out of which frames; exit 1 when a vehicle would refuse it."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_PLAN_BYTES + 1)
    except OSError as error:
        raise UsageFault(f"Can't read {shown(file)}: {error.strerror}. Give a plan's file.") from error
    _tell(load_plan(data, str(file)), as_json, short=False)


def _text(path: Path) -> str:
    """DBC files are in Windows' Latin alphabet, newer ones in UTF-8; what neither has is in comments and units only."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageFault(f"Can't read {shown(path)}: {error.strerror}. Give an existing DBC file.") from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _tell(plan: SignalPlan, as_json: bool, *, short: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode(_document(plan, short)).decode() + "\n")
        return
    lines = () if short else _lines(plan)
    for line in [*lines, f"{len(plan.sources)} groups, {_signals(plan)} signals, schema {plan.schema.digest.hex()}"]:
        print(line)


def _document(plan: SignalPlan, short: bool) -> dict[str, Any]:
    told = {"schema": plan.schema.digest.hex(), "groups": len(plan.sources), "signals": _signals(plan)}
    if short:
        return told
    each = [
        {
            "name": group.name,
            "bus": cut.bus,
            "can_id": cut.can_id,
            "period_us": group.period_us,
            "signals": group.signals,
        }
        for group, cut in zip(plan.schema.groups, plan.sources, strict=True)
    ]
    return {**told, "each": each}


def _lines(plan: SignalPlan) -> Iterator[str]:
    for group, source in zip(plan.schema.groups, plan.sources, strict=True):
        kind = "extended" if source.can_id & EXTENDED else "standard"
        yield f"{shown(group.name)}  bus {source.bus}  id {source.can_id & ~EXTENDED:#x} {kind}"
        for spec, cut in zip(group.signals, source.cuts, strict=True):
            value = f"* {spec.scale:g} + {spec.offset:g} {shown(spec.unit)}".rstrip()
            yield f"  {spec.path}  {_where(cut)}  {value}"


def _where(cut: Cut) -> str:
    order = "big-endian" if cut.big_endian else "little-endian"
    kind = " float" if cut.real else " signed" if cut.signed else ""
    return f"bit {cut.start}, {cut.bits} bits {order}{kind}"


def _signals(plan: SignalPlan) -> int:
    return sum(len(group.signals) for group in plan.schema.groups)
