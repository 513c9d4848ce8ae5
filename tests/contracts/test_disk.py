"""The Disk contract, over the real file system and over the disk that loses power, and both against each other."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from ecu.crashdisk import CrashDisk
from ecu.disk import Disk, DiskDenied, DiskError, RealDisk


@pytest.fixture(params=["real", "crash"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return RealDisk(tmp_path) if request.param == "real" else CrashDisk()


def test_a_file_holds_what_was_written_to_it(disk: Disk) -> None:
    disk.create("f")
    disk.write_at("f", 0, b"abcdef")
    disk.write_at("f", 2, b"XY")
    assert disk.read("f") == b"abXYef"
    assert disk.read_at("f", 1, 3) == b"bXY"
    assert disk.size("f") == 6


def test_a_file_made_with_a_size_holds_zeros(disk: Disk) -> None:
    disk.create("f", 5000)
    assert disk.read("f") == bytes(5000)


def test_a_write_behind_the_end_leaves_zeros_between(disk: Disk) -> None:
    disk.create("f")
    disk.write_at("f", 3, b"x")
    assert disk.read("f") == b"\0\0\0x"


def test_reading_at_the_end_gives_less(disk: Disk) -> None:
    disk.create("f", 4)
    assert disk.read_at("f", 2, 10) == bytes(2)
    assert disk.read_at("f", 9, 10) == b""


@pytest.mark.parametrize("size", [0, 2, 4, 9])
def test_truncate_sets_the_size_either_way(disk: Disk, size: int) -> None:
    disk.create("f")
    disk.write_at("f", 0, b"abcd")
    disk.truncate("f", size)
    assert disk.read("f") == b"abcd"[:size].ljust(size, b"\0")


def test_a_rename_replaces_what_was_there(disk: Disk) -> None:
    for name in ("old", "new"):
        disk.create(name)
        disk.write_at(name, 0, name.encode())
    disk.rename("old", "new")
    assert disk.names("") == ["new"]
    assert disk.read("new") == b"old"


def test_names_are_sorted_and_folders_nest(disk: Disk) -> None:
    disk.make_folder("a/b/c")
    disk.create("a/z")
    assert disk.names("") == ["a"]
    assert disk.names("a") == ["b", "z"]
    assert disk.names("a/b/c") == []


def test_a_folder_is_told_from_a_file_and_from_nothing(disk: Disk) -> None:
    disk.make_folder("a/b")
    disk.create("a/f")
    assert [disk.is_folder(path) for path in ("", "a", "a/b", "a/f", "a/none", "none/none")] == [
        True, True, True, False, False, False
    ]  # fmt: skip


def test_making_a_folder_again_changes_nothing(disk: Disk) -> None:
    disk.make_folder("a/b")
    disk.create("a/b/f")
    disk.make_folder("a/b")
    disk.make_folder("a")
    assert disk.names("a/b") == ["f"]


def test_what_was_removed_is_gone(disk: Disk) -> None:
    disk.make_folder("a")
    disk.create("f")
    disk.remove("f")
    disk.remove("a")
    assert disk.names("") == []
    assert not disk.exists("f")


def test_syncing_changes_nothing_that_can_be_read(disk: Disk) -> None:
    disk.make_folder("a")
    disk.create("a/f", 3)
    disk.sync("a/f")
    disk.forget("a/f")
    disk.sync_folder("a")
    disk.sync_folder("")
    assert disk.read("a/f") == bytes(3)


ON_ONE_FILE: dict[str, Callable[[Disk], object]] = {
    "size": lambda disk: disk.size("missing"),
    "read": lambda disk: disk.read("missing"),
    "read_at": lambda disk: disk.read_at("missing", 0, 1),
    "write_at": lambda disk: disk.write_at("missing", 0, b"x"),
    "truncate": lambda disk: disk.truncate("missing", 0),
    "sync": lambda disk: disk.sync("missing"),
    "forget": lambda disk: disk.forget("missing"),
    "rename": lambda disk: disk.rename("missing", "other"),
    "remove": lambda disk: disk.remove("missing"),
    "names": lambda disk: disk.names("missing"),
    "sync_folder": lambda disk: disk.sync_folder("missing"),
    "create": lambda disk: disk.create("missing/f"),
}


@pytest.mark.parametrize("act", sorted(ON_ONE_FILE))
def test_a_missing_name_is_file_not_found(disk: Disk, act: str) -> None:
    with pytest.raises(FileNotFoundError):
        ON_ONE_FILE[act](disk)
    assert disk.names("") == []


def test_a_taken_name_is_file_exists(disk: Disk) -> None:
    disk.create("f")
    disk.make_folder("d")
    for name in ("f", "d"):
        with pytest.raises(FileExistsError):
            disk.create(name)
    with pytest.raises(FileExistsError):
        disk.make_folder("f")


def test_files_and_folders_are_not_each_other(disk: Disk) -> None:
    disk.create("f")
    disk.make_folder("d/e")
    for act in (
        lambda: disk.read("d"),
        lambda: disk.write_at("d", 0, b"x"),
        lambda: disk.create("f/g"),
        lambda: disk.names("f"),
        lambda: disk.make_folder("f/g"),
        lambda: disk.remove("d"),
        lambda: disk.rename("f", "d"),
    ):
        with pytest.raises(DiskDenied):
            act()
    assert not disk.exists("f/g")
    assert disk.names("d") == ["e"]


class Twins(RuleBasedStateMachine):
    """Whatever is done to both, the fake answers as the file system does."""

    paths = st.sampled_from(["f", "g", "d", "d/f", "d/g", "d/e", "d/e/f"])

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.real, self.fake = RealDisk(self.folder), CrashDisk()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def both(self, act: Callable[[Disk], object]) -> None:
        assert _answer(act, self.real) == _answer(act, self.fake)

    @rule(path=paths, size=st.integers(0, 20))
    def create(self, path: str, size: int) -> None:
        self.both(lambda disk: disk.create(path, size))

    @rule(path=paths)
    def make_folder(self, path: str) -> None:
        self.both(lambda disk: disk.make_folder(path))

    @rule(path=paths, offset=st.integers(0, 30), data=st.binary(max_size=20))
    def write_at(self, path: str, offset: int, data: bytes) -> None:
        self.both(lambda disk: disk.write_at(path, offset, data))

    @rule(path=paths, size=st.integers(0, 30))
    def truncate(self, path: str, size: int) -> None:
        self.both(lambda disk: disk.truncate(path, size))

    @rule(path=paths, new=st.sampled_from(["f", "g", "e"]))
    def rename(self, path: str, new: str) -> None:
        folder = path.rpartition("/")[0]
        self.both(lambda disk: disk.rename(path, f"{folder}/{new}" if folder else new))

    @rule(path=paths)
    def remove(self, path: str) -> None:
        self.both(lambda disk: disk.remove(path))

    @rule(path=paths, offset=st.integers(0, 30), length=st.integers(0, 30))
    def look(self, path: str, offset: int, length: int) -> None:
        self.both(lambda disk: disk.exists(path))
        self.both(lambda disk: disk.read(path))
        self.both(lambda disk: disk.read_at(path, offset, length))
        self.both(lambda disk: disk.names(path))
        self.both(lambda disk: disk.names(""))


def _answer(act: Callable[[Disk], object], disk: Disk) -> object:
    try:
        return act(disk)
    except (FileNotFoundError, FileExistsError, DiskError) as error:
        return type(error)


test_the_fake_answers_as_the_file_system_does = Twins.TestCase
Twins.TestCase.settings = settings(max_examples=40, stateful_step_count=25, suppress_health_check=list(HealthCheck))
