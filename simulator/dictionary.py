"""Trains a compression dictionary for single events and small batches of them.

    python -m simulator.dictionary --id N --out FILE

The same seed, kinds of records and zstd give the same bytes. What is shipped isn't replaced: a better one takes the
next id.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from random import Random
from typing import Final

import zstandard

from simulator.events import make_records
from telemetry.dictionaries import NEWEST_DICTIONARY
from telemetry.records import encode_records

SEED: Final = 1
RECORDS: Final = 6000
DICTIONARY_BYTES: Final = 8 * 1024
"""Twice as many take 1 % more off a single event."""


def train(number: int) -> bytes:
    """The dictionary's bytes, made of bodies of one record each. `d` and `k` as in zstd's fastCover."""
    bodies: list[bytes | bytearray | memoryview[int]] = [
        encode_records([record]) for record in make_records(Random(SEED), RECORDS)
    ]
    return zstandard.train_dictionary(DICTIONARY_BYTES, bodies, level=3, dict_id=number, d=8, k=200).as_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains a compression dictionary for events.")
    parser.add_argument("--id", type=int, default=NEWEST_DICTIONARY + 1)
    parser.add_argument("--out", type=Path, required=True)
    wanted = parser.parse_args()
    data = train(wanted.id)
    wanted.out.write_bytes(data)
    print(f"{wanted.out}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
