"""How far whoever uses a kind's releases has got with one of them."""

from __future__ import annotations

from enum import Enum, auto


class Use(Enum):
    AWAITED = auto()  # it hasn't looked yet, or isn't running
    REFUSED = auto()  # it can't be used
    USED = auto()
