"""The order of the steps that make a release's life durable: done the other way round, a cut between two breaks a law.

A pair that no law notices is listed here with the reason why its order doesn't matter; of a pair that is needed each
one is noticed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType
from typing import Final

import pytest

from ecu.crashdisk import CrashDisk, Step, is_swap_noticed, merged
from ecu.crashdisk.effects import Link, Write
from ota.kinds import Kind
from tests.crash.updates.laws import holds
from tests.crash.updates.lives import (
    changes,
    comes_as_deltas,
    diary_of,
    gives_up,
    is_mended,
    resumes,
    sees_other_keys,
)
from tests.crash.updates.vehicle import Life, Lived

Pair = tuple[str, str]

NEEDED: Final = frozenset(
    {
        ("boot", "floors"),  # a floor rises to what is kept
        ("denied", "boot"),  # a record says "rolled back" of what is denied
        ("manifest", "boot"),  # a slot is named when all of it is there
        ("boot", "manifest"),  # and emptied when it is named no more
        ("boot", "audit"), ("audit", "boot"), ("audit", "denied"),  # the audit tells what is so, all of it
        ("audit", "manifest"), ("audit", "files"),
    }
)  # fmt: skip
"""Orders that the laws hold the code to: each one that can be the other way round is noticed."""

FREE: Final = MappingProxyType(
    {
        ("files", "manifest"): "the record, which comes after the manifest, is what names a slot",
        ("manifest", "files"): "the record, which comes before both, is what names a slot",
        ("manifest", "floors"): "the floors' first record, which says nothing",
        ("floors", "boot"): "the floors' first record, which says nothing",
        ("floors", "audit"): "the record says it already, and a start raises the floor to it",
        ("files", "note"): "that a delta wasn't right is told, whatever becomes of the release",
        ("note", "manifest"): "that a delta wasn't right is told, whatever becomes of the release",
        ("folder", "seen"): "folders that nothing lies in yet",
        ("seen", "cache"): "the cache is believed as little as what a source says, and verified anew",
        ("cache", "files"): "the cache is believed as little as what a source says, and verified anew",
        ("cache", "boot"): "the cache is believed as little as what a source says, and verified anew",
    }
)
"""Orders that no law needs."""

SILENT: Final = MappingProxyType(
    {
        "again": "what a start finds and writes once more, as it is",
        "folder": "a folder that nothing lies in yet",
        "room": "room for a denial, which says nothing",
    }
)
"""Steps that may come before and after anything."""

ALIKE: Final = MappingProxyType(
    {
        "files": "nothing names a slot before all of its files are there, nor while they go",
        "twins": "each twin is whole or the other one is, whichever comes first; what was begun is promised after both",
    }
)
"""Why the order of two steps of one subject is free."""


SPARED: Final = MappingProxyType({(is_mended, ("boot", "manifest")): 1})
"""How often a pair that is needed goes unnoticed in a life: what flash damaged isn't whole either way."""


class Subjects:
    """Of each step in its turn. What says nothing yet (folders, room for a denial) goes with the
    step before it; what a start writes once more, as it is, is "again"."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._own: dict[int, str] = {}
        self._last = "folder"
        self._written: dict[int, Write] = {}

    def __call__(self, step: Step) -> str:
        its = self._own[step.begin] = "again" if self._is_there(step) else subject(step)
        if its not in SILENT:
            self._last = its
        return self._names.setdefault(step.begin, its if its == "again" else self._last)

    def of(self, step: Step) -> str:
        """Of several that were made one step."""
        return self._names[step.begin]

    def own(self, step: Step) -> str:
        """Of one of them alone."""
        return self._own[step.begin]

    def _is_there(self, step: Step) -> bool:
        writes = [effect for effect in step.effects if isinstance(effect, Write)]
        before = [self._written.get(write.inode) for write in writes]
        self._written |= {write.inode: write for write in writes}
        return len(writes) == len(step.effects) and all(
            was is not None and (was.offset, was.data) == (now.offset, now.data)
            for was, now in zip(before, writes, strict=True)
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
        return {"floors.release": "floors", "floors.metadata": "seen"}.get(match[1], "boot")
    if path.startswith("audit"):
        is_note = any(b"delta_unfit" in effect.data for effect in effects if isinstance(effect, Write))
        return "note" if is_note else "audit"
    if path.startswith("metadata.cache"):
        return "cache"
    return "manifest" if "bundle.json" in path else "files"


def alike(first: Step, second: Step, name: str) -> str:
    """What two steps of one subject are of `ALIKE`; "" where they are nothing of it."""
    twins = {path.removesuffix(".tmp") for step in (first, second) for path in step.paths}
    if name in ("boot", "floors", "seen"):
        return "twins" if len(twins) == 2 and len({path[:-1] for path in twins}) == 1 else ""
    return name if name in ALIKE else ""


@dataclass(frozen=True)
class Order:
    """Two neighbours of a life that can be swapped, and whether a law notices."""

    pair: Pair
    first: Step
    second: Step
    is_noticed: bool

    def __str__(self) -> str:
        return f"{self.pair}: {self.first.label} -> {self.second.label}"


def orders(life: Lived, kind: Kind) -> Iterator[Order]:
    """Neighbours of different subjects, all that is of each as one step; and of one subject, step by step."""
    diary, disk, names = diary_of(life, kind), CrashDisk(), Subjects()
    life(Life(disk, diary))
    whole = list(pairwise(merged(disk.steps, names)))
    single = [(a, b) for a, b in pairwise(disk.steps) if names.of(a) == names.of(b)]
    for pairs, name in ((whole, names.of), (single, names.own)):
        for first, second in pairs:
            is_noticed = is_swap_noticed(lambda state: holds(diary, state), disk, first, second)
            if is_noticed is not None:
                yield Order((name(first), name(second)), first, second, is_noticed)


def is_free(order: Order) -> bool:
    one, other = order.pair
    if one == other and one not in SILENT:
        return bool(alike(order.first, order.second, one))
    return order.pair in FREE or not {one, other}.isdisjoint(SILENT)


def demand_needed_or_free(life: Lived, found: Sequence[Order]) -> None:
    """Each order of a pair that is needed is noticed, and each that isn't noticed is free for a reason that is written
    down."""
    unnoticed = [order for order in found if not order.is_noticed]
    assert [str(order) for order in unnoticed if order.pair not in NEEDED and not is_free(order)] == []
    missed = Counter(order.pair for order in unnoticed if order.pair in NEEDED)
    assert missed == {pair: count for (its, pair), count in SPARED.items() if its is life}, list(map(str, unnoticed))


def test_the_order_of_a_change_is_needed_or_free_for_a_reason() -> None:
    found = list(orders(changes, Kind.CAMPAIGN))
    demand_needed_or_free(changes, found)
    assert Counter(its.pair for its in found)["boot", "floors"] > 1
    # The planted faults: one needed order that goes unnoticed, and one of twins where nothing says why it may.
    for number, order in enumerate(found):
        if order.pair in NEEDED:
            with pytest.raises(AssertionError):
                demand_needed_or_free(changes, [*found[:number], replace(order, is_noticed=False)])
    twins = next(order for order in found if order.pair == ("boot", "boot"))
    with pytest.raises(AssertionError):
        demand_needed_or_free(changes, [replace(twins, second=twins.first)])


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_every_order_that_a_law_needs_is_noticed_and_every_other_one_is_free_for_a_reason() -> None:
    lives = (changes, resumes, gives_up, is_mended, comes_as_deltas, sees_other_keys)
    there = set[Pair]()
    for life in lives:
        for kind in (Kind.MODEL, Kind.CONFIG, Kind.RUNTIME, Kind.CAMPAIGN):
            if life is not gives_up or kind is not Kind.CAMPAIGN:
                found = list(orders(life, kind))
                demand_needed_or_free(life, found)
                there |= {its.pair for its in found}
    assert there >= NEEDED
    assert there >= set(FREE)
