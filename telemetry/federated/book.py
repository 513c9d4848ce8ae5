"""What this vehicle has learned and told so far: its budget, what it owes, and the update on its way into the spool.

An update, what it leaves owed and its place in the budget become durable in one write: after a power cut at any instant
all three have happened or none has. What is owed is private, and sealed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from ecu.disk import Disk
from ecu.keys import UnsealError
from ecu.twin import TwinLost, TwinRecord
from telemetry.federated.plan import LearningFloor, Plan
from telemetry.federated.update import ModelUpdate
from telemetry.records import TelemetryError

BUDGET_DAYS: Final = 30
MOST_PLANS: Final = 64
CAPACITY: Final = 256 * 1024
_NAME: Final = "learning"
_LABEL: Final = "learning/owed"


class BudgetSpent(TelemetryError):
    """This vehicle has told enough for now, whatever the plan asks for."""


class BookLost(TelemetryError):
    """How much was told can't be known any more: nothing is learned, since zero would be a way to ask again."""


class Sealer(Protocol):
    """As ecu.keys.KeyStore."""

    def seal(self, label: str, plain: bytes) -> bytes: ...
    def unseal(self, label: str, sealed: bytes) -> bytes:
        """Raises UnsealError."""
        ...


class _Page(msgspec.Struct, frozen=True, array_like=True):
    """`told`: updates by day since 1970. `seqs`: of each plan, its last update's, the plan used last at the end.
    `owed` belongs to `plan` and `layout`; `waiting` may not be in the spool yet."""

    version: int = 1
    told: dict[int, int] = {}
    seqs: dict[str, int] = {}
    plan: str = ""
    layout: str = ""
    owed: bytes = b""
    waiting: ModelUpdate | None = None


class LearningBook:
    """In `disk`, one twin record. Raises DiskError, BookLost."""

    def __init__(self, disk: Disk, sealer: Sealer) -> None:
        self._twin = TwinRecord(disk, _NAME, CAPACITY)
        self._sealer = sealer
        try:
            payload = self._twin.read_both()
            self._page = msgspec.msgpack.decode(payload, type=_Page) if payload is not None else _Page()
        except (TwinLost, msgspec.DecodeError) as error:
            raise BookLost(
                f"{error} Nothing is learned until this vehicle's learning is begun anew: remove its files by hand."
            ) from error

    # --- what may be ------------------------------------------------------------------------------

    def demand_budget(self, plan: Plan, floor: LearningFloor, today: int) -> None:
        """Raises BudgetSpent when the plan, or all plans together within 30 days, had their updates. `today` is the
        trusted time in days since 1970."""
        if self.waiting is not None:
            raise BudgetSpent("an update is still on its way to the spool")
        if self.last_seq(plan) >= plan.updates:
            raise BudgetSpent(f"plan {plan.name} has had its {plan.updates} updates of this vehicle")
        told = self.told(today)
        if told >= floor.updates:
            raise BudgetSpent(f"{told} updates within {BUDGET_DAYS} days, the most of this vehicle are {floor.updates}")

    def told(self, today: int) -> int:
        """Updates of all plans within the last days that count."""
        return sum(count for day, count in self._page.told.items() if day > today - BUDGET_DAYS)

    def last_seq(self, plan: Plan) -> int:
        return self._page.seqs.get(plan.name, 0)

    def owed(self, plan: Plan) -> bytes:
        """What this vehicle's updates of the plan haven't said; empty when there were none, or when the key that it was
        sealed under is gone: then that much is never said."""
        if (self._page.plan, self._page.layout) != (plan.name, plan.layout) or not self._page.owed:
            return b""
        try:
            return self._sealer.unseal(_LABEL, self._page.owed)
        except UnsealError:
            return b""

    # --- what becomes -----------------------------------------------------------------------------

    def commit(self, plan: Plan, update: ModelUpdate, owed: bytes, today: int) -> None:
        """Durable in both twins when it returns: told, owed and waiting."""
        seqs = {name: seq for name, seq in self._page.seqs.items() if name != plan.name}
        told = {day: count for day, count in self._page.told.items() if day > today - BUDGET_DAYS}
        self._write(
            _Page(
                told={**told, today: told.get(today, 0) + 1},
                seqs={**_newest(seqs, MOST_PLANS - 1), plan.name: update.seq},
                plan=plan.name,
                layout=plan.layout,
                owed=self._sealer.seal(_LABEL, owed),
                waiting=update,
            )
        )

    @property
    def waiting(self) -> ModelUpdate | None:
        """What has to be offered to the spool, again after a start: the receiver takes it once."""
        return self._page.waiting

    def handed_on(self) -> None:
        """The spool has it, durably."""
        self._write(msgspec.structs.replace(self._page, waiting=None))

    def forget(self) -> None:
        """What is owed and what waits is gone; what was told stays counted. For a purge of the purpose."""
        self._write(msgspec.structs.replace(self._page, plan="", layout="", owed=b"", waiting=None))

    @classmethod
    def purge(cls, disk: Disk, sealer: Sealer) -> None:
        """As `forget`, of whatever is there: a lost book stays lost, with nothing to read in it. Raises DiskError."""
        try:
            cls(disk, sealer).forget()
        except BookLost:
            TwinRecord(disk, _NAME, CAPACITY).wipe()

    def _write(self, page: _Page) -> None:
        self._twin.write_both(msgspec.msgpack.encode(page))
        self._page = page


def _newest(seqs: Mapping[str, int], most: int) -> dict[str, int]:
    return dict(list(seqs.items())[-most:])
