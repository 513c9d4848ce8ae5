"""Objects are conserved, in numbers: where every picture that was ever offered is now.

    offered = durable + pending + dropped
    durable = stored + kept + refused + evicted + erased + damaged

Both sides of both lines are counted apart, by whoever did it, and only compared here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from telemetry.spool.counts import Conservation, with_added


class Dropped(StrEnum):
    """Why a picture never became durable."""

    EMPTY = "empty"  # it has no bytes
    TOO_LARGE = "too_large"  # [objects] object_bytes
    DUPLICATE = "duplicate"  # the same bytes are kept already
    QUEUE_FULL = "queue_full"  # pictures came faster than flash takes them
    DISK_FULL = "disk_full"  # the file system has no room
    DISK_FAULT = "disk_fault"  # flash fails, or can't be written
    CUT_SHORT = "cut_short"  # the process or the power ended before it was durable


class Damaged(StrEnum):
    """Why a durable object can't be sent."""

    CORRUPT = "corrupt"  # its bytes changed on flash
    KEY_LOST = "key_lost"  # the key store can't open the key of its purpose
    MISSING = "missing"  # it was counted as durable, and isn't there


LEDGER_NAMES: Final = ("offered", "durable", *(f"dropped_{reason.value}" for reason in Dropped))
"""The counters that a kill must not take; `Ledger.open(path, LEDGER_NAMES, boot_id)` makes them."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What became of durable objects that aren't kept any more, and of those that never were, since the store began."""

    stored: int = 0
    refused: int = 0
    evicted: int = 0
    erased: int = 0
    damaged: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def left(self) -> int:
        return self.stored + self.refused + self.evicted + self.erased + sum(self.damaged.values())


@dataclass(frozen=True, slots=True)
class Counted:
    """What the counters say."""

    offered: int = 0
    durable: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def pending(self) -> int:
        """Offered, and nothing has become of it yet."""
        return self.offered - self.durable - sum(self.dropped.values())

    def as_values(self) -> dict[str, int]:
        """By LEDGER_NAMES."""
        dropped = {f"dropped_{reason.value}": self.dropped.get(reason.value, 0) for reason in Dropped}
        return {"offered": self.offered, "durable": self.durable, **dropped}


def counted(values: Mapping[str, int]) -> Counted:
    dropped = {reason.value: values[f"dropped_{reason.value}"] for reason in Dropped}
    return Counted(values["offered"], values["durable"], {why: n for why, n in dropped.items() if n})


def reconcile(ledger: Counted, totals: Totals, kept: int) -> tuple[Counted, Totals]:
    """Where both start in this process. Flash is the truth about what is durable, the counters about what is lost.

    What the counters know as durable and flash hasn't got is missing; what was offered and is neither durable nor
    dropped was cut short. Counters that a power cut took can only say less than the truth: they are raised.
    """
    durable = max(ledger.durable, totals.left + kept)
    damaged = with_added(totals.damaged, Damaged.MISSING, durable - totals.left - kept)
    reasons = {**ledger.dropped, **totals.dropped}
    dropped: Mapping[str, int] = {why: max(ledger.dropped.get(why, 0), totals.dropped.get(why, 0)) for why in reasons}
    offered = max(ledger.offered, durable + sum(dropped.values()))
    dropped = with_added(dropped, Dropped.CUT_SHORT, offered - durable - sum(dropped.values()))
    now = Totals(totals.stored, totals.refused, totals.evicted, totals.erased, damaged, dropped)
    return Counted(offered, durable, dropped), now


@dataclass(frozen=True, slots=True)
class ObjectCounts:
    """All objects of a store. Of those `kept`, flash doesn't give `unreadable` back now; the next start may read them.

    `fault` is what flash last did wrong; `ledger_lost` and `books_lost` say that counts of an earlier life are gone:
    with the ledger those of drops, with the books all.
    """

    offered: int
    durable: int
    pending: int
    dropped: Mapping[str, int]
    stored: int
    kept: int
    unreadable: int
    refused: int
    evicted: int
    erased: int
    damaged: Mapping[str, int]
    kept_bytes: int
    ledger_lost: bool
    books_lost: bool
    last_refusal: str | None
    fault: str | None

    @property
    def conservation(self) -> Conservation:
        placed = self.stored + self.kept + self.refused + self.evicted + self.erased + sum(self.damaged.values())
        accounted = self.durable + self.pending + sum(self.dropped.values())
        return Conservation(self.offered, accounted, self.durable, placed)
