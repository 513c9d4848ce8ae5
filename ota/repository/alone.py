"""One desk at a time over a repository: of what two write at once, one's would be lost."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ecu.disk import explained
from ecu.errors import EnvironmentFault, shown

LOCK: Final = "desk.lock"
"""Stays in the repository's folder, empty. A file and not the folder itself: on a network disk only those can be
locked that are open for writing."""


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Until this ends, or the process does. Raises EnvironmentFault while somebody else is at it; DiskError."""
    path = folder / LOCK
    with explained("lock", path):
        fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        _lock(fd, path)
        yield
    finally:
        os.close(fd)


def _lock(fd: int, path: Path) -> None:
    with explained("lock", path):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EnvironmentFault(
                f"Another outrider ota is at work in {shown(path.parent)}. Give the same command again when it is done."
            ) from error
