"""What comes twice after a link was cut at any byte, over files and over a delta."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from random import Random
from typing import Final

from ecu.disk import RealDisk
from ota.errors import FetchError
from ota.fetch import fetch_bundle, seal_bundle
from ota.kinds import Kind
from ota.manifest import BLOCK_BYTES, BundleManifest, encode_manifest
from ota.slots import Slot, Slots
from simulator.bench.metric import Metric
from simulator.bench.ota.delta import FILE, made
from simulator.bench.ota.networks import SIGMA, fine_tuned
from simulator.bench.ota.shelf import Shelf, bundle, ends_of, stocked, unwatched, vehicle

CUTS: Final = 24
HEAD_BYTES: Final = 4096
"""A delta's head, which is asked for again: metadata."""


def rows() -> list[Metric]:
    old, new = fine_tuned(0.0), fine_tuned(SIGMA)
    return [
        worst("files", old, new, None, 0),
        worst("a delta", old, new, made(old, new), HEAD_BYTES),
    ]


def worst(over: str, old: bytes, new: bytes, delta: bytes | None, head: int, cuts: int = CUTS) -> Metric:
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as name:
        folder, manifest = Path(name), bundle({FILE: new}, 2)
        (folder / "state").mkdir()
        vehicle(RealDisk(folder / "state"), bundle({FILE: old}, 1), {FILE: old})
        stocked(folder / "shelf", manifest, {FILE: new}, delta, ends_of(old, new))
        whole = _given(folder, manifest, 1 << 62)[1]
        again = [sum(_given(folder, manifest, cut)) - whole - head for cut in _cuts(whole, cuts)]
    how = f"{whole:,} bytes over {over}, cut at {len(again)} places and begun again: the most that came twice"
    return Metric(f"resume: fetched again, over {over}", max(again), "bytes", how, BLOCK_BYTES)


def _cuts(whole: int, count: int) -> list[int]:
    """At chance, and where a block nearly came."""
    rng = Random(1)
    near = [BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, whole - 1]
    return [*(cut for cut in near if 0 < cut < whole), *(rng.randrange(1, whole) for _ in range(count))]


def _given(folder: Path, manifest: BundleManifest, cut: int) -> tuple[int, int]:
    """Bytes that came before the cut, and after it."""
    state = folder / "again"
    shutil.copytree(folder / "state", state)
    first, second = Shelf(folder / "shelf", cut), Shelf(folder / "shelf")
    with contextlib.suppress(FetchError):
        _fetched(state, first, manifest)
    if cut < 1 << 62:
        _fetched(state, second, manifest)
    seal_bundle(encode_manifest(manifest), Slots(RealDisk(state), Kind.MODEL), Slot.B)
    shutil.rmtree(state)
    return (first.given, second.given) if cut < 1 << 62 else (0, first.given)


def _fetched(state: Path, shelf: Shelf, manifest: BundleManifest) -> None:
    slots = Slots(RealDisk(state), Kind.MODEL)
    slots.empty(Slot.B)
    fetch_bundle(shelf, manifest, slots, Slot.B, unwatched)
