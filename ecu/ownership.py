"""Our top-level names are ours: another distribution's `inference` (Roboflow's, for one) must not be run in our place.

It may stand before us on the path, or have written its files over ours in the same folder. Both are found by looking,
without importing anything.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

from ecu.errors import EnvironmentFault

NAMES: Final = ("agent", "ecu", "inference", "ota", "receiver", "simulator", "telemetry")


class NameTaken(EnvironmentFault):
    """A package of ours isn't the one that Python would import."""


def check(names: Sequence[str] = NAMES, path: Sequence[str] | None = None) -> None:
    """Raises NameTaken when importing one of `names` along `path` (sys.path) wouldn't give our package."""
    home = Path(__file__).resolve().parent.parent
    for name in names:
        if trouble := _trouble(name, home / name / "__init__.py", sys.path if path is None else path):
            raise NameTaken(
                f"{trouble} Install Outrider into a virtual environment of its own, where no other package has its "
                "name (python -m venv outrider-env; outrider-env/bin/pip install outrider), and leave PYTHONPATH unset."
            )


def _trouble(name: str, ours: Path, path: Sequence[str]) -> str | None:
    found = _found(name, path)
    if found is None:
        return f"Outrider's package {name!r} is missing from {ours.parent.parent}."
    if found.resolve() != ours:
        return f"Python would import {name!r} from {found}, not Outrider's from {ours.parent}."
    return None if _is_marked(ours) else f"{ours} isn't Outrider's: something else was installed over it."


def _found(name: str, path: Sequence[str]) -> Path | None:
    spec = PathFinder.find_spec(name, list(path))
    if spec is None:
        return None
    # A folder without __init__.py has no origin.
    return Path(spec.origin) if spec.origin else Path(next(iter(spec.submodule_search_locations or [name])))


def _is_marked(source: Path) -> bool:
    lines = source.read_text("utf-8", errors="replace").splitlines()
    return any(line.startswith("__distribution__") and line.endswith('= "outrider"') for line in lines)
