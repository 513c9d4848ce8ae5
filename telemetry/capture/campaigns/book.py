"""How much campaigns have told: budgets that a restart doesn't refund, and fetches that aren't told twice.

Time in it is powered time, which goes on over restarts, and counts in periods of some hours; a budget holds over those
that touch the last 24 hours, so that it holds in any 24. What a campaign may use next is set aside durably before it is
used: after a crash all that was set aside counts as used, so a crash costs a little and gains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from ecu.disk import Disk, DiskError
from ecu.twin import TwinLost, TwinRecord
from telemetry.records import TelemetryError

MOST_ACCOUNTS: Final = 128
PERIOD_NS: Final = 4 * 3600 * 1_000_000_000
PERIODS_A_DAY: Final = 6
CHECKPOINT_NS: Final = 600 * 1_000_000_000
VEHICLE: Final = ""
"""The account of all campaigns together."""

_CAPACITY: Final = 8192
_MOST_CAPACITY: Final = 64 * 1024
_TRIGGER_SHARES: Final = 32
_BYTE_SHARES: Final = 64
_NAME: Final = "campaigns"


class BookLost(TelemetryError):
    """How much was told can't be known any more: it counts as everything, for a day of powered time."""


class _Used(msgspec.Struct, frozen=True, array_like=True):
    triggers: int = 0
    bytes: int = 0


_NOTHING: Final = _Used()


class _Account(msgspec.Struct, array_like=True):
    """`number`: the last trigger's. `fetched`: the highest id."""

    number: int = 0
    fetched: int = 0
    used: dict[int, _Used] = {}


class _Page(msgspec.Struct, array_like=True):
    """`spent_until_ns`: until then, in powered time, nothing is granted."""

    version: int = 1
    powered_ns: int = 0
    spent_until_ns: int = 0
    accounts: dict[str, _Account] = {}


class Shelf(Protocol):
    """Where the page lies. What `write` returned from is what a later start reads."""

    def write(self, page: bytes) -> None:
        """Raises DiskError."""
        ...


@dataclass(slots=True)
class MemoryShelf:
    """For replays, which begin anew each time."""

    page: bytes | None = None

    def write(self, page: bytes) -> None:
        self.page = page


class DurableShelf:
    """One twin record in a folder. Raises DiskError, BookLost."""

    def __init__(self, disk: Disk) -> None:
        self._twin = TwinRecord(disk, _NAME, _CAPACITY)

    def read(self) -> bytes | None:
        try:
            return self._twin.read_both()
        except TwinLost as error:
            raise BookLost(f"{error} Campaigns tell nothing for a day of powered time.") from error

    def write(self, page: bytes) -> None:
        if len(page) > _CAPACITY - 64:
            self._twin.capacity = _MOST_CAPACITY
        self._twin.write_both(page)

    def start_anew(self, page: bytes) -> None:
        """Over whatever is there."""
        self._twin.start_anew(page)


def open_book(disk: Disk, now_ns: int) -> CampaignBook:
    """The vehicle's book, `now_ns` in boot time. One that was lost counts as used up for a day. Raises DiskError."""
    shelf = DurableShelf(disk)
    try:
        return CampaignBook(shelf.read(), shelf, now_ns)
    except BookLost:
        # Never zero: that would be a way to ask again. And not for ever: nobody comes to mend it.
        spent = msgspec.msgpack.encode(_Page(spent_until_ns=(PERIODS_A_DAY + 1) * PERIOD_NS))
        shelf.start_anew(spent)
        return CampaignBook(spent, shelf, now_ns)


class CampaignBook:
    """Grants triggers, bytes and fetches, or not. Where the flash fails nothing is granted (`failures` counts that).

    `page` is what the shelf held, None when there never was one. Raises BookLost when it isn't a page.
    """

    def __init__(self, page: bytes | None, shelf: Shelf, now_ns: int) -> None:
        self.failures = 0
        self._shelf = shelf
        read = _decoded(page)
        self._accounts = read.accounts
        self._spent_until_ns = read.spent_until_ns
        self._powered_ns = self._written_ns = read.powered_ns
        self._offset_ns = read.powered_ns - now_ns
        self._period = read.powered_ns // PERIOD_NS
        self._aside: dict[str, _Used] = {}
        self._shares: dict[str, _Used] = {}

    def take_trigger(self, name: str, most: int, t_ns: int) -> int | None:
        """The trigger's number, or None when `most` were told within a day."""
        if not self._grants(t_ns) or self._within_a_day(name).triggers >= most:
            return None
        now = self._now(name)
        if not self._cover(name, _Used(now.triggers + 1, now.bytes), _Used(-(-most // _TRIGGER_SHARES) - 1, 0)):
            return None
        account = self._accounts[name]
        account.used[self._period] = _Used(now.triggers + 1, now.bytes)
        account.number += 1
        return account.number

    def take_bytes(self, name: str, most: int, amount: int, t_ns: int) -> bool:
        """False when with these more than `most` were told within a day."""
        if not self._grants(t_ns) or self._within_a_day(name).bytes + amount > most:
            return False
        now = self._now(name)
        if not self._cover(name, _Used(now.triggers, now.bytes + amount), _Used(0, most // _BYTE_SHARES)):
            return False
        self._accounts[name].used[self._period] = _Used(now.triggers, now.bytes + amount)
        return True

    def bytes_left(self, name: str, most: int, t_ns: int) -> int:
        """What `take_bytes` would grant at most."""
        return max(0, most - self._within_a_day(name).bytes) if self._grants(t_ns) else 0

    def take_fetch(self, name: str, number: int, t_ns: int) -> bool:
        """True once for each id, in rising order; durable before this returns."""
        fetched = self._accounts[name].fetched if name in self._accounts else 0
        if not self._grants(t_ns) or number <= fetched:
            return False
        self._account(name).fetched = number
        if not self._write():
            self._account(name).fetched = fetched
            return False
        return True

    def tick(self, t_ns: int) -> None:
        """Remembers from time to time how much time has passed: else a budget of short journeys never came back."""
        self._turn_to(t_ns)
        if self._powered_ns - self._written_ns >= CHECKPOINT_NS and self._holds_anything:
            self._write()

    def close(self, t_ns: int) -> None:
        """The last words before an orderly end: what was set aside and not used comes back."""
        self._turn_to(t_ns)
        self._aside.clear()
        self._shares.clear()
        if self._holds_anything:
            self._write()

    # --- how ------------------------------------------------------------------------------------------

    @property
    def _holds_anything(self) -> bool:
        return bool(self._accounts or self._spent_until_ns)

    def _turn_to(self, t_ns: int) -> None:
        self._powered_ns = max(self._powered_ns, t_ns + self._offset_ns)
        if self._powered_ns // PERIOD_NS > self._period:
            self._period = self._powered_ns // PERIOD_NS
            # What the flash holds of the period before is a little more than was used: the next write says less.
            self._aside.clear()
            self._shares.clear()

    def _grants(self, t_ns: int) -> bool:
        self._turn_to(t_ns)
        return self._powered_ns >= self._spent_until_ns

    def _account(self, name: str) -> _Account:
        """The account, as the one used last."""
        account = self._accounts.pop(name, None) or _Account()
        self._accounts[name] = account
        return account

    def _now(self, name: str) -> _Used:
        return self._accounts[name].used.get(self._period, _NOTHING) if name in self._accounts else _NOTHING

    def _within_a_day(self, name: str) -> _Used:
        """In all periods that touch the last 24 hours."""
        periods = self._accounts[name].used.items() if name in self._accounts else ()
        counted = [used for period, used in periods if period >= self._period - PERIODS_A_DAY]
        return _Used(sum(used.triggers for used in counted), sum(used.bytes for used in counted))

    def _cover(self, name: str, need: _Used, share: _Used) -> bool:
        """True when `need` of the account is durably set aside, with a share beyond where that has to be written."""
        aside = self._aside.get(name, _NOTHING)
        if need.triggers <= aside.triggers and need.bytes <= aside.bytes:
            return True
        before = dict(self._aside)
        self._account(name)
        # Accounts that are in use are all filled up by the same write.
        self._shares[name] = _most(self._shares.get(name, _NOTHING), share)
        for other, beyond in self._shares.items():
            self._aside[other] = _most(self._aside.get(other, _NOTHING), _sum(self._now(other), beyond))
        self._aside[name] = _most(self._aside[name], _sum(need, share))
        if self._write():
            return True
        self._aside = before
        return False

    def _page(self) -> _Page:
        accounts = {name: self._as_set_aside(name, account) for name, account in self._accounts.items()}
        return _Page(1, self._powered_ns, self._spent_until_ns, accounts)

    def _as_set_aside(self, name: str, account: _Account) -> _Account:
        first = self._period - PERIODS_A_DAY
        used = {period: of for period, of in account.used.items() if period >= first}
        now, aside = self._now(name), self._aside.get(name, _NOTHING)
        if name in self._aside:
            used[self._period] = _most(now, aside)
        return _Account(account.number + max(0, aside.triggers - now.triggers), account.fetched, used)

    def _write(self) -> bool:
        while len(self._accounts) > MOST_ACCOUNTS:
            self._forget(next(name for name in self._accounts if name != VEHICLE))
        try:
            self._shelf.write(msgspec.msgpack.encode(self._page()))
        except DiskError:
            self.failures += 1
            return False
        self._written_ns = self._powered_ns
        return True

    def _forget(self, name: str) -> None:
        for kept in (self._accounts, self._aside, self._shares):
            kept.pop(name, None)


def _decoded(page: bytes | None) -> _Page:
    if page is None:
        return _Page()
    try:
        return msgspec.msgpack.decode(page, type=_Page)
    except msgspec.DecodeError as error:
        raise BookLost(f"The book of campaigns can't be read: {error}. It counts as used up for a day.") from error


def _most(one: _Used, other: _Used) -> _Used:
    return _Used(max(one.triggers, other.triggers), max(one.bytes, other.bytes))


def _sum(one: _Used, other: _Used) -> _Used:
    return _Used(one.triggers + other.triggers, one.bytes + other.bytes)
