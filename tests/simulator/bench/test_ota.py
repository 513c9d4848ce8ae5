"""What the update benchmarks count, counted on bundles small enough to know the answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecu.disk import RealDisk
from ota.errors import FetchError
from ota.manifest import BLOCK_BYTES, encode_manifest
from simulator.bench.ota.child import in_child
from simulator.bench.ota.delta import FILE, made
from simulator.bench.ota.resume import worst
from simulator.bench.ota.shelf import Shelf, bundle, ends_of, stocked, vehicle
from tests.ota.weights import fine_tuned, weights

SIZE = BLOCK_BYTES + 99_999
OLD, NEW = weights(SIZE, seed=1), fine_tuned(SIZE, seed=1, sigma=0.005)


def test_a_shelf_breaks_off_at_its_byte_and_counts_what_it_gave(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, cut=100_000)
    shelf.put("files/a", bytes(200_000))
    with pytest.raises(FetchError):
        list(shelf.read("files/a", 7, 150_000))
    assert shelf.given == 100_000


def test_an_update_in_a_process_of_its_own_comes_by_its_delta_without_an_array_library(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    vehicle(RealDisk(state), bundle({FILE: OLD}, 1), {FILE: OLD})
    manifest, delta = bundle({FILE: NEW}, 2), made(OLD, NEW)
    assert delta is not None
    (tmp_path / "bundle.json").write_bytes(encode_manifest(manifest))
    stocked(tmp_path / "shelf", manifest, {FILE: NEW}, delta, ends_of(OLD, NEW))
    taken = in_child(str(tmp_path / "shelf"), str(state), str(tmp_path / "bundle.json"))
    assert taken.by_delta == SIZE
    assert len(delta) <= taken.received <= len(delta) + 4_096
    assert taken.grown_mib < 16


def test_what_comes_twice_is_seen() -> None:
    over_files = worst("files", OLD, NEW, None, 0, cuts=0)
    assert 0.9 * BLOCK_BYTES < over_files.value <= BLOCK_BYTES
    assert worst("a delta", OLD, NEW, made(OLD, NEW), 4_096, cuts=2).ok
