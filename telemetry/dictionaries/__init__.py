"""The compression dictionaries of codec 1 (docs/formats/wire.md): files that never change, under ids never used again.

`python -m simulator.dictionary` trains one from records of the real kinds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ecu.errors import EnvironmentFault

_FOLDER: Final = Path(__file__).parent

NO_DICTIONARY: Final = 0
NEWEST_DICTIONARY: Final = 1
MAX_DICTIONARY_BYTES: Final = 16 * 1024

SHA256: Final[Mapping[int, str]] = MappingProxyType(
    {
        1: "fee13fc1a242af224ab3bbace98c5b6a8b6bdf143a19297f941247d81102ec54",
    }
)
"""By id, of the bytes that each must have for ever."""


def read_dictionary(number: int, folder: Path = _FOLDER) -> bytes:
    """Of an id in SHA256. Raises EnvironmentFault for other bytes than were shipped: with them nobody else could read
    what this computer writes."""
    path = folder / f"events-{number}.zdict"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EnvironmentFault(f"{path} can't be read ({error.strerror}): install Outrider again.") from error
    if hashlib.sha256(data).hexdigest() != SHA256[number]:
        raise EnvironmentFault(f"{path} isn't the dictionary that was shipped: install Outrider again.")
    return data


@cache
def dictionary_fault(folder: Path = _FOLDER) -> str:
    """Why this process packs without a dictionary; empty where it doesn't."""
    try:
        read_dictionary(NEWEST_DICTIONARY, folder)
    except EnvironmentFault as error:
        return str(error)
    return ""


def dictionary_to_pack_with(folder: Path = _FOLDER) -> int:
    """NEWEST_DICTIONARY, or NO_DICTIONARY where its file is damaged: what a vehicle tells is kept all the same, only
    longer."""
    return NO_DICTIONARY if dictionary_fault(folder) else NEWEST_DICTIONARY
