"""A kill costs each lane no more than its last moments: what its deadline allows, and the commit that was under way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from ecu.clock import SECOND_NS, SystemClock
from telemetry.records import COMMIT_WITHIN_NS, Health, Lane, decode_event
from telemetry.spool.inspection import blocks_of
from telemetry.wire import unpack_block, unpack_body
from tests.telemetry.spool.steady import OFFERED
from tests.telemetry.spool.victim import open_spool

# Flash and processors that others use too: a commit may take that long here.
COMMIT_NS = SECOND_NS


def kill_after(state: Path, records: int) -> tuple[dict[int, tuple[Lane, int]], int]:
    """Lane and boot time of each record that was offered, by number, and when it was killed."""
    command = [sys.executable, "-m", "tests.telemetry.spool.steady", str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        heard = process.stdout.read(records * OFFERED.size)
        killed_ns = SystemClock().boot_ns()
        process.kill()
        heard += process.stdout.read()
    whole = heard[: len(heard) // OFFERED.size * OFFERED.size]
    return {number: (Lane(lane), at_ns) for lane, number, at_ns in OFFERED.iter_unpack(whole)}, killed_ns


def on_flash(state: Path) -> set[int]:
    spool, counters = open_spool(state)
    events = [decode_event(s.event) for ref in blocks_of(spool) for s in unpack_body(*unpack_block(spool.load(ref)))]
    assert spool.counts().holds
    spool.close()
    counters.close()
    return {int(event.what.removeprefix("n")) for event in events if isinstance(event, Health)}


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_kill_takes_nothing_that_was_offered_before_its_lanes_deadline(tmp_path: Path) -> None:
    rng, lost_in = Random(5), dict.fromkeys(Lane, 0)
    for kill in range(20):
        state = tmp_path / str(kill)
        offered, killed_ns = kill_after(state, rng.randrange(200, 6000))
        lost = offered.keys() - on_flash(state)
        for lane, at_ns in (offered[number] for number in lost):
            lost_in[lane] += 1
            waited_ns = killed_ns - at_ns
            assert waited_ns <= COMMIT_WITHIN_NS[lane] + COMMIT_NS, f"{lane.name} lost what waited {waited_ns} ns"
    assert all(lost_in.values()), "no kill came in time to show anything"
