"""What a power cut may leave: which of the effects that wait for a sync reach the medium, and which are torn.

The model is the port's promise taken at its worst, after ALICE (Pillai et al., OSDI 2014, section 3): until its sync,
every write and every change of a folder may be kept, lost, torn or overtaken by a later one. Names and bytes are
independent, so a durable name may lead to an empty file and a synced file may have no name. A rename is atomic.

After a failed sync nothing that was waiting for it is promised any more, whatever a later sync says, because Linux
marks such pages clean (fsyncgate); reads go on showing them, as ext4 does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from ecu.crashdisk.effects import Effect, Image, Link, Rot, Sync, Write

_SECTOR_BYTES = 512
_PAGE_BYTES = 4096
_ALL_BOUNDARIES = 8


class _Fate(Enum):
    FREE = auto()  # waits for a sync
    DOUBTFUL = auto()  # its sync failed: no later one covers it
    SETTLED = auto()  # durable, and listed only because something before it in the same inode isn't


@dataclass(slots=True, eq=False)
class _Waiting:
    effect: Effect
    fate: _Fate = _Fate.FREE


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of the open effects reached the medium: bit i of `kept` for the i-th; `torn` replaces effect `at`."""

    kept: int
    at: int = -1
    torn: Write | None = None


class Replay:
    """The medium while the log runs past it: what is durable, and what waits."""

    def __init__(self, start: Image) -> None:
        self._durable = start
        self._waiting: list[_Waiting] = []

    @property
    def open(self) -> list[_Waiting]:
        return [waiting for waiting in self._waiting if waiting.fate is not _Fate.SETTLED]

    def add(self, effect: Effect) -> None:
        if isinstance(effect, Link):
            self._durable.make(effect.child, effect.folder)
        rotten = isinstance(effect, Rot)
        self._waiting.append(_Waiting(effect, _Fate.SETTLED if rotten else _Fate.FREE))
        self._settle(effect.inode)

    def sync(self, sync: Sync) -> None:
        for waiting in self._waiting:
            if waiting.effect.inode == sync.inode and waiting.fate is _Fate.FREE:
                waiting.fate = _Fate.DOUBTFUL if sync.failed else _Fate.SETTLED
        self._settle(sync.inode)

    def _settle(self, inode: int) -> None:
        while waiting := next((w for w in self._waiting if w.effect.inode == inode), None):
            if waiting.fate is not _Fate.SETTLED:
                return
            self._durable.apply(waiting.effect)
            self._waiting.remove(waiting)

    def images(self, tail: int) -> Iterator[tuple[Choice, Image]]:
        for choice in _choices([waiting.effect for waiting in self.open], tail):
            yield choice, self._image(choice)

    def _image(self, choice: Choice) -> Image:
        image, i = self._durable.copy(), 0
        for waiting in self._waiting:
            if waiting.fate is _Fate.SETTLED:
                image.apply(waiting.effect)
                continue
            if choice.kept >> i & 1:
                image.apply(choice.torn if choice.torn and i == choice.at else waiting.effect)
            i += 1
        return image


def _choices(effects: list[Effect], tail: int) -> Iterator[Choice]:
    everything = (1 << len(effects)) - 1
    yield from (Choice(kept) for kept in dict.fromkeys(_subsets(len(effects), tail)))
    for i, effect in enumerate(effects):
        if isinstance(effect, Write):
            contexts = dict.fromkeys((everything, (2 << i) - 1, 1 << i))
            yield from (Choice(kept, i, torn) for torn in _tears(effect) for kept in contexts)


def _subsets(count: int, tail: int) -> Iterator[int]:
    everything = (1 << count) - 1
    yield everything
    yield 0
    for i in range(count):
        yield everything ^ 1 << i
        yield 1 << i
        yield (1 << i) - 1
    older = max(0, count - tail)
    for newest in range(1 << count - older):
        yield (1 << older) - 1 | newest << older


def _tears(write: Write) -> Iterator[Write]:
    for cut in _cuts(write.offset, len(write.data)):
        yield Write(write.inode, write.path, write.offset, write.data[:cut], write.end)
        yield Write(write.inode, write.path, write.offset + cut, write.data[cut:], write.end)
    kept = max(0, write.end - write.offset)
    if kept < len(write.data):
        hollow = write.data[:kept].ljust(len(write.data), b"\0")
        yield Write(write.inode, write.path, write.offset, hollow, write.end)


def _cuts(offset: int, length: int) -> list[int]:
    """Where a write of `length` bytes at `offset` may be torn: counts of bytes from its start."""
    cuts = {1, length // 2, length - 1}
    for step in (_SECTOR_BYTES, _PAGE_BYTES):
        boundaries = range(step - offset % step, length, step)
        cuts |= set(boundaries if len(boundaries) <= _ALL_BOUNDARIES else (boundaries[0], boundaries[-1]))
    return sorted(cut for cut in cuts if 0 < cut < length)
