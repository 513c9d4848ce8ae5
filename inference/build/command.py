"""What every build script does alike at its ends: paths from the command line, and a folder written whole."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from ecu.errors import OutriderError, UsageFault


def run(description: str, build: Callable[..., None], *names: str) -> int:
    """Calls `build` with a path for each name, all of them demanded as options. The process's exit code."""
    parser = argparse.ArgumentParser(description=description)
    for name in names:
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        build(**vars(arguments))
    except OutriderError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def write_folder(folder: Path, files: Mapping[str, bytes], manifest: str, what: str) -> None:
    """Into an empty folder, or over one that has the manifest. Raises UsageFault for a folder that holds anything
    else; `what` is what it should have been."""
    folder.mkdir(parents=True, exist_ok=True)
    old = list(folder.iterdir())
    if old and not (folder / manifest).is_file():
        raise UsageFault(f"{folder} isn't empty and isn't {what}. Choose another --out.")
    for path in old:
        path.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
