"""A runtime's folder for the desk: what its wheel holds, and with which other libraries it was tested."""

from __future__ import annotations

import contextlib
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ecu.errors import shown
from ota.errors import RepositoryFault, TrustError
from ota.runtime import FACTS_NAME, installed, read_facts, unpack_wheel


@contextlib.contextmanager
def runtime_folder(given: Path) -> Iterator[Path]:
    """The folder to cut into a bundle: a wheel is unpacked, as it is tested with what is installed here, and gone
    afterwards. Raises RepositoryFault."""
    if given.is_dir():
        _demand_facts(given)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="outrider-wheel-") as temporary:
        folder = Path(temporary) / "runtime"
        try:
            unpack_wheel(given, folder, installed())
        except (OSError, zipfile.BadZipFile, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise RepositoryFault(
                f"{shown(given)} can't be released as a runtime: {shown(why)}. Give a wheel of Outrider, or the folder "
                f"that one was unpacked to, with {FACTS_NAME} in it."
            ) from error
        yield folder


def _demand_facts(folder: Path) -> None:
    try:
        read_facts((folder / FACTS_NAME).read_bytes())
    except (OSError, TrustError) as error:
        raise RepositoryFault(
            f"{shown(folder)} has no {FACTS_NAME} that says what the runtime needs beside it: {shown(error)}. Give the "
            "wheel instead, and it is made of what is installed here (docs/launcher.md)."
        ) from error
