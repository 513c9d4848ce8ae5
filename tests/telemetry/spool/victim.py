"""A process that keeps a spool on a real disk until it is killed, and one that kills it and writes down what it heard.

    python -m tests.telemetry.spool.victim STATE WITNESS ROUNDS SEED

Each round forks a child that works at full speed; after a random number of bytes from it, it is killed with SIGKILL.
What it had told goes to the witness' file: records of 58 bytes, C for confirmed, S for stored by the receiver.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
from pathlib import Path
from random import Random

from ecu.clock import SystemClock
from ecu.disk import RealDisk
from ecu.keys import FileKeyStore
from ecu.ledger import Ledger
from telemetry.confirmations import Confirmation
from telemetry.records import Lane, Purpose
from telemetry.spool import LEDGER_NAMES, Spool, SpoolLimits
from telemetry.spool.inspection import KEYS_FOLDER, LEDGER_FILE, SPOOL_FOLDER
from tests.telemetry.spool.rig import receipt_for, record, records_of

TOLD = struct.Struct("<cB16sQ32s")
LIMITS = SpoolLimits(max_bytes=256 * 1024 * 1024, segment_bytes=64 * 1024, reserve_segments=(1, 1, 1, 1))
ONE_BOOT = b"the same boot"


def open_spool(state: Path, limits: SpoolLimits = LIMITS) -> tuple[Spool, Ledger]:
    RealDisk(state).make_folder("")
    counters = Ledger.open(state / LEDGER_FILE, LEDGER_NAMES, ONE_BOOT)
    keys = FileKeyStore.open(state / KEYS_FOLDER)
    disk = RealDisk(state / SPOOL_FOLDER)
    return Spool.open(disk, keys, SystemClock(), os.urandom, limits, counters), counters


def told(what: bytes, item: Confirmation) -> bytes:
    return TOLD.pack(what, item.lane, item.epoch, item.seq, item.digest)


def live(state: Path, out: int, rng: Random) -> None:
    spool, _ = open_spool(state)
    number = int.from_bytes(os.urandom(7), "big")
    while True:
        for _ in range(rng.randrange(1, 60)):
            lane, purpose = Lane(rng.randrange(4)), Purpose(rng.randrange(1, 5))
            spool.offer(record(number, lane, purpose, rng.choice([4, 100, 3000])), number)
            number += 1
        batch = spool.take(0, everything=True)
        assert batch is not None
        os.write(out, b"".join(told(b"C", item) for item in spool.settle(spool.write(batch))))
        for lane in rng.sample(list(Lane), 2):
            send(spool, lane, out, rng.randrange(4))
        assert spool.counts().holds


def send(spool: Spool, lane: Lane, out: int, blocks: int) -> None:
    """The receiver stores a block before it acknowledges it."""
    for _ in range(blocks):
        ref = spool.next_unsent(lane, None)
        if ref is None:
            return
        spool.mark_sent(ref)
        os.write(out, b"".join(told(b"S", item) for item in records_of(spool.load(ref))))
        spool.acknowledge(receipt_for(ref))


def kill_one(state: Path, witness: Path, rng: Random) -> None:
    reading, writing = os.pipe()
    seed, enough = rng.random(), rng.randrange(1, 30_000)
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            live(state, writing, Random(seed))
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe, witness.open("ab") as file:
        heard = pipe.read(enough)
        os.kill(pid, signal.SIGKILL)
        heard += pipe.read()
        # A kill may have torn the last message: what wasn't told in full wasn't told.
        file.write(heard[: len(heard) // TOLD.size * TOLD.size])
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "the victim ended by itself: see its traceback"


def main() -> None:
    state, witness, rounds, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    rng = Random(seed)
    for _ in range(rounds):
        kill_one(state, witness, rng)


if __name__ == "__main__":
    main()
