"""How `[learning] source` is written: `drive`, or for benches `crops:DIR[?take=0-39,500]`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

DRIVE: Final = "drive"


@dataclass(frozen=True, slots=True)
class SheetOf:
    """A sheet of crops, and which of them: `take` as `0-39,500`, empty for all."""

    folder: Path
    take: str


def parse_source(source: str) -> SheetOf | None:
    """None for `drive`. Raises ValueError for what is neither that nor `crops:DIR[?take=...]`."""
    if source == DRIVE:
        return None
    scheme, _, rest = source.partition(":")
    folder, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    if scheme != "crops" or not folder or set(options) - {"take"}:
        raise ValueError(f"{source!r} is no source of labels: write drive, or crops:DIR[?take=0-39,500]")
    places_of(options.get("take", ""), 1 << 30)
    return SheetOf(Path(folder), options.get("take", ""))


def places_of(take: str, crops: int) -> list[range]:
    """The places that `0-39,500` names on a sheet of so many; all for an empty one. Raises ValueError."""
    if not take:
        return [range(crops)]
    places = []
    for part in take.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"{part!r} names no crops: write places such as 0-39,500")
        span = range(int(first), int(last if dash else first) + 1)
        if not span or span[-1] >= crops:
            raise ValueError(f"{part!r} names no crops of {crops}")
        places.append(span)
    return places
