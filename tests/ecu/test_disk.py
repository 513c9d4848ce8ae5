"""What only the real disk can show: permissions, and errors that say what to do."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ecu.disk import DiskDenied, DiskError, DiskFault, DiskFull, DiskStarved, RealDisk, replace_file
from ecu.errors import EXIT_ENVIRONMENT


def test_files_and_folders_are_the_owners_alone(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path / "state")
    disk.make_folder("spool/live")
    disk.create("spool/live/f")
    replace_file(disk, "spool/g", b"x")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "state").rglob("*")}
    assert modes == {"spool": 0o700, "live": 0o700, "f": 0o600, "g": 0o600}


def test_making_the_root_makes_its_parents(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path / "a" / "b")
    disk.make_folder("")
    assert disk.names("") == []


def test_the_name_of_a_root_that_is_there_already_is_made_durable_too(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()  # by a process that was killed before its sync
    watched = (
        "import sys; from pathlib import Path; from ecu.disk import RealDisk; root = RealDisk(Path(sys.argv[1]));"
        "sys.addaudithook(lambda event, args: print(args[0]) if event == 'open' else None); root.make_folder('')"
    )
    command = [sys.executable, "-c", watched, str(tmp_path / "state")]
    opened = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert str(tmp_path) in opened, "a folder is opened only to be synced"


def test_a_full_disk_says_so_and_what_to_do() -> None:
    with pytest.raises(DiskFull, match=r"/dev/full: the disk is full\. Free space") as caught:
        RealDisk(Path("/dev")).write_at("full", 0, b"x")
    assert caught.value.exit_code == EXIT_ENVIRONMENT


def test_a_failing_medium_says_so_and_what_to_do() -> None:
    # Nothing is mapped at address 0, and the kernel answers EIO.
    with pytest.raises(DiskFault, match=r"/proc/self/mem: Input/output error\. Check the disk's health"):
        RealDisk(Path("/proc/self")).read("mem")


def test_a_forbidden_place_says_so_and_what_to_do() -> None:
    with pytest.raises(DiskDenied, match=r"/sys/x: .* --state"):
        RealDisk(Path("/sys")).make_folder("x")


def test_running_out_of_descriptors_is_no_fault_of_the_medium(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path)
    disk.create("f", 10)
    with no_descriptor_left(), pytest.raises(DiskStarved, match=r"f: too many files are open\."):
        disk.read_at("f", 0, 10)
    assert disk.read_at("f", 0, 10) == bytes(10)


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    hog: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                hog.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        for fd in hog:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_short_write_goes_on_until_the_disk_says_no(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path)
    disk.create("f")
    with files_no_longer_than(1000), pytest.raises(DiskError):
        disk.write_at("f", 0, b"x" * 5000)
    assert disk.size("f") == 1000


def test_a_file_that_could_not_be_filled_was_not_made(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path)
    with files_no_longer_than(1000), pytest.raises(DiskError):
        disk.create("f", 5000)
    assert disk.names("") == []


def test_a_failed_replacement_leaves_the_old_content(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path)
    replace_file(disk, "f", b"old")
    with files_no_longer_than(1000), pytest.raises(DiskError):
        replace_file(disk, "f", b"x" * 5000)
    assert disk.read("f") == b"old"
    replace_file(disk, "f", b"new")
    assert disk.names("") == ["f"]


def test_a_made_file_has_its_blocks(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path)
    disk.create("f", 1 << 20)
    disk.sync("f")
    assert (tmp_path / "f").stat().st_blocks * 512 >= 1 << 20
