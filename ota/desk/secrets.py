"""Where a PIN comes from: a file, the environment, or whoever sits there. Never the command line, which others read."""

from __future__ import annotations

import os
import sys
from getpass import getpass
from pathlib import Path
from typing import Annotated, Final

import typer

from ecu.errors import shown
from ota.errors import RepositoryFault
from ota.repository.keys import KeyFolder

PIN_VARIABLE: Final = "OUTRIDER_PIN"
PinFile = Annotated[
    Path | None, typer.Option("--pin-file", help=f"Holds a token's PIN; else {PIN_VARIABLE}, or asked.")
]


def key_folder(folder: Path, pin_file: Path | None) -> KeyFolder:
    def secret(what: str) -> str:
        if pin_file is not None:
            return _read(pin_file)
        if given := os.environ.get(PIN_VARIABLE):
            return given
        if sys.stdin.isatty():
            return getpass(f"{what} of the key's token: ")
        raise RepositoryFault(f"A key needs its {what}. Give it in a file with --pin-file, or in {PIN_VARIABLE}.")

    return KeyFolder(folder, secret)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RepositoryFault(f"The PIN can't be read from {shown(path)}: {error}.") from error
