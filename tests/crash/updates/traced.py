"""A disk that loses power and remembers which code asked for each sync."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import PurePath

from ecu.crashdisk import CrashDisk, CrashState
from ecu.errors import OutriderError

_HOUSE = PurePath(__file__).parents[3]
Law = Callable[[CrashState], None]
Scenario = Callable[[CrashDisk], None]


@dataclass(frozen=True)
class Site:
    """One place in the code. `path` names the functions that lead to the sync, from the first that isn't ecu/'s, and
    `lines` where in each of them the next one is called: the two twins of a record are two sites."""

    path: str
    lines: tuple[int, ...]


class Traced(CrashDisk):
    """`sites` has where each `sync` and `sync_folder` was asked for, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.sites: list[Site] = []

    def sync(self, path: str) -> None:
        self.sites.append(_site("sync"))
        super().sync(path)

    def sync_folder(self, folder: str) -> None:
        self.sites.append(_site("sync_folder"))
        super().sync_folder(folder)


def _site(act: str) -> Site:
    frame, path, lines = sys._getframe(2), [act], list[int]()
    while True:
        code = frame.f_code
        its = PurePath(code.co_filename)
        name = str(its.relative_to(_HOUSE)) if its.is_relative_to(_HOUSE) else str(its)
        path.insert(0, code.co_qualname)
        lines.insert(0, frame.f_lineno)
        if not name.startswith("ecu/"):
            return Site(" > ".join(path), tuple(lines))
        assert frame.f_back is not None
        frame = frame.f_back


def unnoticed_sites(scenario: Scenario, law: Law, among: Collection[Site]) -> set[Site]:
    """Those none of whose syncs is missed by the law where it is left out."""
    whole = Traced()
    scenario(whole)
    syncs = {site: [n for n, other in enumerate(whole.sites) if other == site] for site in among}
    return {site for site, its in syncs.items() if not any(_is_noticed(scenario, law, n) for n in its)}


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
