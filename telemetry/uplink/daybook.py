"""How many bytes went and came over each kind of network within the running day, so that no restart begins it anew.

What may go is claimed before it goes, a hundredth of the budget at once: after a crash all that was claimed counts as
gone. A day is 24 hours of boot time, suspend included; what lies between two boots counts only by trusted wall time.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from typing import Final

import msgspec

from ecu.clock import SECOND_NS, Clock
from ecu.disk import Disk, DiskError
from ecu.twin import TwinLost, TwinRecord

DAY_NS: Final = 24 * 3600 * SECOND_NS
CLAIMS_A_DAY: Final = 100
VERSION: Final = 1


class Page(msgspec.Struct, frozen=True, array_like=True):
    """What lies on flash. `gone` counts bytes by the network's name, what is only claimed included; `elapsed_ns` of the
    day had passed when this was written, at `boot_ns` of that boot. By `began_wall_ns`, proven wall time, the day had
    begun for certain; 0 while that isn't known; `proven_boot` is the boot that it was proven in. `lost`: what went
    before isn't known."""

    version: int
    boot: str
    boot_ns: int
    elapsed_ns: int
    began_wall_ns: int
    lost: bool
    gone: dict[str, int]
    proven_boot: str = ""


class DayBook:
    """`lost` says that what went today couldn't be read: every budget counts as used up until the day ends.
    A disk that fails stops nothing; `fault` says so. Without a twin it forgets at exit."""

    def __init__(self, twin: TwinRecord | None, clock: Clock, boot: str) -> None:
        self.lost = False
        self._unread = self._unwritten = ""
        self._twin = twin
        self._is_torn = False
        self._writing = threading.Lock()
        """Who gave up waiting for a claim leaves its thread behind, and a twin has one writer."""
        self._counting = threading.Lock()
        """What comes in is counted by the thread that reads it. Never held over a write."""
        self._clock = clock
        self._boot = boot
        self._gone: dict[str, int] = {}
        self._began_ns = clock.boot_ns()
        self._claimed: tuple[int, dict[str, int]] = (self._began_ns, {})  # of the day that began then
        self._began_wall_ns = 0
        self._proven_boot = ""
        page = self._read()
        if page is not None:
            self._take_up(page)

    @classmethod
    def open(cls, disk: Disk, name: str, clock: Clock, boot: str) -> DayBook:
        """`boot` names this boot of the computer: under another, boot time has begun anew."""
        return cls(TwinRecord(disk, name), clock, boot)

    def _read(self) -> Page | None:
        if self._twin is None:
            return None
        try:
            payload = self._twin.read()
            return None if payload is None else msgspec.msgpack.decode(payload, type=Page)
        except (TwinLost, msgspec.DecodeError) as error:
            self._is_torn = True
            self._lose(error)
        except DiskError as error:
            self._lose(error)
        return None

    def _lose(self, trouble: Exception) -> None:
        self.lost = True
        self._unread = f": {trouble}"

    def _take_up(self, page: Page) -> None:
        since_ns = max(0, self._began_ns - page.boot_ns) if page.boot == self._boot else 0
        self._began_ns -= page.elapsed_ns + since_ns
        self._began_wall_ns, self._proven_boot = page.began_wall_ns, page.proven_boot
        self.lost = page.lost
        self._gone, self._claimed = dict(page.gone), (self._began_ns, dict(page.gone))

    # --- reading ---

    @property
    def fault(self) -> str:
        """What is wrong with keeping count, empty if nothing is."""
        if self.lost and not self._unwritten:
            return f"What went today can't be read, so its budgets count as used up until it ends{self._unread or '.'}"
        return self._unwritten

    def gone(self, network: str, budget: int) -> int:
        """Bytes that count against today's budget."""
        with self._counting:
            self._turn_page()
            return self._gone.get(network, 0) + (budget if self.lost else 0)

    @property
    def ends_ns(self) -> int:
        """Boot time at which the day ends."""
        with self._counting:
            self._turn_page()
            return self._began_ns + DAY_NS

    # --- writing ---

    def add(self, network: str, size: int) -> None:
        with self._counting:
            self._turn_page()
            self._gone[network] = self._gone.get(network, 0) + size

    def is_claimed(self, network: str, ahead: int = 0) -> bool:
        """Whether flash knows of all that went, and of so much more that is about to."""
        began_ns, claimed = self._claimed
        known = claimed.get(network, 0) if began_ns == self._began_ns else 0
        return self._twin is None or self._gone.get(network, 0) + ahead <= known

    def claim(self, network: str, budget: int, ahead: int = 0) -> None:
        """Writes down what went, what is about to, and a little more. It blocks; another day may begin meanwhile."""
        with self._writing:  # the later claim is the one that knows more
            with self._counting:
                began_ns, claimed = self._began_ns, dict(self._gone)
            claimed[network] = claimed.get(network, 0) + ahead + budget // CLAIMS_A_DAY
            try:
                self._put(claimed)
            except DiskError as error:
                self._unwritten = f"What went today can't be written down, and a restart may forget it: {error}"
            else:
                self._claimed, self._unwritten = (began_ns, claimed), ""

    def proven(self, wall_ns: int) -> None:
        """Wall time is proven now: a computer that was off for a day begins a new one. Within a boot it can't have
        been off: a clock that is set forward there is no day that passed."""
        now_ns = self._clock.boot_ns()
        with self._counting:
            if self._began_wall_ns and self._proven_boot != self._boot:
                if wall_ns - self._began_wall_ns < DAY_NS:
                    return
                self._new_day(now_ns)
            # It may have begun earlier, if the computer was off meanwhile; never later.
            self._began_wall_ns = max(self._began_wall_ns, wall_ns - (now_ns - self._began_ns))
            self._proven_boot = self._boot

    def close(self) -> None:
        """Exactly what went, and how much of the day is over. It blocks."""
        if self._gone or self.lost:
            with contextlib.suppress(DiskError), self._writing:  # then what was claimed counts as gone
                self._put(self._gone)

    def _put(self, gone: Mapping[str, int]) -> None:
        if self._twin is None:
            return
        now_ns = self._clock.boot_ns()
        page = Page(
            VERSION, self._boot, now_ns, now_ns - self._began_ns, self._began_wall_ns, self.lost, dict(gone),
            self._proven_boot,
        )  # fmt: skip
        payload = msgspec.msgpack.encode(page)
        if self._is_torn:
            self._twin.start_anew(payload)
            self._is_torn = False
        else:
            self._twin.write(payload)

    def _turn_page(self) -> None:
        now_ns = self._clock.boot_ns()
        if now_ns - self._began_ns >= DAY_NS:
            self._new_day(now_ns)

    def _new_day(self, now_ns: int) -> None:
        self._began_ns, self._began_wall_ns, self._proven_boot = now_ns, 0, ""
        self._gone = {}
        self.lost, self._unread, self._unwritten = False, "", ""
