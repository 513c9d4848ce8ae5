"""What vehicle and receiver say about large objects: paths, headers and bounds of docs/formats/objects.md."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

OBJECTS_PATH: Final = "/v1/objects"
HAVE_HEADER: Final = "x-outrider-have"
STATE_HEADER: Final = "x-outrider-state"
STORED: Final = "stored"
PARTIAL: Final = "partial"
MAX_SLICE_BYTES: Final = 512 * 1024
"""The receiver holds a slice in memory, for each vehicle that sends one."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})")
_COUNT = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class Have:
    """What the receiver has of an object: its first `bytes`; `stored` when that is all of it, checked and committed."""

    bytes: int
    stored: bool


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `start` to `end` (one past the last) of `total`. Never empty, never beyond the total."""

    start: int
    end: int
    total: int

    @property
    def size(self) -> int:
        return self.end - self.start

    def __str__(self) -> str:
        """As RFC 9110, section 14.4, writes it: both ends are inclusive there."""
        return f"bytes {self.start}-{self.end - 1}/{self.total}"


def is_digest(text: str) -> bool:
    """A SHA-256 in hex, lower case: the one spelling that names an object."""
    return _DIGEST.fullmatch(text) is not None


def read_range(text: str) -> ByteRange | None:
    """None for what isn't exactly one range of bytes within its total."""
    match = _RANGE.fullmatch(text)
    if match is None:
        return None
    first, last, total = (int(number) for number in match.groups())
    return ByteRange(first, last + 1, total) if first <= last < total else None


def read_have(count: str, state: str) -> Have | None:
    """What two headers of an answer say; None when they say nothing of the kind."""
    if _COUNT.fullmatch(count) is None or state not in (STORED, PARTIAL):
        return None
    return Have(int(count), state == STORED)
