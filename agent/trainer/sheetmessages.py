"""What the process that reads a sheet of crops tells the agent (over ecu.channel). Nothing is ever asked of it."""

from __future__ import annotations

from typing import Union

from ecu.channel import Message


class SheetCrop(Message, frozen=True, tag="sheet_crop"):
    """A crop of size x size x 3 bytes (BGR), and what the sheet calls it."""

    label: str
    size: int
    pixels: bytes


class SheetEnded(Message, frozen=True, tag="sheet_ended"):
    """All that was wanted has been told: how many."""

    crops: int


class SheetFault(Message, frozen=True, tag="sheet_fault"):
    """The sheet can't be used; the process ends after saying so."""

    reason: str


FromSheet = Union[SheetCrop, SheetEnded, SheetFault]  # noqa: UP007
