"""Which signal plan is in use: of the signed ones the first that the signals process can use, else the owner's own.

A release is tried by being used (kind `config`): the one under trial goes before the one that was kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

PLAN_FILE: Final = "signals.plan"


class PlanShelf:
    """`signed` are the folders of the releases to use, in their order; `own` the owner's file, empty for none."""

    def __init__(self, signed: Callable[[], Sequence[Path]], own: str) -> None:
        self._signed = signed
        self._own = own
        self._ready = b""
        self._refused: dict[bytes, str] = {b"": "it holds no signals.plan that can be read"}
        """Why they can't be used, by digest; also of none at all."""

    def path(self) -> str:
        """The file to use now; empty where there is none yet."""
        return next((str(path) for path in self._paths() if _digest(path) not in self._refused), self._own)

    @property
    def refused(self) -> str:
        """Why the first isn't in use; empty when it is, and when it wasn't looked at yet."""
        return next((self._refused.get(_digest(path), "") for path in self._paths()), "")

    def refuse(self, path: str, why: str) -> bool:
        """It can't be used. False for the owner's own: then it is his to mend."""
        if path not in map(str, self._paths()):
            return False
        self._refused[_digest(Path(path))] = why
        return True

    def settle(self, path: str) -> None:
        """Its process is ready."""
        self._ready = _digest(Path(path))

    def is_ready(self, folder: Path) -> bool:
        """Whether the plan in that folder is the one that a process was last ready with."""
        return self._ready == _digest(folder / PLAN_FILE) != b""

    def why_not(self, folder: Path) -> str:
        """Why the plan in that folder can't be used; empty where it can, or nobody has tried."""
        return self._refused.get(_digest(folder / PLAN_FILE), "")

    def _paths(self) -> list[Path]:
        return [folder / PLAN_FILE for folder in self._signed()]


def _digest(path: Path) -> bytes:
    """Empty where it can't be read."""
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return b""
