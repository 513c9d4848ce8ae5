"""The spool on a real disk whose system calls fail one by one: strace makes them, so nothing of ours is in between."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from telemetry.records import Lane
from telemetry.spool.inspection import blocks_of
from tests.crash.test_spool_kill import heard_by
from tests.telemetry.spool.rig import key_of, record, records_of
from tests.telemetry.spool.victim import open_spool

CALLS = ("pwrite64", "fdatasync", "fsync", "rename", "unlink", "truncate")

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace isn't installed (apt-get install strace)"),
]


def live(folder: Path, inject: str) -> int:
    """A life in which that fails; how many calls were made to."""
    log = folder / "strace"
    strace = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={','.join(CALLS)}", "-e", f"inject={inject}"]
    life = [sys.executable, "-B", "-m", "tests.telemetry.spool.onelife", str(folder / "state"), str(folder / "witness")]
    done = subprocess.run([*strace, *life], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return len(re.findall(r"\(INJECTED\)", log.read_text()))


def judge(folder: Path, where: str) -> None:
    """All that was confirmed is there or was stored, law 1 is exact, and the spool goes on."""
    confirmed, stored = heard_by(folder / "witness")
    spool, counters = open_spool(folder / "state")
    items = [item for ref in blocks_of(spool) for item in records_of(spool.load(ref))]
    there = {key_of(item): item.digest for item in items}
    assert confirmed.keys() <= there.keys() | stored.keys(), where
    assert all(confirmed.get(key, digest) == digest for key, digest in there.items()), where
    assert len(there) == len(items), where
    counts = spool.counts()
    assert counts.holds, where
    assert not any(lane.quarantined or lane.evicted for lane in counts.lanes), where
    spool.offer(record(1, Lane.P0), 1)
    batch = spool.take(0, everything=True)
    assert batch is not None
    assert len(spool.settle(spool.write(batch))) == 1, where
    spool.close()
    counters.close()


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", CALLS)
def test_no_call_that_fails_loses_what_was_confirmed(tmp_path: Path, call: str, error: str) -> None:
    failed = 0
    for n in range(1, 200):
        folder = tmp_path / str(n)
        folder.mkdir()
        if live(folder, f"{call}:error={error}:when={n}") == 0:
            break
        judge(folder, f"{call} number {n} failed with {error}")
        failed += 1
        shutil.rmtree(folder)
    assert failed > 0, f"nothing calls {call}"


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync", "fsync", "rename"])
def test_a_call_that_fails_for_good_loses_nothing_that_was_confirmed(tmp_path: Path, call: str, error: str) -> None:
    for n in (1, 5, 20):
        folder = tmp_path / str(n)
        folder.mkdir()
        live(folder, f"{call}:error={error}:when={n}+")
        if (folder / "state" / "spool").exists():
            judge(folder, f"{call} failed with {error} from number {n} on")


def test_a_write_that_goes_nowhere_is_noticed(tmp_path: Path) -> None:
    """The planted fault: strace says that all was well, and nothing was written."""
    live(tmp_path, "pwrite64:retval=4096:when=12+")
    with pytest.raises(AssertionError):
        judge(tmp_path, "")
