"""The compression dictionaries of codec 1 (docs/formats/wire.md): files that never change, under ids never used again.

`python -m simulator.dictionary` trains one from records of the real kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

NO_DICTIONARY: Final = 0
NEWEST_DICTIONARY: Final = 1
MAX_DICTIONARY_BYTES: Final = 16 * 1024

SHA256: Final[Mapping[int, str]] = MappingProxyType(
    {
        1: "79317c5b6580e153c785bfd4295a40829a482aa0da829c85023128e30c5ce885",
    }
)
"""By id, of the bytes that each must have for ever."""


def read_dictionary(number: int) -> bytes:
    """Of an id in SHA256."""
    return (Path(__file__).parent / f"events-{number}.zdict").read_bytes()
