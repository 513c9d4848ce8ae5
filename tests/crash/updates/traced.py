"""A disk that loses power and remembers which code asked for each sync."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import PurePath

from ecu.crashdisk import CrashDisk, CrashState
from ecu.errors import OutriderError

_HOUSE = PurePath(__file__).parents[3]
_BELOW = ("ecu/crashdisk/", "ecu/disk.py")
Law = Callable[[CrashState], None]
Scenario = Callable[[CrashDisk], None]


class Traced(CrashDisk):
    """`sites` names, for each `sync` and `sync_folder` in their order, what it was for: the function of ours above
    ecu/disk.py, and the helper there that it went through."""

    def __init__(self) -> None:
        super().__init__()
        self.sites: list[str] = []

    def sync(self, path: str) -> None:
        self.sites.append(_site("sync"))
        super().sync(path)

    def sync_folder(self, folder: str) -> None:
        self.sites.append(_site("sync_folder"))
        super().sync_folder(folder)


def _site(act: str) -> str:
    frame, through = sys._getframe(2), ""
    while True:
        code = frame.f_code
        path = PurePath(code.co_filename)
        name = str(path.relative_to(_HOUSE)) if path.is_relative_to(_HOUSE) else str(path)
        if not name.startswith(_BELOW):
            return f"{name} {code.co_qualname}: {through}{act}"
        through = f"{code.co_name} "
        assert frame.f_back is not None
        frame = frame.f_back


def noticed_sites(scenario: Scenario, law: Law, known: set[str]) -> Iterator[tuple[str, bool]]:
    """Each site of the scenario that isn't among `known`, and whether leaving out one of its syncs is noticed."""
    whole = Traced()
    scenario(whole)
    for site in dict.fromkeys(whole.sites):
        if site not in known:
            its = [n for n, other in enumerate(whole.sites) if other == site]
            yield site, any(_is_noticed(scenario, law, n) for n in its)


def _is_noticed(scenario: Scenario, law: Law, n: int) -> bool:
    mutant = CrashDisk()
    mutant.without_sync(n)
    scenario(mutant)
    for state in mutant.after_crash():
        try:
            law(state)
        except (AssertionError, OutriderError, OSError):
            return True
    return False
