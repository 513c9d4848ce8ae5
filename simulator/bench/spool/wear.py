"""Bytes that reach the block device for each byte of payload, at the pace of a vehicle: the spool beside databases.

`python -m simulator.bench.spool.wear STORE FOLDER COMMIT_MS SECONDS` commits 5,000 records of 30 incompressible bytes a
second, each COMMIT_MS a batch. Each store has a loop device with ext4 of its own, so that the kernel counts its bytes
alone; without the rights for that, what the process hands to the file system is counted instead, and said so.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simulator.bench.metric import Metric, unless
from simulator.bench.spool.stores import STORES, SpoolStore, Store, missing

RECORDS_A_SECOND: Final = 5_000
RECORD_BYTES: Final = 30
SECONDS: Final = 20
BARS: Final = {1000: 1.15, 200: 1.3, 20: 2.0}
_WARM_UP_BYTES: Final = 10_000_000
_DEVICE_BYTES: Final = 512 * 1024 * 1024
_SECTOR_BYTES: Final = 512
_READY: Final = "ready"


@dataclass(frozen=True, slots=True)
class Place:
    """A folder and what counts the bytes that are written below it; `device` None: the process' own count."""

    folder: Path
    device: str | None

    def written(self, pid: int) -> int:
        if self.device is None:
            io = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
            return int(io["write_bytes"])
        os.sync()
        return int(Path(f"/sys/block/{self.device}/stat").read_text().split()[6]) * _SECTOR_BYTES


def rows() -> list[Metric]:
    there = [store for store in STORES if missing(store) is None]
    with contextlib.ExitStack() as stack:
        places = {store: stack.enter_context(a_place()) for store in there}
        found = {ms: _side_by_side(places, ms) for ms in BARS}
    where = "loop device, ext4" if all(place.device for place in places.values()) else "/proc/self/io: no loop device"
    how = f"{SECONDS} s of {RECORDS_A_SECOND:,} x {RECORD_BYTES} B a second; {where}"
    return [_row(store, ms, found[ms].get(store, math.nan), how) for ms in BARS for store in STORES]


def _row(store: str, ms: int, value: float, how: str) -> Metric:
    """Without a number for a store that isn't installed."""
    package, is_ours = missing(store), store == "spool"
    (row,) = unless(
        package and f"{package} isn't installed here (pip install {package})",
        Metric(
            f"bytes written a byte, {store}, commit {ms} ms", value, "x",
            f"{how}; drained as it goes" if is_ours else f"{how}; only written to", BARS[ms] if is_ours else None,
        ),
    )  # fmt: skip
    return row


def _side_by_side(places: dict[str, Place], commit_ms: int) -> dict[str, float]:
    """Each in its own process: at this pace none is in another's way."""
    runs = {store: _start(store, place.folder / str(commit_ms), commit_ms) for store, place in places.items()}
    for run in runs.values():
        assert run.stdout is not None
        assert run.stdout.readline().strip() == _READY, "a store ended before it began"
    before = {store: place.written(runs[store].pid) for store, place in places.items()}
    for run in runs.values():
        assert run.stdin is not None
        run.stdin.write("go\n")
        run.stdin.flush()
    payload = SECONDS * RECORDS_A_SECOND * RECORD_BYTES
    for run in runs.values():
        assert run.stdout is not None
        assert run.stdout.readline().strip() == _READY
    after = {store: place.written(runs[store].pid) for store, place in places.items()}
    for run in runs.values():
        run.communicate("done\n")
    return {store: (after[store] - before[store]) / payload for store in places}


def _start(store: str, folder: Path, commit_ms: int) -> subprocess.Popen[str]:
    folder.mkdir()
    command = [sys.executable, "-m", "simulator.bench.spool.wear", store, str(folder), str(commit_ms), str(SECONDS)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@contextlib.contextmanager
def a_place() -> Iterator[Place]:
    """A file system of its own where that can be made, else a folder."""
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        try:
            device = stack.enter_context(_loop_device(folder / "image", folder / "mounted"))
        except (OSError, subprocess.CalledProcessError):
            yield Place(folder, None)
        else:
            yield Place(folder / "mounted", device)


@contextlib.contextmanager
def _loop_device(image: Path, mount: Path) -> Iterator[str]:
    """Raises OSError or CalledProcessError without root, losetup or mkfs.ext4."""
    with image.open("wb") as file:
        file.truncate(_DEVICE_BYTES)
    mount.mkdir()
    device = _run("losetup", "--find", "--show", str(image))
    try:
        _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", device)
        _run("mount", device, str(mount))
        try:
            yield Path(device).name
        finally:
            _run("umount", str(mount))
    finally:
        _run("losetup", "--detach", device)


def _run(*command: str) -> str:
    program = shutil.which(command[0]) or shutil.which(command[0], path="/usr/sbin:/sbin")
    if program is None:
        raise FileNotFoundError(command[0])
    return subprocess.run([program, *command[1:]], check=True, capture_output=True, text=True).stdout.strip()


# --- in the process that writes --------------------------------------------------------------------------------------


def main(name: str, folder: str, commit_ms: str, seconds: str) -> None:
    store = STORES[name](Path(folder))
    records = RECORDS_A_SECOND * int(commit_ms) // 1000
    _warm_up(store)
    print(_READY, flush=True)
    sys.stdin.readline()
    _pace(store, records, int(commit_ms) * 1_000_000, int(seconds) * RECORDS_A_SECOND // records)
    print(_READY, flush=True)
    sys.stdin.readline()
    store.close()


def _warm_up(store: Store) -> None:
    """Every store has files of the size that it works with."""
    for _ in range(_WARM_UP_BYTES // (RECORD_BYTES * RECORDS_A_SECOND)):
        store.commit(_payloads(RECORDS_A_SECOND))
    if isinstance(store, SpoolStore):
        store.drain()


def _pace(store: Store, records: int, every_ns: int, commits: int) -> None:
    at_ns = time.monotonic_ns()
    for _ in range(commits):
        at_ns += every_ns
        time.sleep(max(0, at_ns - time.monotonic_ns()) / 1e9)
        store.commit(_payloads(records))
        if isinstance(store, SpoolStore):
            store.drain()


def _payloads(records: int) -> list[bytes]:
    noise = os.urandom(records * RECORD_BYTES)
    return [noise[at : at + RECORD_BYTES] for at in range(0, len(noise), RECORD_BYTES)]


if __name__ == "__main__":
    main(*sys.argv[1:])
