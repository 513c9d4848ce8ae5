"""A log cut into steps, each what one sync or several made durable together, and the same log with two of them swapped.

What a program would have left had it done two steps the other way round: whoever needs their order must notice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from ecu.crashdisk.effects import Effect, Link, Mark, Move, Naming, Sync, label

Event = tuple[int, Effect | Sync | Mark]


@dataclass(frozen=True, slots=True)
class Step:
    """The events of the log from `begin` to before `end`: effects, and the syncs that ended them."""

    begin: int
    end: int
    effects: tuple[Effect, ...]

    @property
    def label(self) -> str:
        return ", ".join(label(effect) for effect in self.effects)

    @property
    def paths(self) -> list[str]:
        """Of the files and folders that it is about, in their order."""
        return list(dict.fromkeys(effect.path for effect in self.effects))


def steps(log: Sequence[Event]) -> list[Step]:
    """Marks and syncs of what was durable already belong to the step before them."""
    found: list[Step] = []
    begin, effects, is_synced = 0, list[Effect](), False
    for at, (_, event) in enumerate(log):
        if isinstance(event, Sync | Mark):
            is_synced = is_synced or isinstance(event, Sync)
            continue
        if is_synced and effects:
            found.append(Step(begin, at, tuple(effects)))
            begin, effects = at, []
        is_synced = False
        effects.append(event)
    return [*found, Step(begin, len(log), tuple(effects))] if effects else found


def merged(found: Sequence[Step], subject: Callable[[Step], object]) -> list[Step]:
    """Neighbours of one subject as one step each."""
    groups = (list(group) for _, group in groupby(found, key=subject))
    return [
        Step(group[0].begin, group[-1].end, tuple(effect for step in group for effect in step.effects))
        for group in groups
    ]


def swapped(log: Sequence[Event], first: Step, second: Step) -> list[Event]:
    """The log with `second`, the step right after `first`, before it. Marks stay where they are."""
    one = [event for event in log[first.begin : first.end] if not isinstance(event[1], Mark)]
    marks = [event for event in log[first.begin : first.end] if isinstance(event[1], Mark)]
    two = [event for event in log[second.begin : second.end] if not isinstance(event[1], Mark)]
    late = [event for event in log[second.begin : second.end] if isinstance(event[1], Mark)]
    return [*log[: first.begin], *two, *marks, *one, *late, *log[second.end :]]


def can_swap(first: Step, second: Step) -> bool:
    """Whether a program could have done it: nothing in `second` is of a file or a name that `first` made or changed."""
    made = {effect.child for effect in first.effects if isinstance(effect, Link)}
    filled = {effect.inode for effect in first.effects if not isinstance(effect, Naming)}
    names = {pair for effect in first.effects for pair in _names(effect)}
    return not any(
        effect.inode in made | filled
        or (isinstance(effect, Move | Link) and effect.child in made)
        or names & set(_names(effect))
        for effect in second.effects
    )


def _names(effect: Effect) -> list[tuple[int, str]]:
    """The entries that it touches: (folder, name)."""
    if isinstance(effect, Move):
        return [(effect.inode, effect.old), (effect.inode, effect.new)]
    return [(effect.inode, effect.name)] if isinstance(effect, Naming) else []
