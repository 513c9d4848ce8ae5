"""Wall time has no say in what goes when: years off, jumping or a month asleep, all arrives once and in order."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from random import Random

import pytest

from ecu.clock import SECOND_NS, SteppingClock
from ecu.conditions import Network
from ecu.crashdisk import CrashDisk
from ecu.keys import MemoryKeyStore
from ecu.network import SettableNetwork
from telemetry.links.link import ClockUntrusted, Throttled, Unreachable
from telemetry.links.memory import MemoryLink, MemoryReceiver
from telemetry.objects import ObjectsConfig
from telemetry.objects.memory import MemoryObjectLink, MemoryObjects
from telemetry.objects.uplink import ObjectUplink
from telemetry.records import Health, Lane, Purpose, Record
from telemetry.spool import Spool, SpoolKeeper, SpoolLimits
from telemetry.spool.counts import MemoryCounters
from telemetry.uplink import Uplink
from telemetry.uplink.daybook import DayBook
from telemetry.uplink.meter import Meter
from telemetry.uplink.networks import NetworkConfig, NetworkRule
from telemetry.wire import unpack_block, unpack_body
from tests.telemetry.spool.rig import seeded_entropy

NOW_NS = 1_800_000_000 * SECOND_NS
YEAR_NS = 365 * 24 * 3600 * SECOND_NS
MONTH_NS = 30 * 24 * 3600 * SECOND_NS


async def settle() -> None:
    """Lets threads and tasks do what they can without time going on."""
    for _ in range(6):
        await asyncio.sleep(0.0005)


class Drive:
    """The real spool, keeper and uplinks on a clock that is moved, to a receiver in memory."""

    def __init__(self, walls: tuple[int, ...], asleep_ns: int) -> None:
        self.clock = SteppingClock(1_000 * SECOND_NS, walls[0])
        self.walls, self.asleep_ns = walls, asleep_ns
        self.receiver = MemoryReceiver()
        failures = [None, Throttled("slower", 30.0), None, Unreachable("tunnel")]
        connects = [Unreachable("no network"), ClockUntrusted("it is 1970"), None]
        link = MemoryLink(self.receiver, failures=failures, connect_failures=connects)
        entropy, disk = seeded_entropy(3), CrashDisk()
        spool = Spool.open(disk, MemoryKeyStore(), self.clock, entropy, SpoolLimits(), MemoryCounters())
        self.spool = SpoolKeeper(spool, self.clock)
        networks = NetworkConfig(wifi=NetworkRule(bytes_per_day=1_000_000, kbit_s=64))
        days = DayBook.open(disk, "network", self.clock, "boot")
        meter = Meter(self.clock, networks, SettableNetwork(Network.WIFI), days)
        self.uplink = Uplink(link, self.spool, self.clock, Random(4), meter=meter)
        self.objects, self.object_link = MemoryObjects(), MemoryObjectLink(failures=[None, Unreachable("tunnel")])
        config = ObjectsConfig(slice_bytes=8192)
        self.object_uplink = ObjectUplink(
            self.object_link, self.objects, self.clock, Random(5), config, meter=meter
        )  # fmt: skip

    async def run(self) -> None:
        """Until all has arrived."""
        works = [self.spool.run(), self.uplink.run(), self.object_uplink.run()]
        tasks = [asyncio.ensure_future(work) for work in works]
        for number, wall_ns in enumerate(self.walls * 2):
            self.clock.set_wall(wall_ns)
            self._offer(number)
            await self._on_until(lambda: self.spool.counts().lanes[0].pending == 0)
        self._offer(99)
        self.clock.advance(self.clock.boot_ns() + self.asleep_ns)
        self._offer(100)
        await self._on_until(self._is_done)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        counts = self.spool.counts()
        assert counts.holds
        assert all(lane.acknowledged == lane.offered and not lane.evicted and not lane.dropped for lane in counts.lanes)
        assert len(self.object_link.receiver.stored) == 2 * len(self.walls) + 2
        assert await self.spool.close(10 * SECOND_NS)

    def captured(self, lane: Lane) -> list[int]:
        """Boot times of the records that were stored, in the order of their numbers."""
        blocks = [unpack_block(block) for block in self.receiver.stored("memory")]
        blocks = sorted((of for of in blocks if of[0].lane is lane), key=lambda of: of[0].base_seq)
        return [stored.captured_ns for header, body in blocks for stored in unpack_body(header, body)]

    def _offer(self, number: int) -> None:
        for lane in Lane:
            event = Health("test", f"{number} " + "x" * 50)
            self.spool.offer(Record(lane, Purpose.OPERATION, self.clock.boot_ns(), event))
        self.objects.add(number.to_bytes(4) * 700)

    def _is_done(self) -> bool:
        counts = self.spool.counts()
        return all(lane.acknowledged == lane.offered for lane in counts.lanes) and self.objects.oldest() is None

    async def _on_until(self, holds: Callable[[], bool]) -> None:
        """A second of boot time after the other: no wait of theirs is longer than a few minutes."""
        for _ in range(300):
            await settle()
            if holds():
                return
            self.clock.advance(self.clock.boot_ns() + SECOND_NS)
        raise AssertionError(self.uplink.status())


@pytest.mark.parametrize("asleep_ns", [0, MONTH_NS], ids=["awake", "a month asleep"])
@pytest.mark.parametrize(
    "walls",
    [
        (0,),
        (NOW_NS, NOW_NS + 10 * YEAR_NS),
        (NOW_NS, NOW_NS - 10 * YEAR_NS, NOW_NS),
    ],
    ids=["1970", "ten years on", "ten years back and forth"],
)
async def test_nothing_stalls_expires_or_changes_places_whatever_the_wall_clock_says(
    walls: tuple[int, ...], asleep_ns: int
) -> None:
    # Mutation: one wait, age or expiry by wall time ends early, or never.
    drive = Drive(walls, asleep_ns)
    await drive.run()
    for lane in Lane:
        captured = drive.captured(lane)
        assert captured == sorted(captured)
        assert len(captured) == 2 * len(walls) + 2


def _has_time_namespaces() -> bool:
    try:
        command = ["unshare", "-r", "--time", "--boottime", "60", "true"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


_PROBE = """
import asyncio, sys
from ecu.clock import SystemClock
from telemetry.uplink.daybook import DAY_NS, DayBook
from ecu.disk import RealDisk
from pathlib import Path
clock = SystemClock()
book = DayBook.open(RealDisk(Path(sys.argv[1])), "network", clock, "this boot")
if sys.argv[2] == "spend":
    book.add("metered", 5000)
    book.claim("metered", 10_000)
asyncio.run(clock.sleep_until(clock.boot_ns() - 1))
print(clock.boot_ns(), book.gone("metered", 10_000), book.ends_ns - clock.boot_ns())
"""


@pytest.mark.skipif(not _has_time_namespaces(), reason="this kernel lets nobody have a time namespace")
def test_a_day_passes_while_a_real_kernel_says_that_the_computer_slept(tmp_path: object) -> None:
    def told(boot_offset_s: int, act: str) -> list[int]:
        command = ["unshare", "-r", "--time", "--boottime", str(boot_offset_s), sys.executable, "-c", _PROBE]
        out = subprocess.run([*command, str(tmp_path), act], capture_output=True, text=True, check=True).stdout
        return [int(word) for word in out.split()]

    began_ns, gone, _ = told(0, "spend")
    assert gone == 5000
    later_ns, gone, left_ns = told(3600, "look")
    assert later_ns - began_ns >= 3600 * SECOND_NS
    assert gone == 5100, "what was claimed counts as gone"
    assert 0 < left_ns <= 23 * 3600 * SECOND_NS
    assert told(30 * 24 * 3600, "look")[1] == 0
