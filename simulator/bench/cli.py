"""`outrider bench NAME`."""

from __future__ import annotations

import importlib
import json
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from ecu.errors import EXIT_NO, UsageFault
from simulator.bench.metric import Metric, answer
from simulator.demo.exhibit import host

app = typer.Typer(add_completion=False)

BENCHES: Final = {
    "capture": "simulator.bench.capture.bench",
    "codec": "simulator.bench.codec",
    "conditions": "simulator.bench.conditions",
    "dbc": "simulator.bench.dbc",
    "federated": "simulator.bench.federated",
    "inference": "simulator.bench.inference",
    "link": "simulator.bench.link.bench",
    "ota": "simulator.bench.ota.bench",
    "replay": "simulator.bench.replay",
    "rollouts": "simulator.bench.rollouts",
    "spool": "simulator.bench.spool.bench",
    "uplink": "simulator.bench.uplink.bench",
}


@app.command()
def main(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(BENCHES)}.")],
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else there.")] = False,
) -> None:
    """Numbers with their bars; exit 1 when one isn't met."""
    if name not in BENCHES:
        raise UsageFault(f"There is no benchmark {name!r}. There are: {', '.join(BENCHES)}.")
    metrics: list[Metric] = importlib.import_module(BENCHES[name]).run()
    here = host()
    place = f"{here.cpu}, {here.cores} cores, {here.isa}, onnxruntime {here.onnxruntime}"
    if as_json:
        print(json.dumps(answer(name, place, metrics), indent=2, allow_nan=False))
    else:
        Console().print(_table(name, place, metrics))
    raise typer.Exit(0 if all(metric.ok for metric in metrics) else EXIT_NO)


def _table(name: str, place: str, metrics: list[Metric]) -> Table:
    table = Table("metric", "value", "bar", "", "how", title=f"{name} on {place}")
    for metric in metrics:
        bar = "" if metric.bar is None else f"{metric.sense} {metric.bar:g}"
        mark = "" if metric.bar is None else "[green]✓[/]" if metric.ok else "[red]✗[/]"
        table.add_row(metric.metric, metric.said, bar, mark, metric.how)
    return table
