"""Counts as fast as it can until somebody kills it: `offered` always equals `kept` plus `dropped`."""

from __future__ import annotations

import sys
from pathlib import Path

from ecu.ledger import Ledger

NAMES = ("offered", "kept", "dropped", "a", "b", "c", "d")


def main() -> None:
    ledger = Ledger.open(Path(sys.argv[1]), NAMES, b"test")
    print("counting", flush=True)
    n = 0
    while True:
        n += 1
        ledger.add(
            offered=n % 7, kept=n % 5 if n % 7 > n % 5 else n % 7, dropped=max(0, n % 7 - n % 5), a=1, b=1, c=1, d=1
        )


if __name__ == "__main__":
    main()
