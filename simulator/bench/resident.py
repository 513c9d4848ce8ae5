"""What a graph takes in memory: `python -m simulator.bench.resident FILE infer|learn`, doing nothing else.

Runs the ONNX file a few times on zeros of its own inputs' shapes and prints the MiB that came to be resident since the
libraries were loaded. A training graph is run as the trainer runs it, without an arena.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np

from inference.runtime import ort
from inference.session import session_options
from inference.training.trainer import learning_options

_TYPES: Final = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(int64)": np.int64}
_RUNS: Final = 5


def resident_mib(file: Path, learns: bool) -> float:
    """Measured in a new process."""
    command = [sys.executable, "-m", "simulator.bench.resident", str(file), "learn" if learns else "infer"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _now_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def main(file: str, how: str) -> None:
    before = _now_mib()
    options = learning_options() if how == "learn" else session_options()
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    feeds = {value.name: np.zeros(value.shape, _TYPES[value.type]) for value in session.get_inputs()}
    for _ in range(_RUNS):
        session.run(None, feeds)
    print(_now_mib() - before)


if __name__ == "__main__":
    main(*sys.argv[1:])
