"""A keeper on a real disk to which records come steadily, in all lanes, until it is killed.

    python -m tests.telemetry.spool.steady STATE

Of each record it says on standard output, just before it is offered: lane, number, boot time.
"""

from __future__ import annotations

import asyncio
import os
import struct
import sys
from pathlib import Path
from typing import Final

from ecu.clock import MILLISECOND_NS, SystemClock
from telemetry.records import Lane
from telemetry.spool import SpoolKeeper
from tests.telemetry.spool.rig import record
from tests.telemetry.spool.victim import open_spool

OFFERED: Final = struct.Struct("<BQq")
EVERY_NS: Final = 4 * MILLISECOND_NS


async def live(state: Path) -> None:
    spool, counters = open_spool(state)
    clock = SystemClock()
    keeper = SpoolKeeper(spool, clock)
    running = asyncio.ensure_future(keeper.run())
    number, next_ns = int.from_bytes(os.urandom(6), "big") << 8, clock.boot_ns()
    while not running.done():
        for lane in Lane:
            os.write(sys.stdout.fileno(), OFFERED.pack(lane, number, clock.boot_ns()))
            keeper.offer(record(number, lane))
            number += 1
        next_ns += EVERY_NS
        await clock.sleep_until(next_ns)
    running.result()
    counters.close()


if __name__ == "__main__":
    asyncio.run(live(Path(sys.argv[1])))
