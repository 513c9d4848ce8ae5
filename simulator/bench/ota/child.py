"""One update in a process of its own that loads what a vehicle does: `python -m simulator.bench.ota.child SHELF STATE
MANIFEST`, or `zeros STATE BYTES` for as many zeros as that.

Prints what it took as JSON: seconds of CPU, and MiB that its memory grew by at most.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from ecu.disk import RealDisk
from ota.fetch import fetch_bundle, seal_bundle
from ota.kinds import Kind
from ota.landing import Progress
from ota.manifest import BLOCK_BYTES, BundleManifest, FileEntry, block_count, decode_manifest, encode_manifest
from ota.slots import Slot, Slots
from ota.source import PART_BYTES, Source
from simulator.bench.ota.shelf import Shelf, unwatched

_KIB_A_MIB: Final = 1024


class Taken(msgspec.Struct, frozen=True):
    cpu_s: float
    grown_mib: float
    by_delta: int
    received: int


class Zeros:
    """A source of nothing else."""

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        part = bytes(PART_BYTES)
        for at in range(0, most, PART_BYTES):
            yield part[: most - at]

    def close(self) -> None: ...


def zeros_manifest(size: int) -> BundleManifest:
    """One file of `size` zeros, which needn't lie anywhere; a whole number of blocks."""
    block, whole = bytes(BLOCK_BYTES), hashlib.sha256()
    for _ in range(block_count(size)):
        whole.update(block)
    hashes = (hashlib.sha256(block).hexdigest(),) * block_count(size)
    entry = FileEntry(path="zeros.bin", size=size, sha256=whole.hexdigest(), blocks=hashes)
    return BundleManifest(kind=Kind.MODEL, name="zeros", version="1.0", release=1, hardware=("any",), files=(entry,))


def taken(slots: Slots, source: Source, manifest: BundleManifest) -> Taken:
    before, began = _anew_from_kib(), time.process_time()
    slots.empty(Slot.B)
    with ThreadPoolExecutor(1) as flash:
        came: Progress = fetch_bundle(source, manifest, slots, Slot.B, unwatched, flash)
    cpu_s = time.process_time() - began
    seal_bundle(encode_manifest(manifest), slots, Slot.B)
    grown = (_peak_kib() - before) / _KIB_A_MIB
    return Taken(cpu_s, grown, came.by_delta, came.delta_bytes + came.fetched - came.by_delta)


def in_child(*arguments: str) -> Taken:
    """What such a process printed."""
    command = [sys.executable, "-m", "simulator.bench.ota.child", *arguments]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return msgspec.json.decode(told, type=Taken)


def _anew_from_kib() -> int:
    """What is resident now; the peak counts from here on (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")
    return _kib("VmRSS")


def _peak_kib() -> int:
    return _kib("VmHWM")


def _kib(what: str) -> int:
    """Not getrusage(2): its maximum is also that of the process that began this one."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{what}:")]
    return int(line.split()[1])


def main(arguments: list[str]) -> None:
    if arguments[0] == "zeros":
        slots = Slots(RealDisk(Path(arguments[1])), Kind.MODEL)
        its = taken(slots, Zeros(), zeros_manifest(int(arguments[2])))
    else:
        shelf, state, manifest = map(Path, arguments)
        slots = Slots(RealDisk(state), Kind.MODEL)
        its = taken(slots, Shelf(shelf), decode_manifest(manifest.read_bytes()))
    if "numpy" in sys.modules:
        raise AssertionError("a vehicle's agent loads no numpy, and neither may what is measured here")
    print(json.dumps(msgspec.to_builtins(its)))


if __name__ == "__main__":
    main(sys.argv[1:])
