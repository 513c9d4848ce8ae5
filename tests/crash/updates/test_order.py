"""The order of the steps that make a release's life durable: done the other way round, a cut between two breaks a law.

A pair that no law notices is listed here with the reason why its order doesn't matter.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from types import MappingProxyType
from typing import Final

import pytest

from ecu.crashdisk import CrashDisk, Step, unnoticed_when_swapped
from ecu.crashdisk.effects import Link, Write
from ecu.crashdisk.steps import can_swap, merged
from ota.kinds import Kind
from tests.crash.updates.laws import holds
from tests.crash.updates.lives import changes, gives_up, is_mended, resumes
from tests.crash.updates.vehicle import Diary, Life, Lived

Pair = tuple[str, str]

NEEDED: Final = frozenset(
    {
        ("boot", "floors"),  # a floor rises to what is kept
        ("denied", "boot"),  # a record says "rolled back" of what is denied
        ("manifest", "boot"), ("files", "boot"),  # a slot is named when all of it is there
        ("boot", "manifest"),  # and emptied when it is named no more
        ("boot", "audit"), ("audit", "boot"), ("audit", "denied"),  # the audit tells what is so, all of it
        ("audit", "manifest"), ("audit", "files"),
    }
)  # fmt: skip
"""Orders that at least one law holds the code to."""

FREE: Final = MappingProxyType(
    {
        ("folder", "files"): "folders that nothing lies in yet",
        ("folder", "boot"): "folders that nothing lies in yet",
        ("files", "manifest"): "the record, which comes after both, is what names a slot",
        ("manifest", "files"): "the record, which comes before both, is what names a slot",
        ("manifest", "floors"): "the floors' first record, which says nothing",
        ("floors", "boot"): "the floors' first record, and what a start finds and writes once more",
        ("floors", "files"): "what a start finds is written once more",
        ("floors", "manifest"): "what a start finds is written once more",
        ("floors", "denied"): "what a start finds is written once more",
        ("floors", "audit"): "the record says it already, and a start raises the floor to it",
    }
)


def subject(step: Step) -> str:
    """What of a vehicle's updates a step is about."""
    path, effects = step.paths[0], step.effects
    if all(isinstance(effect, Link) and effect.folder for effect in effects):
        return "folder"
    if path == "denied":
        is_room = all(not any(effect.data) for effect in effects if isinstance(effect, Write))
        return "room" if is_room else "denied"
    if match := re.fullmatch(r"(.*)\.[01](\.tmp)?", path):
        return "floors" if "floors" in match[1] else "boot"
    if path.startswith("audit"):
        return "audit"
    return "manifest" if "bundle.json" in path else "files"


class Subjects:
    """Of each step in its turn. What says nothing yet (folders, room for a denial) goes with the step before it."""

    def __init__(self) -> None:
        self._last = "folder"

    def __call__(self, step: Step) -> str:
        its = subject(step)
        self._last = self._last if its in ("room", "folder") else its
        return self._last


def pairs(life: Lived, kind: Kind) -> tuple[Counter[Pair], Counter[Pair]]:
    """The neighbours of a life that could be swapped, and those of them whose order no law notices."""
    diary, whole = Diary(kind), CrashDisk()
    life(Life(whole, diary))
    steps = merged(whole.steps, Subjects())
    there = Counter((subject(a), subject(b)) for a, b in pairwise(steps) if can_swap(a, b))
    unnoticed = unnoticed_when_swapped(
        lambda disk: life(Life(disk, Diary(kind))), lambda state: holds(diary, state), subject=Subjects()
    )
    return there, Counter((subject(a), subject(b)) for a, b in unnoticed)


def test_the_order_of_a_change_is_needed_or_free_for_a_reason() -> None:
    there, unnoticed = pairs(changes, Kind.CAMPAIGN)
    assert set(unnoticed) - NEEDED <= set(FREE)
    assert there[("boot", "floors")] > unnoticed[("boot", "floors")]


@pytest.mark.soak
def test_every_order_that_a_law_needs_is_noticed_and_every_other_one_is_free_for_a_reason() -> None:
    there, unnoticed = Counter[Pair](), Counter[Pair]()
    for life in (changes, resumes, gives_up, is_mended):
        for kind in (Kind.MODEL, Kind.CONFIG, Kind.RUNTIME, Kind.CAMPAIGN):
            if life is not gives_up or kind is not Kind.CAMPAIGN:
                its, missed = pairs(life, kind)
                there, unnoticed = there + its, unnoticed + missed
    noticed = {pair for pair in there if there[pair] > unnoticed[pair]}
    assert noticed >= NEEDED & set(there)
    assert set(there) - noticed <= set(FREE)
    assert set(there) >= NEEDED
