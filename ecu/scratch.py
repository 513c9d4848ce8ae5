"""A folder for small files that nobody keeps: it goes with the act it is for, or, after a kill, with the next one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


def scratch_root() -> Path | None:
    """Where such files wear no flash and cost the least: in memory, where the computer has a folder there; None for its
    temporary folder."""
    in_memory = Path("/dev/shm")
    return in_memory if os.access(in_memory, os.W_OK | os.X_OK) else None


@contextlib.contextmanager
def scratch_folder(prefix: str, root: Path | None = None) -> Iterator[Path]:
    """An empty one in `root`, its owner's alone (0700). What processes that were killed left there by that prefix goes
    first: each holds a lock on its own for as long as it lives. Raises OSError."""
    where = root or scratch_root() or Path(tempfile.gettempdir())
    _sweep(where, prefix)
    folder, lock = _claimed(where, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _claimed(where: Path, prefix: str) -> tuple[Path, int]:
    """With the descriptor that holds its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=where))
        # Another that swept between these two lines took it for left behind: then there is the next one.
        with contextlib.suppress(FileNotFoundError):
            if (lock := _lock(folder)) is not None:
                if folder.exists():
                    return folder, lock
                os.close(lock)


def _sweep(where: Path, prefix: str) -> None:
    own = os.geteuid()
    with os.scandir(where) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(prefix)]
    for folder in (where / name for name in names):
        with contextlib.suppress(OSError):
            if folder.lstat().st_uid == own and (lock := _lock(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _lock(folder: Path) -> int | None:
    """None where another process, or another act of this one, has it. Raises OSError; also for what is no folder."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return fd
