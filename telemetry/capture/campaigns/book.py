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
"""The account of all campaigns together; like every one that isn't a campaign's it is never forgotten."""

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


_Place = tuple[str, int]
"""An account and a period."""


class Shelf(Protocol):
    """Where the page lies. What `write` returned from is what a later start reads."""

    def write(self, page: bytes) -> None:
        """Raises DiskError."""
        ...


@dataclass(slots=True)
class MemoryShelf:
    """A shelf that a test looks into: nothing of it outlives the process."""

    page: bytes | None = None

    def write(self, page: bytes) -> None:
        self.page = page


class DurableShelf:
    """One twin record in a folder. Raises DiskError, BookLost."""

    def __init__(self, disk: Disk) -> None:
        self._twin = TwinRecord(disk, _NAME, _CAPACITY)

    def read(self) -> bytes | None:
        try:
            return self._twin.read()
        except TwinLost as error:
            raise BookLost(f"{error} Campaigns tell nothing for a day of powered time.") from error

    def write(self, page: bytes) -> None:
        if len(page) > _CAPACITY - 64:
            self._twin.capacity = _MOST_CAPACITY
        # In one twin: damage later may bring the page before back, which differs by one share.
        self._twin.write(page)

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
        self._aside: dict[_Place, _Used] = {}
        self._shares: dict[_Place, _Used] = {}

    def take_trigger(self, name: str, most: int, t_ns: int) -> int | None:
        """The trigger's number, or None when `most` were told within a day."""
        period = self._period(t_ns)
        if not self._grants(t_ns) or self._within_a_day(name, period).triggers >= most:
            return None
        now = self._used(name, period)
        after = _Used(now.triggers + 1, now.bytes)
        if not self._cover((name, period), after, _Used(-(-most // _TRIGGER_SHARES) - 1, 0)):
            return None
        account = self._accounts[name]
        account.used[period] = after
        account.number += 1
        return account.number

    def take_bytes(self, name: str, most: int, amount: int, t_ns: int) -> bool:
        """False when with these more than `most` were told within a day."""
        period = self._period(t_ns)
        if not self._grants(t_ns) or self._within_a_day(name, period).bytes + amount > most:
            return False
        now = self._used(name, period)
        after = _Used(now.triggers, now.bytes + amount)
        if not self._cover((name, period), after, _Used(0, most // _BYTE_SHARES)):
            return False
        self._accounts[name].used[period] = after
        return True

    def withholds(self, t_ns: int) -> bool:
        """True while everything counts as used up, because the book before was lost."""
        return not self._grants(t_ns)

    def bytes_used(self, name: str, t_ns: int) -> int:
        """Of the account, within a day."""
        return self._within_a_day(name, self._period(t_ns)).bytes

    def bytes_left(self, name: str, most: int, t_ns: int) -> int:
        """What `take_bytes` would grant at most."""
        used = self.bytes_used(name, t_ns)
        return max(0, most - used) if self._grants(t_ns) else 0

    def has_fetched(self, name: str, number: int) -> bool:
        """True when that id, or a higher one, was fetched before."""
        return name in self._accounts and number <= self._accounts[name].fetched

    def take_fetch(self, name: str, number: int, t_ns: int) -> bool:
        """True once for each id, in rising order; durable before this returns."""
        self._period(t_ns)
        if not self._grants(t_ns) or self.has_fetched(name, number):
            return False
        account = self._account(name)
        before, account.fetched = account.fetched, number
        if not self._write():
            account.fetched = before
            return False
        return True

    def tick(self, t_ns: int) -> None:
        """Remembers from time to time how much time has passed: else a budget of short journeys never came back."""
        self._period(t_ns)
        if self._powered_ns - self._written_ns >= CHECKPOINT_NS and self._holds_anything:
            self._write()

    def close(self, t_ns: int) -> None:
        """The last words before an orderly end: what was set aside and not used comes back."""
        self._period(t_ns)
        self._aside.clear()
        self._shares.clear()
        if self._holds_anything:
            self._write()

    # --- how ------------------------------------------------------------------------------------------

    @property
    def _holds_anything(self) -> bool:
        return bool(self._accounts or self._spent_until_ns)

    def _period(self, t_ns: int) -> int:
        """That `t_ns` is in. What the book grants goes by it alone, so that nothing depends on who was asked first."""
        powered_ns = max(0, t_ns + self._offset_ns)
        self._powered_ns = max(self._powered_ns, powered_ns)
        return powered_ns // PERIOD_NS

    def _grants(self, t_ns: int) -> bool:
        return max(0, t_ns + self._offset_ns) >= self._spent_until_ns

    def _account(self, name: str) -> _Account:
        """The account, as the one used last."""
        account = self._accounts.pop(name, None) or _Account()
        self._accounts[name] = account
        return account

    def _used(self, name: str, period: int) -> _Used:
        return self._accounts[name].used.get(period, _NOTHING) if name in self._accounts else _NOTHING

    def _within_a_day(self, name: str, period: int) -> _Used:
        """In all periods that touch the 24 hours before the end of this one."""
        periods = self._accounts[name].used.items() if name in self._accounts else ()
        counted = [used for number, used in periods if number >= period - PERIODS_A_DAY]
        return _Used(sum(used.triggers for used in counted), sum(used.bytes for used in counted))

    def _cover(self, place: _Place, need: _Used, share: _Used) -> bool:
        """True when `need` of the account is durably set aside, with a share beyond where that has to be written."""
        aside = self._aside.get(place, _NOTHING)
        if need.triggers <= aside.triggers and need.bytes <= aside.bytes:
            return True
        before = dict(self._aside)
        self._account(place[0])
        self._forget_shares(place[1])
        self._shares[place] = _most(self._shares.get(place, _NOTHING), share)
        # Accounts that are in use are all filled up by the same write.
        for other, beyond in self._shares.items():
            self._aside[other] = _most(self._aside.get(other, _NOTHING), _sum(self._used(*other), beyond))
        self._aside[place] = _most(self._aside[place], _sum(need, share))
        if self._write():
            return True
        self._aside = before
        return False

    def _forget_shares(self, period: int) -> None:
        """Of periods that are over: the next write says what was used, which is a little less."""
        for place in [place for place in self._shares if place[1] < period - 1]:
            del self._shares[place]
            self._aside.pop(place, None)

    def _page(self) -> _Page:
        accounts = {name: self._as_set_aside(name, account) for name, account in self._accounts.items()}
        return _Page(1, self._powered_ns, self._spent_until_ns, accounts)

    def _as_set_aside(self, name: str, account: _Account) -> _Account:
        first = self._powered_ns // PERIOD_NS - PERIODS_A_DAY
        used = {period: of for period, of in account.used.items() if period >= first}
        number = account.number
        for (owner, period), aside in self._aside.items():
            if owner == name:
                number += max(0, aside.triggers - self._used(name, period).triggers)
                used[period] = _most(self._used(name, period), aside)
        return _Account(number, account.fetched, used)

    def _write(self) -> bool:
        while len(self._accounts) > MOST_ACCOUNTS:
            self._forget(next(name for name in self._accounts if name and not name.startswith(":")))
        try:
            self._shelf.write(msgspec.msgpack.encode(self._page()))
        except DiskError:
            self.failures += 1
            return False
        self._written_ns = self._powered_ns
        return True

    def _forget(self, name: str) -> None:
        del self._accounts[name]
        for kept in (self._aside, self._shares):
            for place in [place for place in kept if place[0] == name]:
                del kept[place]


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
