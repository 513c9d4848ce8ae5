"""A result file that appears whole or not at all, so that a failed run never passes for a short one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ecu.disk import RealDisk
from ecu.errors import EnvironmentFault, UsageFault, shown


@contextlib.contextmanager
def whole_file(out: Path) -> Iterator[Path]:
    """Where to write; once the block ends without an error, all of it stands at `out`, and until then what was there.

    A device or a pipe is written directly. Raises UsageFault when `out` can't name a file, EnvironmentFault when it
    can't be written.
    """
    with _explained(out):
        target = out.resolve()
        if target.is_dir() or not target.parent.is_dir():
            raise UsageFault(f"{shown(out)} can't be a file: {_in_the_way(target)}.")
        if target.exists() and not target.is_file():
            yield target
            return
        part = target.with_name(f".{target.name}.part")
        try:
            yield part
            RealDisk(target.parent).rename(part.name, target.name)
        finally:
            part.unlink(missing_ok=True)


def _in_the_way(target: Path) -> str:
    if target.is_dir():
        return "it is a folder. Name a file in it"
    return f"there is no folder {shown(target.parent)}. Make it first"


@contextlib.contextmanager
def _explained(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EnvironmentFault(
            f"Can't write {shown(out)}: {error.strerror}. Choose another place, or free space and permission there."
        ) from error
