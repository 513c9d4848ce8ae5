"""Rollouts for people, in eighty columns. Words of others are escaped."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ecu.clock import SECOND_NS
from receiver.rollouts.answers import RoleLine, RolloutLine

_COLUMNS = ("vehicles", "turn", "listed", "exposed", "kept", "failed", "silent", "undecided")
_LABEL = 15


def show_rollouts(lines: Sequence[RolloutLine], console: Console) -> None:
    for number, line in enumerate(lines):
        if number:
            console.print()
        console.print(Text.from_markup(_title(line)))
        for label, words in _facts(line):
            _say(label, words, console)
        console.print(Padding(_table(line), (0, 0, 0, 2)))


def show_repository(lines: Sequence[RoleLine], console: Console) -> None:
    for line in lines:
        if line.words:
            console.print(Text.from_markup(f"[bold yellow]{escape(line.words[:1].upper() + line.words[1:])}[/]"))
        else:
            _say(line.role, f"until {_when(line.ends_ns)}", console)


def _title(line: RolloutLine) -> str:
    colour = {"halted": "red", "held": "yellow", "done": "green"}.get(line.state, "bold")
    what = f"up to {line.percent:g} % of its vehicles, {escape(line.target)}, release {line.release}"
    return f"[bold]{escape(line.name)}[/]: [{colour}]{line.state}[/], {what}"


def _facts(line: RolloutLine) -> Iterator[tuple[str, str]]:
    """Each a label and words."""
    if line.alarm:
        yield "ALARM", f"[bold red]after its end: {escape(line.alarm)}. Nothing was done: rerelease is the way back.[/]"
    yield "now", escape(line.words)
    if line.held_up:
        yield "held up", f"[yellow]{escape(line.held_up)}[/]"
    if line.waits_for_director:
        yield "waits", f"{line.waits_for_director:,} vehicles for the director's signature"
    yield "open since", _when(line.opened_ns) if line.opened_ns is not None else "not yet"
    yield "signed", "; ".join(f"{act} by {', '.join(who)}" for act, who in line.signed.items()) or "by nobody yet"
    yield "evidence", f"{line.against:.3g} against it, halted at {line.halts_at:.3g}"
    if line.pairs:
        yield "quality", f"{line.quality:.3g} against it after {line.pairs:,} pairs"
    if line.step == 0 and line.allowed >= 0:
        yield "gate", f"passes with up to {line.allowed} failures among so many"
    yield "digest", line.digest


def _table(line: RolloutLine) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("hardware", overflow="fold")
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for its in line.strata:
        counts = (its.size, its.turn, its.listed, its.exposed, its.committed, its.failed, its.silent, its.undecided)
        table.add_row(escape(its.stratum), *(f"{count:,}" for count in counts))
    return table


def _say(label: str, words: str, console: Console) -> None:
    """The label once, the words beside it on as many lines as they take."""
    line = Table.grid(padding=(0, 1, 0, 0))
    line.add_column(width=_LABEL, no_wrap=True)
    line.add_column(overflow="fold")
    line.add_row(f"  {label}", words)
    console.print(line)


def _when(wall_ns: int) -> str:
    return f"{datetime.datetime.fromtimestamp(wall_ns // SECOND_NS, datetime.UTC):%Y-%m-%d %H:%MZ}"
