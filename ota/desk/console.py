"""How a verb answers: words and tables, or JSON and nothing else; progress goes to standard error."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

import msgspec
import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from ecu.clock import SECOND_NS, SystemClock


@contextlib.contextmanager
def progress(what: str, total: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    columns = TextColumn(what), BarColumn(), DownloadColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as progress:
        bar = progress.add_task("", total=total)
        yield lambda count: progress.advance(bar, count)


def now() -> datetime:
    return datetime.fromtimestamp(SystemClock().wall_ns() // SECOND_NS, UTC)


def say(parts: Iterable[RenderableType]) -> None:
    console = Console()
    for part in parts:
        console.print(part, highlight=False, soft_wrap=isinstance(part, str))


def say_json(content: object) -> None:
    typer.echo(msgspec.json.encode(content).decode())
