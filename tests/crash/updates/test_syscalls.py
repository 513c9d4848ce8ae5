"""Releases on a real disk whose system calls fail, or end the process, one by one: strace makes them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ecu.clock import SteppingClock
from ecu.crashdisk import CrashDisk
from ecu.disk import RealDisk
from ota.audit import Audit
from ota.kinds import Kind
from tests.crash.updates.laws import demand, finish
from tests.crash.updates.lives import changes
from tests.crash.updates.onelife import loaded
from tests.crash.updates.vehicle import Diary, Life

CALLS = ("pwrite64", "fdatasync", "fsync", "rename", "unlink", "mkdir")
"""That change the disk, of a life of any kind."""
OF_FOLDERS = ("rmdir",)
"""Only a runtime's releases have folders that go."""
ABSENT = (
    "truncate",
    "ftruncate",
    "fallocate",
    "renameat",
    "renameat2",
    "unlinkat",
    "mkdirat",
    "link",
    "symlink",
    "pwritev",
)
"""By none: what is overwritten is as long as before, and all else has one way to do it."""
OCCUR = {Kind.MODEL: CALLS, Kind.RUNTIME: (*CALLS, *OF_FOLDERS)}
INJECTIONS = ("signal=KILL", "error=EIO", "error=ENOSPC")
MAKES = re.compile(r'openat\([^"]*"[^"]*/state/[^"]*", [^)]*O_CREAT')
needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace isn't installed (apt-get install strace)"
)


def life(folder: Path, kind: Kind) -> list[str]:
    return [sys.executable, "-B", "-m", "tests.crash.updates.onelife", str(folder), str(kind)]


def live(folder: Path, kind: Kind, inject: str) -> bool:
    """A life in which that happens; whether it did."""
    folder.mkdir()
    log = folder / "strace"
    call = inject.partition(":")[0]
    strace = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={call}", "-e", f"inject={inject}"]
    done = subprocess.run([*strace, *life(folder, kind)], capture_output=True, text=True, timeout=60)
    was_killed = done.returncode == -9 or done.returncode == 137
    assert was_killed or done.returncode == 0, done.stderr
    return was_killed or bool(re.findall(r"\(INJECTED\)", log.read_text()))


def written(kind: Kind) -> Diary:
    diary = Diary(kind)
    changes(Life(CrashDisk(), diary))
    return diary


def judge(folder: Path, diary: Diary, is_told: bool = True) -> None:
    """Where the disk failed the audit may wait for it in memory (`is_told` is False), and was lost with the process."""
    witness = folder / "witness"
    at = witness.stat().st_size if witness.exists() else 0
    was, may = diary.promises[at], diary.promises[min(at + 1, len(diary.promises) - 1)]
    disk = loaded(RealDisk(folder / "state"))
    if not is_told:
        told = tuple(entry.event for entry in Audit(disk.after_shutdown(), SteppingClock(), "car-1").entries())
        was, may = replace(was, told=told), replace(may, told=told)
    demand(diary, was, may, disk.after_shutdown())
    finish(diary, disk)


def survived(tmp_path: Path, kind: Kind, call: str, inject: str, every: int = 1) -> int:
    """How many of those calls there were."""
    diary = written(kind)
    for n in range(1, 1000, every):
        folder = tmp_path / f"{kind}-{n}"
        if not live(folder, kind, f"{call}:{inject}:when={n}"):
            return n - 1
        judge(folder, diary, is_told=inject == "signal=KILL")
        shutil.rmtree(folder)
    raise AssertionError(f"more than 1000 calls of {call}")


@needs_strace
@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("inject", INJECTIONS)
@pytest.mark.parametrize(("kind", "call"), [(kind, call) for kind, calls in OCCUR.items() for call in calls])
def test_whatever_call_fails_or_is_the_last_the_laws_hold(tmp_path: Path, kind: Kind, call: str, inject: str) -> None:
    assert survived(tmp_path, kind, call, inject) > 0


def made(log: Path) -> list[int]:
    """Which of a process's calls of openat make a file of the state, from 1 on."""
    calls = [line for line in log.read_text().splitlines() if re.match(r"\d+ +openat\(", line)]
    assert len({line.split()[0] for line in calls}) == 1, "strace counts the calls of each thread for itself"
    return [n for n, line in enumerate(calls, 1) if MAKES.search(line)]


@needs_strace
@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("inject", INJECTIONS)
@pytest.mark.parametrize("kind", OCCUR)
def test_whatever_file_cant_be_made_or_is_the_last_the_laws_hold(tmp_path: Path, kind: Kind, inject: str) -> None:
    diary = written(kind)
    assert not live(tmp_path / "whole", kind, "openat:error=EIO:when=65535")
    numbers = made(tmp_path / "whole" / "strace")
    assert numbers
    for n in numbers:
        folder = tmp_path / f"life-{n}"
        assert live(folder, kind, f"openat:{inject}:when={n}")
        assert n in made(folder / "strace"), "another call than the one that was meant"
        judge(folder, diary, is_told=inject == "signal=KILL")
        shutil.rmtree(folder)


@needs_strace
@pytest.mark.parametrize("kind", [Kind.RUNTIME, pytest.param(Kind.MODEL, marks=pytest.mark.soak)])
def test_the_calls_of_a_life_are_those_that_fail_in_turn(tmp_path: Path, kind: Kind) -> None:
    log = tmp_path / "strace"
    every = ",".join((*CALLS, *OF_FOLDERS, *ABSENT))
    folder = tmp_path / "life"
    folder.mkdir()
    subprocess.run(["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={every}", *life(folder, kind)], check=True)
    assert set(re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE)) == set(OCCUR[kind])


@needs_strace
def test_a_process_that_is_killed_at_a_rename_holds_the_laws(tmp_path: Path) -> None:
    assert survived(tmp_path, Kind.MODEL, "rename", "signal=KILL", every=4) > 0


@needs_strace
def test_a_write_that_goes_nowhere_is_noticed(tmp_path: Path) -> None:
    """The planted fault: strace says that all was well, and nothing was written."""
    folder = tmp_path / "life"
    assert live(folder, Kind.MODEL, "pwrite64:retval=4096:when=14+")
    with pytest.raises(AssertionError):
        judge(folder, written(Kind.MODEL))
