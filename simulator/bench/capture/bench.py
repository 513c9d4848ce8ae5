"""A real agent on a busy bus: its CPU time beyond the source's, its memory, and how soon a trigger is durable.

When a record became durable is the witness's word, a process of its own; when its trigger was, the record's.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from ecu.clock import SystemClock
from ecu.disk import RealDisk
from ecu.keys import FileKeyStore
from simulator.bench.capture.load import FRAMES_PER_S, lay, settings, source_url
from simulator.bench.memory import resident_mb
from simulator.bench.metric import Metric
from simulator.demo.settings import write_settings
from simulator.witness import read_entries, running_witness
from telemetry.records import Lane, Stored, Triggered, decode_event, record_digest
from telemetry.spool import LEDGER_NAMES, Spool, SpoolLimits
from telemetry.spool.counts import MemoryCounters
from telemetry.spool.inspection import Untouched, blocks_of
from telemetry.wire import unpack_block, unpack_body

WARM_S: Final = 6.0
MEASURED_S: Final = 30.0
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def run() -> list[Metric]:
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as name:
        folder = Path(name)
        lay(folder)
        witness, log = folder / "witness.sock", folder / "witness.log"
        write_settings(folder / "outrider.toml", settings(folder, witness))
        with running_witness(witness, log), _agent(folder):
            before, after, ours = _measured(folder)
        floor_ns, frames = _source_alone(folder)
        delays_ms = sorted(_delays_ms(folder, log))
    return _metrics(before, after, ours, floor_ns / frames, delays_ms)


def _metrics(
    before: dict[str, Any], after: dict[str, Any], ours: dict[str, float], floor_ns: float, delays_ms: list[float]
) -> list[Metric]:
    counts = {name: after["counts"][name] - before["counts"].get(name, 0) for name in after["counts"]}
    frames = counts["received"]
    share = (ours["cpu_s"] - floor_ns * frames / 1e9) / ours["seconds"]
    untold = {name: n for of in after["campaigns"] for name, n in of["dropped"].items() if n}
    dropped = sum(n for name, n in counts.items() if name not in ("received",)) + sum(untold.values())
    return [
        Metric("frames a second", frames / ours["seconds"], "frames", f"a recording of {FRAMES_PER_S:,}/s, looping"),
        Metric("CPU beyond the source", share * 100, "% of a core", "agent and signals process, over 30 s", 5.0),
        Metric("CPU of the source alone", floor_ns * FRAMES_PER_S / 1e7, "% of a core", "in a process of its own"),
        Metric("resident memory", ours["both_mb"], "MB", "agent and signals process, pages that both map once", 120.0),
        Metric("resident memory, summed up", ours["rss_mb"], "MB", "the same, pages that both map twice"),
        Metric("a trigger on flash, p99", float(np.percentile(delays_ms, 99)), "ms",
               f"{len(delays_ms)} P0 triggers: the record's instant to the witness's word", 100.0),
        Metric("a trigger on flash, p50", float(np.percentile(delays_ms, 50)), "ms", "the same"),
        Metric("drops", float(dropped), "", "frames, samples, triggers and records that were left out", 0.0),
    ]  # fmt: skip


# --- the agent --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _agent(folder: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "outrider", "agent", "run", "--config", "outrider.toml", "--state", "state"]
    with (folder / "agent.log").open("w") as log, subprocess.Popen(command, cwd=folder, stderr=log) as agent:
        try:
            yield
        finally:
            agent.terminate()
            agent.wait(timeout=30)


def _measured(folder: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, float]]:
    """What the signals process told before and after, and what both processes used between."""
    _until_frames_come(folder)
    time.sleep(WARM_S)
    first, pids = _status(folder)
    used, began = sum(map(_cpu_s, pids)), time.monotonic()
    time.sleep(MEASURED_S)
    used, seconds = sum(map(_cpu_s, pids)) - used, time.monotonic() - began
    last, _ = _status(folder)
    memory = {"both_mb": resident_mb(pids), "rss_mb": sum(resident_mb([pid]) for pid in pids)}
    return first, last, {"cpu_s": used, "seconds": seconds, **memory}


def _until_frames_come(folder: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(subprocess.CalledProcessError, TypeError, KeyError):
            if _status(folder)[0]["counts"]["received"]:
                return
        time.sleep(0.2)
    raise RuntimeError(f"no frame came within 30 s: {(folder / 'agent.log').read_text()[-2000:]}")


def _status(folder: Path) -> tuple[dict[str, Any], list[int]]:
    command = [sys.executable, "-m", "outrider", "agent", "status", "--json", "--state", "state"]
    answer = json.loads(subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout)
    side = answer["campaigns"]["side"]
    return side["told"], [answer["pid"], side["pid"]]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _source_alone(folder: Path) -> tuple[int, int]:
    command = [sys.executable, "-m", "simulator.bench.capture.source", source_url(folder), str(MEASURED_S / 2)]
    cpu, frames = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(cpu), int(frames)


# --- the triggers -----------------------------------------------------------------------------------


def _delays_ms(folder: Path, log: Path) -> Iterator[float]:
    heard = {entry.confirmation.digest: entry.heard_boot_ns for entry in read_entries(log)}
    for record in _spooled(folder):
        if isinstance(decode_event(bytes(record.event)), Triggered):
            yield (heard[record_digest(record)] - record.captured_ns) / 1e6


def _spooled(folder: Path) -> Iterator[Stored]:
    """All P0 records on flash."""
    disk = Untouched(RealDisk(folder / "state" / "spool"))
    keys = FileKeyStore(Untouched(RealDisk(folder / "state" / "keys")))
    spool = Spool.open(disk, keys, SystemClock(), bytes, SpoolLimits(), MemoryCounters(names=LEDGER_NAMES))
    for ref in blocks_of(spool):
        if ref.lane is Lane.P0:
            header, body = unpack_block(spool.load(ref))
            yield from unpack_body(header, body)
