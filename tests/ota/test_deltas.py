"""Deltas of a published repository: made, stored, served to every vehicle, and used by one that has the old release."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from ecu.disk import RealDisk
from ota.errors import NotThere, RepositoryFault
from ota.floors import Floors
from ota.kinds import Kind
from ota.landing import Progress
from ota.layout import delta_path, published
from ota.machine import Event
from ota.manifest import BundleManifest
from ota.repository.deltas import Delta, make_deltas
from ota.source import FolderSource
from ota.trust import Vehicle
from ota.updates import Updates
from tests.ota.differing import SIZE, contents
from tests.ota.fleet import CAR, HARDWARE, Fleet, Unsynced


def released(fleet: Fleet, release: int) -> BundleManifest:
    return fleet.release(f"{release}.0", release, files=dict(contents(release)))


def make(fleet: Fleet, old: BundleManifest, new: BundleManifest) -> tuple[Delta, ...]:
    told = list[int]()
    made = make_deltas(Unsynced(fleet.repo), fleet.images, old.target, new.target, told.append)
    assert sum(told) <= SIZE
    return made


def updates_of(fleet: Fleet, state: Path) -> Updates:
    state.mkdir(exist_ok=True)
    updates = Updates(RealDisk(state), fleet.roots, Vehicle(CAR, HARDWARE), fleet.clock, lambda notice: None)
    updates.begin()
    return updates


def keep(fleet: Fleet, updates: Updates, manifest: BundleManifest) -> Progress:
    """Installed and committed, over the way a vehicle takes."""
    fleet.assign(manifest)
    told = [Progress(0, 0, 0)]
    (offer,) = updates.check(fleet.source())
    updates.install(fleet.source(), offer, told.append)
    for event in (Event.LOADED, Event.PASSED, Event.PROVEN):
        updates.handle(Kind.MODEL, event, "")
    return told[-1]


def test_a_vehicle_that_has_the_old_release_takes_the_new_one_as_its_difference(fleet: Fleet, state: Path) -> None:
    old, new = released(fleet, 1), released(fleet, 2)
    (made,) = make(fleet, old, new)
    assert made.delta_bytes is not None
    assert made.delta_bytes <= 0.12 * made.full_bytes
    updates = updates_of(fleet, state)
    assert keep(fleet, updates, old).by_delta == 0
    came = keep(fleet, updates, new)
    assert (came.by_delta, came.unfit) == (SIZE, 0)
    assert made.delta_bytes <= came.delta_bytes <= made.delta_bytes + 4_096, "once, and its head"
    assert Floors(RealDisk(state)).release(Kind.MODEL) == 2


def test_a_delta_that_somebody_changed_is_written_down_and_the_release_is_installed(fleet: Fleet, state: Path) -> None:
    old, new = released(fleet, 1), released(fleet, 2)
    make(fleet, old, new)
    (path,) = (fleet.repo / "image/deltas").iterdir()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    updates = updates_of(fleet, state)
    keep(fleet, updates, old)
    came = keep(fleet, updates, new)
    assert came.unfit >= 1
    (entry,) = [entry for entry in updates.audit().entries() if entry.event == "delta_unfit"]
    assert "came as they are" in entry.detail


def test_a_delta_that_is_there_isnt_made_again_and_a_damaged_file_makes_none(fleet: Fleet) -> None:
    old, new = released(fleet, 1), released(fleet, 2)
    first = make(fleet, old, new)
    (path,) = (fleet.repo / "image/deltas").iterdir()
    before = path.stat()
    assert make(fleet, old, new) == first
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    path.unlink()
    file = fleet.repo / "image/files" / old.files[1].sha256
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(RepositoryFault, match=r"model\.onnx, is lost or damaged"):
        make(fleet, old, new)
    assert list(path.parent.iterdir()) == []


def test_where_the_full_file_is_as_good_there_is_no_delta(fleet: Fleet) -> None:
    old = fleet.release("1.0", 1, files={"model.onnx": bytes(range(256)) * 100})
    new = fleet.release("2.0", 2, files={"model.onnx": Random(1).randbytes(30_000)})
    assert make(fleet, old, new) == (Delta("model.onnx", 30_000, None),)
    assert list((fleet.repo / "image/deltas").iterdir()) == []


def test_a_release_that_isnt_published_has_no_delta(fleet: Fleet) -> None:
    old = released(fleet, 1)
    with pytest.raises(RepositoryFault, match="no published release"):
        make_deltas(Unsynced(fleet.repo), fleet.images, old.target, "model/drive-9.0.json", unwatched_bytes)


def unwatched_bytes(_: int) -> None: ...


@pytest.mark.parametrize(
    "path",
    ["deltas/abc", "deltas/../../keys/a", f"deltas/{'a' * 64}", f"deltas/{'a' * 64}.{'b' * 63}",
     f"deltas/{'a' * 64}.{'b' * 64}.bodies", f"deltas/{'a' * 64}.{'b' * 64}.tmp", f"deltas/{'A' * 64}.{'b' * 64}"],
)  # fmt: skip
def test_nothing_but_a_whole_delta_can_be_asked_for(fleet: Fleet, path: str) -> None:
    assert published(path, CAR) is None
    with pytest.raises(NotThere):
        list(FolderSource(fleet.repo, CAR).read(path, 0, 10))


def test_a_delta_lies_with_the_images() -> None:
    assert published(delta_path("a" * 64, "b" * 64), CAR) == f"image/deltas/{'a' * 64}.{'b' * 64}"
