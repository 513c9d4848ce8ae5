"""`outrider bench spool`: what durability costs, beside raw files and databases of the same run."""

from __future__ import annotations

from simulator.bench.metric import Metric
from simulator.bench.spool import append, objects, opening, single, wear


def run() -> list[Metric]:
    return [*single.rows(), *append.rows(), *objects.rows(), *opening.rows(), *wear.rows()]
