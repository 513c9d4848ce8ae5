"""A few lives of a spool on a real disk, for somebody who makes its system calls fail.

    python -m tests.telemetry.spool.onelife STATE WITNESS

What it confirmed goes to the witness' file as in victim.py. Each ends in order, or on what the disk raised.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random

from ecu.errors import OutriderError
from telemetry.records import Lane, Purpose
from tests.telemetry.spool.rig import record
from tests.telemetry.spool.victim import LIMITS, open_spool, send, told

# So little that the lives which follow have to trim the segments that each start leaves half empty.
TIGHT = LIMITS.model_copy(update={"max_bytes": 8 * LIMITS.segment_bytes})
SHORT_LIVES = 6


def live(state: Path, out: int) -> None:
    spool, counters = open_spool(state)
    rng = Random(int.from_bytes(os.urandom(4), "big"))
    for commit in range(4):
        for n in range(12):
            number = rng.randrange(1 << 60)
            spool.offer(record(number, Lane(n % 2), Purpose.PERCEPTION, 3000), number)
        # Nobody is told of these: they are erased.
        spool.offer(record(commit, Lane.P3, Purpose.LEARNING), commit)
        batch = spool.take(0, everything=True)
        assert batch is not None
        confirmed = spool.settle(spool.write(batch))
        os.write(out, b"".join(told(b"C", item) for item in confirmed if item.lane != Lane.P3))
        send(spool, Lane.P0, out, 3)
    spool.erase(Purpose.LEARNING)
    assert spool.counts().holds
    spool.close()
    counters.close()


def live_in_little_room(state: Path, out: int) -> None:
    spool, _ = open_spool(state, TIGHT)
    spool.offer(record(int.from_bytes(os.urandom(7), "big")), 0)
    batch = spool.take(0, everything=True)
    assert batch is not None
    os.write(out, b"".join(told(b"C", item) for item in spool.settle(spool.write(batch))))
    spool.close()


def send_all(state: Path, out: int) -> None:
    spool, _ = open_spool(state, TIGHT)
    for lane in Lane:
        send(spool, lane, out, 1000)
    spool.close()


def end(life: Callable[[Path, int], None], state: Path, out: int) -> None:
    """In a process of its own: keys and counters have one owner."""
    pid = os.fork()
    if pid != 0:
        assert os.waitpid(pid, 0)[1] == 0, "a life ended on a bug: see its traceback"
        return
    code = 1
    try:
        life(state, out)
        code = 0
    except OutriderError as ended:
        print(ended)
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)


def main() -> None:
    state, witness = Path(sys.argv[1]), Path(sys.argv[2])
    out = os.open(witness, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    for life in (live, *[live_in_little_room] * SHORT_LIVES, send_all):
        end(life, state, out)


if __name__ == "__main__":
    main()
