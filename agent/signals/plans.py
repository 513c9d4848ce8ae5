"""Which signal plan is in use: the one that was signed last, of those that the signals process could use.

As with campaigns, a release that can't be used leaves its predecessor in use, over restarts too; the owner's own file
counts until something is signed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ecu.disk import DiskError, RealDisk, replace_file

PLAN_FILE: Final = "signals.plan"


class PlanShelf:
    """`signed` is the newest release's folder, None before the first; `own` the owner's file, empty for none. `folder`
    holds what was in use last. `refused` says why the newest isn't, empty when it is."""

    def __init__(self, folder: Path, signed: Callable[[], Path | None], own: str) -> None:
        self.refused = ""
        self._folder = folder
        self._signed = signed
        self._own = own
        self._refused = {b""}
        """Digests of those that can't be used; of none at all, too."""

    def path(self) -> str:
        """The file to use now; empty where there is none yet."""
        signed = (path for path in (self._newest(), self._kept) if path is not None)
        return next((str(path) for path in signed if _digest(path) not in self._refused), self._own)

    def refuse(self, path: str, why: str) -> bool:
        """It can't be used. False for the owner's own: then it is his to mend."""
        if path not in (str(self._newest()), str(self._kept)):
            return False
        self._refused.add(_digest(Path(path)))
        self.refused = why
        return True

    def settle(self, path: str) -> None:
        """It is in use: if it was signed, it is kept beside, since its release's folder is written over one day."""
        newest = self._newest()
        if newest is None or path != str(newest):
            return
        self.refused = ""
        if _digest(newest) == _digest(self._kept):
            return
        try:
            replace_file(RealDisk(self._folder), PLAN_FILE, newest.read_bytes())
        except (DiskError, OSError) as error:
            self.refused = f"The plan in use couldn't be kept: {error}"

    @property
    def _kept(self) -> Path:
        return self._folder / PLAN_FILE

    def _newest(self) -> Path | None:
        folder = self._signed()
        return None if folder is None else folder / PLAN_FILE


def _digest(path: Path) -> bytes:
    """Empty where it can't be read."""
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return b""
