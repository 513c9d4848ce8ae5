"""What a fine-tuned network takes as its difference, to make and to apply, beside bsdiff4 and zstd --patch-from."""

from __future__ import annotations

import importlib
import importlib.util
import math
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final, TypeVar

from ecu.disk import RealDisk
from ota.manifest import encode_manifest
from ota.repository.deltamaker import make
from simulator.bench.metric import Metric, unless
from simulator.bench.ota.child import Taken, in_child
from simulator.bench.ota.networks import SIGMA, detectors, fine_tuned, lights
from simulator.bench.ota.shelf import bundle, ends_of, reader, stocked, vehicle

SIZE_BAR: Final = 12.0
MADE_BAR_S: Final = 2.0
APPLIED_BAR_S: Final = 0.5
GROWN_BAR_MIB: Final = 16.0
OTHER_SIGMAS: Final = (0.002, 0.02)
ROUNDS: Final = 9
FILE: Final = "model.onnx"

T = TypeVar("T")


def rows() -> list[Metric]:
    old, new = fine_tuned(0.0), fine_tuned(SIGMA)
    return [*_ours(old, new), *_bsdiff4(old, new), *_patch_from(old, new), *_further(old), *_releases()]


def made(old: bytes, new: bytes) -> bytes | None:
    """The delta; None where the full file is as good."""
    bodies = list[bytes]()
    head = make(reader(old), reader(new), ends_of(old, new), bodies.append, lambda size: None)
    return None if head is None else head + b"".join(bodies)


# --- the fine-tune ------------------------------------------------------------------------------------


def _ours(old: bytes, new: bytes) -> list[Metric]:
    times, delta = list[float](), b""
    for _ in range(ROUNDS):
        spent_s, told = _cpu_s(lambda: made(old, new))
        assert told is not None
        delta = told
        times.append(spent_s)
    applied = [_applied(old, new, delta) for _ in range(ROUNDS)]
    what = f"{len(new) / 1e6:.1f} MB of ONNX, int8 a channel, each weight moved by {SIGMA:.1%} of its deviation"
    process = "whole on a vehicle: fetched, added, held against the signed hashes, written and synced"
    return [
        Metric("delta: of the full file", _percent(delta, new), "%", what, SIZE_BAR),
        Metric("delta: made", median(times), "s", f"CPU, median of {ROUNDS}", MADE_BAR_S),
        Metric("delta: applied", median(its.cpu_s for its in applied), "s", f"CPU, {process}", APPLIED_BAR_S),
        Metric("delta: memory that applying takes", max(its.grown_mib for its in applied), "MiB",
               "most that a process without an array library grew by", GROWN_BAR_MIB),
    ]  # fmt: skip


def _applied(old: bytes, new: bytes, delta: bytes) -> Taken:
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as folder:
        shelf, state, manifest_file = (Path(folder, name) for name in ("shelf", "state", "bundle.json"))
        state.mkdir()
        vehicle(RealDisk(state), bundle({FILE: old}, 1), {FILE: old})
        manifest = bundle({FILE: new}, 2)
        manifest_file.write_bytes(encode_manifest(manifest))
        stocked(shelf, manifest, {FILE: new}, delta, ends_of(old, new))
        taken = in_child(str(shelf), str(state), str(manifest_file))
        if taken.by_delta != len(new):
            raise AssertionError("an update that came otherwise counts for nothing")
    return taken


def _further(old: bytes) -> list[Metric]:
    metrics = []
    for sigma in OTHER_SIGMAS:
        new = fine_tuned(sigma)
        delta = made(old, new)
        how = f"each weight moved by {sigma:.1%} of its deviation"
        metrics.append(Metric(f"delta, {sigma:.1%}: of the full file", _percent(delta or new, new), "%", how))
    return metrics


# --- peers --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Took:
    """What a peer's delta took."""

    percent: float = math.nan
    made_s: float = math.nan
    applied_s: float = math.nan


def _bsdiff4(old: bytes, new: bytes) -> list[Metric]:
    if importlib.util.find_spec("bsdiff4") is None:
        return _peer("bsdiff4", _Took(), "bsdiff4 isn't installed here (pip install bsdiff4)")
    bsdiff4 = importlib.import_module("bsdiff4")
    made_s, patch = _cpu_s(lambda: bytes(bsdiff4.diff(old, new)))
    applied_s, back = _cpu_s(lambda: bytes(bsdiff4.patch(old, patch)))
    assert back == new
    return _peer("bsdiff4", _Took(_percent(patch, new), made_s, applied_s))


def _patch_from(old: bytes, new: bytes) -> list[Metric]:
    name, zstd = "zstd -19 --patch-from", shutil.which("zstd")
    if zstd is None:
        return _peer(name, _Took(), "zstd isn't installed here (apt-get install zstd)")
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as folder:
        one, other, patch, back = (Path(folder, name) for name in ("old", "new", "patch", "back"))
        one.write_bytes(old)
        other.write_bytes(new)
        common = [zstd, "-q", "-f", "--long=27", f"--patch-from={one}"]
        made_s = _child_cpu_s([*common, "-19", str(other), "-o", str(patch)])
        applied_s = _child_cpu_s([*common, "-d", str(patch), "-o", str(back)])
        assert back.read_bytes() == new
        return _peer(name, _Took(_percent(patch.read_bytes(), new), made_s, applied_s))


def _peer(name: str, took: _Took, missing: str | None = None) -> list[Metric]:
    return unless(
        missing,
        Metric(f"{name}: of the full file", took.percent, "%", "of the same two files"),
        Metric(f"{name}: made", took.made_s, "s", "CPU, once"),
        Metric(f"{name}: applied", took.applied_s, "s", "CPU, once, in memory: neither checked nor synced"),
    )


def _child_cpu_s(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _cpu_s(act: Callable[[], T]) -> tuple[float, T]:
    began = time.process_time()
    result = act()
    return time.process_time() - began, result


# --- releases of the house ----------------------------------------------------------------------------


def _releases() -> list[Metric]:
    return [
        *_release("drive-detect 1.0 to 2.0", *detectors(), "the same network for larger pictures, calibrated anew"),
        *_release("light-state 1.0 to what was learned from it", *lights(), "by twenty vehicles together, real crops"),
    ]


def _release(name: str, old: Mapping[str, bytes], new: Mapping[str, bytes], how: str) -> list[Metric]:
    """What a vehicle with the old package takes of the new one, file by file."""
    takes = {file: _takes(old.get(file), data) for file, data in new.items()}
    whole = sum(map(len, new.values()))
    files = ", ".join(
        f"{file} {100 * size / max(1, len(new[file])):.0f}"
        for file, size in takes.items()
        if file.endswith((".onnx", ".bin"))
    )
    return [Metric(f"{name}: of the full release", 100 * sum(takes.values()) / whole, "%",
                   f"{how}; {whole:,} bytes; by file, %: {files}")]  # fmt: skip


def _takes(old: bytes | None, new: bytes) -> int:
    if old == new:
        return 0
    delta = made(old, new) if old else None
    return len(new) if delta is None else len(delta)


def _percent(part: bytes, whole: bytes) -> float:
    return 100 * len(part) / len(whole)
