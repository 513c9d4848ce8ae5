"""Lives of a vehicle: what happens to releases between two visits to the workshop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from types import MappingProxyType

from ota.kinds import Kind
from ota.machine import ATTEMPTS, Event, Way
from tests.crash.updates.releases import TWO_BLOCKS_BYTES, UNSIGNED, WORTH_A_DELTA_BYTES, Supply, Unsigned
from tests.crash.updates.signed import signed
from tests.crash.updates.vehicle import KEPT, LEFT, WORSE, Diary, Life, Lived


def changes(life: Life) -> None:
    """1 is kept, 2 is denied, 3 is kept over 1 and forbids what is older, 4 is left without an answer."""
    life.try_and(1, KEPT[life.way])
    life.start()
    if life.way is not Way.AT_ONCE:
        life.try_and(2, WORSE[life.way])
    life.try_and(3, KEPT[life.way])
    life.start()
    if life.way is not Way.AT_ONCE:
        life.try_and(4, LEFT[life.way])


def resumes(life: Life) -> None:
    """A download is cut twice, with a start in between, and then comes whole into a slot that held another release."""
    for release in (1, 3):
        life.try_and(release, KEPT[life.way])
    life.install_until(5, 300)
    life.start()
    life.install_until(5, 400)
    life.try_and(5, KEPT[life.way])


def gives_up(life: Life) -> None:
    """A trial begins again and again, and is left after its attempts."""
    life.try_and(1, KEPT[life.way])
    life.install(2)
    if life.way is Way.STARTED:
        life.handle(Event.ALLOWED)
        for _ in range(ATTEMPTS):
            life.launch("")
    else:
        for _ in range(ATTEMPTS):
            life.restart()


def is_mended(life: Life) -> None:
    """Flash forgets a bit of what is good: what was good before boots, and the same release comes again."""
    for release in (1, 2):
        life.try_and(release, KEPT[life.way])
    life.lose_a_bit(to=1)
    life.try_and(2, KEPT[life.way])


def comes_as_deltas(life: Life) -> None:
    """3 is made from 1; the delta to 5 is cut before its last byte, and comes again; that to 7 is spoiled."""
    for release in (1, 3):
        life.try_and(release, KEPT[life.way])
    life.install_until(5, life.came[-1].delta_bytes - 1)
    life.start()
    life.try_and(5, KEPT[life.way])
    life.try_and(7, KEPT[life.way])


def comes_as_longer_deltas(life: Life) -> None:
    """As `comes_as_deltas`, of models of two blocks: the delta that was cut goes on at the second."""
    comes_as_deltas(life)


def sees_other_keys(life: Life) -> None:
    """1 is kept and 2 is cut under the first keys, 3 is kept under the next ones; then the first ones are refused."""
    life.try_and(1, KEPT[life.way])
    life.install_until(2, 600)
    life.start()
    life.try_and(3, KEPT[life.way])
    life.refuse(2)
    if life.way is not Way.AT_ONCE:
        life.try_and(4, WORSE[life.way])


SUPPLIES: Mapping[Lived, Callable[[Kind], Supply]] = MappingProxyType(
    {
        comes_as_deltas: lambda kind: Unsigned(WORTH_A_DELTA_BYTES, spoiled=frozenset({7})),
        comes_as_longer_deltas: lambda kind: Unsigned(TWO_BLOCKS_BYTES, spoiled=frozenset({7})),
        sees_other_keys: signed,
    }
)
"""Of lives for which releases without signatures and deltas won't do."""


def diary_of(life: Lived, kind: Kind) -> Diary:
    return Diary(kind, SUPPLIES[life](kind) if life in SUPPLIES else UNSIGNED)


def anything(life: Life, rng: Random, steps: int = 8) -> None:
    """What chance brings: releases that are kept, denied or left, cut downloads, starts, bits of flash that flip."""
    release, once_good = 0, 0
    for _ in range(steps):
        release += 1
        what = rng.choice(["keep", "keep", "worse", "left", "cut", "again", "mend"])
        if what == "mend" and once_good:
            life.lose_a_bit(to=once_good)
        elif what in ("worse", "left") and life.way is not Way.AT_ONCE:
            life.try_and(release, WORSE[life.way] if what == "worse" else LEFT[life.way])
        elif what == "again" and life.way is not Way.AT_ONCE:
            _begins_again(life, rng, release)
        else:
            if what == "cut":
                life.install_until(release, rng.choice([1, 300, 700]))
            good = life.promised.good
            life.try_and(release, KEPT[life.way])
            once_good = good
            continue
        # What was good before lay in the slot that this took.
        once_good = 0
        if rng.random() < 0.3:
            life.start()


def _begins_again(life: Life, rng: Random, release: int) -> None:
    life.install(release)
    if life.way is Way.STARTED:
        life.handle(Event.ALLOWED)
        life.launch(*rng.choice([("",), ("", "watchdog", ""), ("", "", "exit 1")]))
        if life.promised.tried:
            life.handle(Event.EXPIRED)
            life.start()
        return
    for _ in range(rng.randrange(1, ATTEMPTS + 1)):
        life.restart()
    if life.promised.tried:
        life.handle(Event.CANCELLED)
