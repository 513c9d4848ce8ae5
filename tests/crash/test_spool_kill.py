"""SIGKILL, for real: a witness beside the victim heard what was confirmed, and all of it must be there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ecu.clock import SystemClock
from telemetry.records import Lane
from telemetry.spool.inspection import blocks_of, inspect, verify
from tests.telemetry.spool.rig import Key, key_of, records_of
from tests.telemetry.spool.victim import LIMITS, TOLD, open_spool


def kill_again_and_again(folder: Path, rounds: int, seed: int) -> tuple[dict[Key, bytes], dict[Key, bytes]]:
    """What the witness heard of: confirmed, and stored by the receiver."""
    witness = folder / "witness"
    command = [sys.executable, "-m", "tests.telemetry.spool.victim", folder / "state", witness, rounds, seed]
    subprocess.run([str(part) for part in command], check=True, timeout=600)
    return heard_by(witness)


def heard_by(witness: Path) -> tuple[dict[Key, bytes], dict[Key, bytes]]:
    """What its file says: confirmed, and stored by the receiver."""
    heard: dict[bytes, dict[Key, bytes]] = {b"C": {}, b"S": {}}
    told = witness.read_bytes() if witness.exists() else b""
    for what, lane, epoch, seq, digest in TOLD.iter_unpack(told[: len(told) // TOLD.size * TOLD.size]):
        assert heard[what].setdefault((lane, epoch, seq), digest) == digest, "one name for two records"
    return heard[b"C"], heard[b"S"]


def judge(folder: Path, confirmed: dict[Key, bytes], stored: dict[Key, bytes]) -> None:
    state = folder / "state"
    looked = inspect(state, LIMITS, SystemClock())
    assert verify(looked, state, LIMITS, SystemClock(), lambda _: None).is_sound
    spool, counters = open_spool(state)
    items = [item for ref in blocks_of(spool) for item in records_of(spool.load(ref))]
    there = {key_of(item): item.digest for item in items}
    counts = spool.counts()
    assert counts.holds
    assert not counts.ledger_lost
    assert len(there) == len(items) == sum(lane.spooled for lane in counts.lanes)
    assert not any(lane.quarantined or lane.evicted for lane in counts.lanes)
    assert confirmed.keys() <= there.keys() | stored.keys(), "confirmed records are gone"
    known = there | stored
    assert all(confirmed.get(key, digest) == digest for key, digest in known.items())
    # No two of its records are alike, so one that the receiver had twice, or will, has two names here.
    assert len(set(known.values())) == len(known), "a record is there twice"
    spool.close()
    counters.close()


def test_nothing_a_witness_heard_of_is_lost_to_twenty_kills(tmp_path: Path) -> None:
    confirmed, stored = kill_again_and_again(tmp_path, rounds=20, seed=1)
    assert len(confirmed) > 2000
    judge(tmp_path, confirmed, stored)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(10, 20))
def test_nothing_a_witness_heard_of_is_lost_to_a_thousand_kills(tmp_path: Path, seed: int) -> None:
    confirmed, stored = kill_again_and_again(tmp_path, rounds=100, seed=seed)
    judge(tmp_path, confirmed, stored)


def test_the_judge_misses_a_segment_that_is_taken_away(tmp_path: Path) -> None:
    confirmed, stored = kill_again_and_again(tmp_path, rounds=2, seed=3)
    max((tmp_path / "state" / "spool").glob("p?-*.seg"), key=lambda path: path.stat().st_mtime_ns).unlink()
    with pytest.raises(AssertionError):
        judge(tmp_path, confirmed, stored)


def test_the_judge_notices_a_record_that_came_twice(tmp_path: Path) -> None:
    """As if a restart had written again what was durable, under new names."""
    confirmed, stored = kill_again_and_again(tmp_path, rounds=2, seed=4)
    stored[Lane.P0, bytes(16), 0] = next(iter(confirmed.values()))
    with pytest.raises(AssertionError, match="twice"):
        judge(tmp_path, confirmed, stored)
