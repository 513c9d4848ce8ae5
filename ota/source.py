"""Where updates come from, as a port, and the one that is a folder (a USB stick, the signing desk's own check)."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from ecu.errors import shown
from ota.errors import FetchError, NotThere
from ota.layout import published

PART_BYTES: Final = 64 * 1024


class Source(Protocol):
    """Serves the paths of ota/layout.py to one vehicle. Nothing it gives is believed before it was verified."""

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        """The file's bytes from `offset` on, at most `most` of them, in parts; fewer when the file ends before.

        Raises NotThere, or FetchError when it can't be reached or ends within; both may come after some parts.
        """
        ...

    def close(self) -> None:
        """Lets go of its connection, for good; a read that is under way in another thread ends soon, in FetchError."""
        ...


class FolderSource:
    """A published repository in a folder, as `vehicle` may see it."""

    def __init__(self, folder: Path, vehicle: str) -> None:
        self._folder = folder
        self._vehicle = vehicle

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        relative = published(path, self._vehicle)
        if relative is None:
            raise NotThere(f"{path} is nothing that a repository has.")
        try:
            with open(open_plain(self._folder, relative), "rb") as file:
                file.seek(offset)
                while most > 0 and (part := file.read(min(PART_BYTES, most))):
                    most -= len(part)
                    yield part
        except FileNotFoundError as error:
            raise NotThere(f"The repository in {shown(self._folder)} has no {path}.") from error
        except OSError as error:
            raise FetchError(
                f"Can't read {path} of the repository in {shown(self._folder)}: {error.strerror}. Check the medium."
            ) from error

    def close(self) -> None: ...


def open_plain(folder: Path, relative: str) -> int:
    """The file descriptor of a plain file below `folder`: no step of the way there is a link, and nothing is waited for
    (a pipe would let one wait for ever). Raises OSError."""
    *folders, name = relative.split("/")
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for step in folders:
            at, above = os.open(step, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at), at
            os.close(above)
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it isn't a plain file", relative)
    return fd
