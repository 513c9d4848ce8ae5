"""`outrider bench ota`: updates beside the tools that others install with, turn by turn."""

from __future__ import annotations

from simulator.bench.metric import Metric
from simulator.bench.ota import delta, install, looks, resume, swap


def run() -> list[Metric]:
    return [*install.rows(), *delta.rows(), *resume.rows(), *looks.run(), *swap.rows()]
