"""Counts as fast as it can until it is killed: `python -m tests.ecu.ledger_writer FILE [LINES]`.

Each update keeps two sums: `offered` equals `kept` plus `dropped`, and `a` to `d` are equal. With LINES the process
kills itself when that many lines of ecu/ledger.py were run, counted from its first update.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import ecu.ledger
from ecu.ledger import Ledger
from ecu.process import PARENT_VARIABLE, enter_child

NAMES = ("offered", "kept", "dropped", "a", "b", "c", "d")


def count(ledger: Ledger) -> None:
    n = 0
    while True:
        n += 1
        kept, dropped = n % 5, n % 7
        ledger.add(offered=kept + dropped, kept=kept, dropped=dropped, a=1, b=1, c=1, d=1)


def kill_before(lines: int) -> None:
    left = lines

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != ecu.ledger.__file__:
            return None
        left -= event == "line"
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def main() -> None:
    # A test that is killed itself must not leave this loop behind.
    enter_child({PARENT_VARIABLE: str(os.getppid())})
    ledger = Ledger.open(Path(sys.argv[1]), NAMES, b"test")
    print("counting", flush=True)
    if len(sys.argv) > 2:
        kill_before(int(sys.argv[2]))
    count(ledger)


if __name__ == "__main__":
    main()
