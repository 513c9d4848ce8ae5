"""A case: what is given, the one act that spoils it, and what is said of it then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ota.errors import Flaw, OtaError
from tests.ota.corpus.draft import Draft

Act = Callable[[Draft], object]


class Way(StrEnum):
    """How it comes to the vehicle."""

    HTTP = "http"
    FOLDER = "usb folder"
    ZIP = "usb zip"


class Before(StrEnum):
    """What the vehicle knows already."""

    FRESH = "fresh"
    KEPT = "keeps release 1"
    FORGETFUL = "keeps release 1, lost its metadata"


class Unfit(StrEnum):
    """What isn't refused, since nobody believes it: the release comes, right, without the help of a delta."""

    DELTA = "delta-unfit"


Expected = Flaw | Unfit | type[OtaError]


def nothing(draft: Draft) -> None:
    """As it is."""


@dataclass(frozen=True)
class Case:
    """`given` makes the twin, and `act` the bad set out of that. `words` stand in the refusal."""

    name: str
    expected: Expected
    act: Act
    given: Act = nothing
    before: Before = Before.FRESH
    way: Way | None = None
    words: str = ""

    @property
    def told(self) -> str:
        return str(self.expected) if isinstance(self.expected, StrEnum) else self.expected.__name__
