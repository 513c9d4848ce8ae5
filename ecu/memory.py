"""Memory handed to another process: a copy that nobody can change or shrink any more, whoever holds its descriptor."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from typing import Final

from ecu.errors import EnvironmentFault

_SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class NotSealed(Exception):
    """Whoever gave this memory could still change it."""


def sealed_copy(name: str, parts: Iterable[bytes]) -> int:
    """A descriptor of memory that holds the parts one behind the other; the caller closes it. It has no name in any
    file system and is gone with its last descriptor. Raises EnvironmentFault."""
    fd = -1
    try:
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        for part in parts:
            view = memoryview(part)
            while view:
                view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise EnvironmentFault(
            f"There is no memory to hand to another process ({name}): {error.strerror}. Free some, or raise the limit."
        ) from error
    return fd


def read_sealed(fd: int, most: int) -> bytes:
    """All of it. Raises NotSealed when it isn't, or is more than `most` bytes."""
    if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
        raise NotSealed("the memory isn't sealed")
    size = os.fstat(fd).st_size
    if size > most:
        raise NotSealed(f"the memory has {size} bytes, {most} are the most")
    return os.pread(fd, size, 0)
