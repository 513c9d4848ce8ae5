"""Durability has one home: nothing outside this file renames, fsyncs or truncates state.

`Disk` is the port; `RealDisk` is a folder on the flash; `ecu/crashdisk/` ships the fake that loses power.

    DiskError
    ├── DiskFull      no space left: free some, nothing was half done that a reader could mistake for whole
    ├── DiskDenied    no permission, a read-only file system, or something else stands there
    ├── DiskStarved   the computer is short of descriptors or memory: says nothing about the medium; try again later
    └── DiskFault     the medium failed (EIO): what wasn't synced may be gone; never sync the same bytes again and
                      believe the answer, write them anew elsewhere
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from ecu.errors import EnvironmentFault


class DiskError(EnvironmentFault):
    """The disk couldn't do it. The message names the path and what to do."""


class DiskFull(DiskError):
    """No space left on the device."""


class DiskDenied(DiskError):
    """No permission, a read-only file system, or a folder where a file should be (or the other way round)."""


class DiskStarved(DiskError):
    """The computer is short of descriptors or memory. It says nothing of the medium: retry, never call it damage."""


class DiskFault(DiskError):
    """The medium failed. What wasn't synced before may be gone."""


UNREADABLE: Final = (FileNotFoundError, DiskFault, DiskDenied)
"""Of a read: that file isn't to be had, and waiting changes nothing. A computer that is starved is another matter."""


class Disk(Protocol):
    """A folder whose promises are a power cut's: what was synced stays, anything else may be kept, lost or torn.

    Paths are relative, with "/" between parts; "" is the folder itself. A new name, a rename and a removal are durable
    after `sync_folder` of the folder that holds them; bytes after `sync` of their file. Missing files raise
    FileNotFoundError, names taken FileExistsError, everything else a DiskError.
    """

    def exists(self, path: str) -> bool: ...

    def is_folder(self, path: str) -> bool:
        """False also where nothing is."""
        ...

    def names(self, folder: str) -> list[str]:
        """Sorted names of the files and folders in `folder`."""
        ...

    def size(self, path: str) -> int: ...

    def read(self, path: str) -> bytes: ...

    def read_at(self, path: str, offset: int, length: int) -> bytes:
        """Up to `length` bytes; fewer at the end of the file."""
        ...

    def make_folder(self, path: str) -> None:
        """Makes it and its parents where missing, and each durable in its parent."""
        ...

    def create(self, path: str, size: int = 0) -> None:
        """A new file of `size` zero bytes, written and not just promised, so that later writes can't meet DiskFull."""
        ...

    def write_at(self, path: str, offset: int, data: bytes) -> None:
        """All of `data` at `offset` of an existing file, or an error (then any part of it may have been written)."""
        ...

    def truncate(self, path: str, size: int) -> None: ...

    def sync(self, path: str) -> None:
        """The file's bytes and length are durable. On DiskFault they may not be, whatever a later sync says."""
        ...

    def forget(self, path: str) -> None:
        """What was synced of the file is read from the medium next time, not from memory, as far as that can be had."""
        ...

    def sync_folder(self, folder: str) -> None:
        """The folder's names are durable."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Atomic, in one folder; replaces `new`."""
        ...

    def remove(self, path: str) -> None: ...


_OPEN_FILES = "too many files are open. Close some, or raise LimitNOFILE= (ulimit -n), and try again."
LONG_BYTES: Final = 64 * 1024
"""What is so long begins its way to flash as it is written: who syncs it waits less, and does something else before."""
_MEMORY = "the computer is out of memory. Free some, and try again."

_ADVICE = {
    errno.ENOSPC: (DiskFull, "the disk is full. Free space on it, or lower [spool] max_bytes in outrider.toml."),
    errno.EDQUOT: (DiskFull, "the quota is used up. Raise it, or lower [spool] max_bytes in outrider.toml."),
    errno.EACCES: (DiskDenied, "permission is denied. Run as the owner of that folder, or choose another --state."),
    errno.EPERM: (DiskDenied, "it isn't permitted. Run as the owner of that folder, or choose another --state."),
    errno.EROFS: (DiskDenied, "the file system is read-only. Choose a --state folder that can be written."),
    errno.EISDIR: (DiskDenied, "a folder stands where a file should. Move it away."),
    errno.ENOTDIR: (DiskDenied, "a file stands where a folder should. Move it away."),
    errno.ENOTEMPTY: (DiskDenied, "the folder isn't empty. Remove what is in it first."),
    errno.EMFILE: (DiskStarved, _OPEN_FILES),
    errno.ENFILE: (DiskStarved, _OPEN_FILES),
    errno.ENOMEM: (DiskStarved, _MEMORY),
    errno.EAGAIN: (DiskStarved, "the computer is too busy for it. Try again."),
}


@contextlib.contextmanager
def explained(act: str, path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError as error:
        kind, advice = _ADVICE.get(
            error.errno or 0, (DiskFault, f"{error.strerror}. Check the disk's health (dmesg, smartctl).")
        )
        raise kind(f"Can't {act} {path}: {advice}") from error


class RealDisk:
    """A folder of the computer's file system. Files are made 0600, folders 0700."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _at(self, path: str) -> Path:
        return self.root / path if path else self.root

    def exists(self, path: str) -> bool:
        with explained("look at", self._at(path)):
            return self._at(path).exists()

    def is_folder(self, path: str) -> bool:
        with explained("look at", self._at(path)):
            return self._at(path).is_dir() and not self._at(path).is_symlink()

    def names(self, folder: str) -> list[str]:
        with explained("list", self._at(folder)):
            return sorted(os.listdir(self._at(folder)))

    def size(self, path: str) -> int:
        with explained("look at", self._at(path)):
            return os.stat(self._at(path)).st_size

    def read(self, path: str) -> bytes:
        with explained("read", self._at(path)):
            return self._at(path).read_bytes()

    def read_at(self, path: str, offset: int, length: int) -> bytes:
        with explained("read", self._at(path)), _open(self._at(path), os.O_RDONLY) as fd:
            return os.pread(fd, length, offset)

    def make_folder(self, path: str) -> None:
        folder = self._at(path)
        with explained("make the folder", folder):
            for f in reversed([folder, *folder.parents]):
                made = not f.exists()
                if made:
                    f.mkdir(mode=0o700, exist_ok=True)
                # One that is there already may have been made by a process that was killed before its sync.
                if made or f == self.root or self.root in f.parents:
                    _sync_folder(f.parent)
            if not folder.is_dir():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))

    def create(self, path: str, size: int = 0) -> None:
        at = self._at(path)
        with explained("create", at), _open(at, os.O_CREAT | os.O_EXCL | os.O_WRONLY) as fd:
            try:
                _write_all(fd, bytes(size), 0)
            except OSError:
                os.unlink(at)
                raise

    def write_at(self, path: str, offset: int, data: bytes) -> None:
        with explained("write", self._at(path)), _open(self._at(path), os.O_WRONLY) as fd:
            _write_all(fd, data, offset)
            if len(data) >= LONG_BYTES:
                _start(fd, offset, len(data))

    def truncate(self, path: str, size: int) -> None:
        with explained("truncate", self._at(path)):
            os.truncate(self._at(path), size)

    def sync(self, path: str) -> None:
        # Without the file's times, which ext4 would write three blocks of its journal for, each time.
        with explained("sync", self._at(path)), _open(self._at(path), os.O_RDONLY) as fd:
            os.fdatasync(fd)

    def forget(self, path: str) -> None:
        with explained("read anew", self._at(path)), _open(self._at(path), os.O_RDONLY) as fd:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def sync_folder(self, folder: str) -> None:
        with explained("sync", self._at(folder)):
            _sync_folder(self._at(folder))

    def rename(self, old: str, new: str) -> None:
        with explained("rename", self._at(old)):
            os.rename(self._at(old), self._at(new))

    def remove(self, path: str) -> None:
        at = self._at(path)
        with explained("remove", at):
            at.rmdir() if at.is_dir() else at.unlink()


@contextlib.contextmanager
def _open(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def _sync_folder(path: Path) -> None:
    with _open(path, os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.fsync(fd)


def _start(fd: int, offset: int, size: int) -> None:
    """Linux begins to write what it hears that nobody will read (mm/fadvise.c). A hint: its failure means nothing."""
    with contextlib.suppress(OSError):
        os.posix_fadvise(fd, offset, size, os.POSIX_FADV_DONTNEED)


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        # A short write comes before ENOSPC without any error of its own.
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


class FolderDisk:
    """A folder of a disk, as a Disk of its own."""

    def __init__(self, disk: Disk, folder: str) -> None:
        self._disk = disk
        self._folder = folder

    def _in(self, path: str) -> str:
        return f"{self._folder}/{path}" if path else self._folder

    def exists(self, path: str) -> bool:
        return self._disk.exists(self._in(path))

    def is_folder(self, path: str) -> bool:
        return self._disk.is_folder(self._in(path))

    def names(self, folder: str) -> list[str]:
        return self._disk.names(self._in(folder))

    def size(self, path: str) -> int:
        return self._disk.size(self._in(path))

    def read(self, path: str) -> bytes:
        return self._disk.read(self._in(path))

    def read_at(self, path: str, offset: int, length: int) -> bytes:
        return self._disk.read_at(self._in(path), offset, length)

    def make_folder(self, path: str) -> None:
        self._disk.make_folder(self._in(path))

    def create(self, path: str, size: int = 0) -> None:
        self._disk.create(self._in(path), size)

    def write_at(self, path: str, offset: int, data: bytes) -> None:
        self._disk.write_at(self._in(path), offset, data)

    def truncate(self, path: str, size: int) -> None:
        self._disk.truncate(self._in(path), size)

    def sync(self, path: str) -> None:
        self._disk.sync(self._in(path))

    def forget(self, path: str) -> None:
        self._disk.forget(self._in(path))

    def sync_folder(self, folder: str) -> None:
        self._disk.sync_folder(self._in(folder))

    def rename(self, old: str, new: str) -> None:
        self._disk.rename(self._in(old), self._in(new))

    def remove(self, path: str) -> None:
        self._disk.remove(self._in(path))


class WatchedDisk:
    """A Disk that remembers: after a failed sync of a folder its names are in doubt, whatever a later sync says."""

    def __init__(self, disk: Disk) -> None:
        self.names_doubtful = False
        self._disk = disk
        self.exists, self.is_folder, self.names, self.size = disk.exists, disk.is_folder, disk.names, disk.size
        self.read, self.read_at = disk.read, disk.read_at
        self.make_folder, self.create, self.write_at = disk.make_folder, disk.create, disk.write_at
        self.truncate, self.sync, self.rename, self.remove = disk.truncate, disk.sync, disk.rename, disk.remove
        self.forget = disk.forget

    def sync_folder(self, folder: str) -> None:
        try:
            self._disk.sync_folder(folder)
        except DiskError:
            self.names_doubtful = True
            raise


def state_folder(path: Path) -> RealDisk:
    """A process's state folder, made where it is missing. Raises DiskError; DiskDenied when it isn't a folder."""
    disk = RealDisk(path)
    try:
        disk.make_folder("")
    except FileExistsError as error:
        raise DiskDenied(
            f"{path} can't be a state folder: something there isn't one. Choose another --state, or move it."
        ) from error
    return disk


def replace_file(disk: Disk, path: str, data: bytes) -> None:
    """After this returns, `path` holds `data` even if the power goes now; before, the old content, whole.

    Raises DiskError, the old content untouched.
    """
    write_beside(disk, path, data)
    move_in(disk, path)


def replace_files(disk: Disk, files: Mapping[str, bytes], syncs: Executor | None = None) -> None:
    """As `replace_file` for each, in no order that could be relied on: all are laid before the first is synced, and
    moved before the first folder is. Those who wait for the disk in `syncs` together share one write of its journal.
    Raises DiskError; any of them may have been replaced then."""
    each = syncs.map if syncs is not None else map
    for path, data in files.items():
        lay_beside(disk, path, data)
    list(each(partial(sync_beside, disk), files))
    for path in files:
        disk.rename(beside(path), path)
    # The renames are only in memory until the folders are synced.
    list(each(disk.sync_folder, dict.fromkeys(path.rpartition("/")[0] for path in files)))


def write_beside(disk: Disk, path: str, data: bytes) -> None:
    """The first half of `replace_file`: `data` is durable in a file beside `path`, and `path` wasn't touched."""
    lay_beside(disk, path, data)
    sync_beside(disk, path)


def lay_beside(disk: Disk, path: str, data: bytes) -> None:
    """As `write_beside`, before it is durable: where several files are laid first and synced then, one write of the
    filesystem's journal is enough for the names of all."""
    remove_beside(disk, path)
    with _nothing_left(disk, path):
        disk.create(beside(path))
        disk.write_at(beside(path), 0, data)


def sync_beside(disk: Disk, path: str) -> None:
    """What was laid beside `path` is durable. Raises DiskError: it is gone."""
    with _nothing_left(disk, path):
        disk.sync(beside(path))


@contextlib.contextmanager
def _nothing_left(disk: Disk, path: str) -> Iterator[None]:
    """Of a file beside `path` when an error comes: it may hold half a secret, and takes space where there was none."""
    try:
        yield
    except DiskError:
        with contextlib.suppress(DiskError, FileNotFoundError):
            disk.remove(beside(path))
        raise


def move_in(disk: Disk, path: str) -> None:
    """The second half: what was written beside `path` is durable there."""
    move_all_in(disk, [path])


def move_all_in(disk: Disk, paths: Sequence[str]) -> None:
    """As `move_in` for files of one folder, with one sync for all; on an error any of them may have been moved."""
    for path in paths:
        disk.rename(beside(path), path)
    # The renames are only in memory until the folder is synced.
    disk.sync_folder(paths[0].rpartition("/")[0])


def remove_beside(disk: Disk, path: str) -> None:
    """Removes what a `replace_file` left that was killed or failed."""
    if disk.exists(beside(path)):
        disk.remove(beside(path))


def beside(path: str) -> str:
    return f"{path}.tmp"
