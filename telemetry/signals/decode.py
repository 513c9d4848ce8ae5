"""Raw values out of raw frames, a batch at a time, as a signal plan says.

Data is looked at as words of 64 bits, read in both byte orders. A signal is shifted to the top of its word, which drops
what is above it, and then down again, which drops what is below and keeps the sign: the same few operations for all
signals of a message and all its frames.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetry.signals.frames import CLASSIC_BYTES, FD_BYTES, Frames, key_of, keys
from telemetry.signals.plan import Branch, Cut, SignalPlan
from telemetry.signals.schema import Columns, Form, Values

_WORD_BITS: Final = 64
_WORD_BYTES: Final = 8
_FLOATS: Final[dict[int, tuple[Any, Any]]] = {
    16: (np.uint16, np.float16),
    32: (np.uint32, np.float32),
    64: (np.uint64, np.float64),
}

Words = NDArray[np.uint64]
"""(2 w, n): the w words of each frame read little-endian, then the same words read big-endian."""


class _Straddle(NamedTuple):
    """A number that ends in a second word: ((first >> a) << b) | ((second >> c) << d) has it at the top."""

    row: int
    first: int
    second: int
    a: int
    b: int
    c: int
    d: int


class _Cutter:
    """Takes the cuts of one group, those with a sign first, out of frames of `width` bytes."""

    def __init__(self, cuts: Sequence[Cut], width: int) -> None:
        order = sorted(range(len(cuts)), key=lambda i: not cuts[i].signed)
        placed = [cuts[i] for i in order]
        half = width // _WORD_BYTES
        index = [cut.start // _WORD_BITS + half * cut.big_endian for cut in placed]
        self._index: int | NDArray[np.intp] = index[0] if len(set(index)) == 1 else np.array(index, np.intp)
        self._left = np.array([[_left(cut)] for cut in placed], np.uint64)
        right = np.array([[_WORD_BITS - cut.bits] for cut in placed], np.uint64)
        self._straddles = [_straddle(row, cut, half) for row, cut in enumerate(placed) if _needs_two_words(cut)]
        self._signed = signed = sum(cut.signed for cut in cuts)
        self._right_signed, self._right = right[:signed].view(np.int64), right[signed:]
        self._rows = [order.index(i) for i in range(len(cuts))]
        self._formed = [(i, cut) for i, cut in enumerate(cuts) if cut.form is not Form.INT]

    def values(self, words: Words) -> tuple[Values, ...]:
        """One array (n,) for each cut."""
        top = words[self._index] << self._left
        for row, first, second, a, b, c, d in self._straddles:
            top[row] = (words[first] >> np.uint64(a) << np.uint64(b)) | (words[second] >> np.uint64(c) << np.uint64(d))
        raw = top.view(np.int64)
        if self._signed:
            raw[: self._signed] >>= self._right_signed
        if len(self._right):
            top[self._signed :] >>= self._right
        rows = list(raw)
        values: list[Values] = [rows[row] for row in self._rows]
        for i, cut in self._formed:
            values[i] = _formed(cut, rows[self._rows[i]])
        return tuple(values)


def _left(cut: Cut) -> int:
    at = cut.start % _WORD_BITS
    return at if cut.big_endian else max(0, _WORD_BITS - at - cut.bits)


def _needs_two_words(cut: Cut) -> bool:
    return cut.start % _WORD_BITS + cut.bits > _WORD_BITS


def _straddle(row: int, cut: Cut, half: int) -> _Straddle:
    at = cut.start % _WORD_BITS
    first = cut.start // _WORD_BITS + half * cut.big_endian
    if cut.big_endian:
        return _Straddle(row, first, first + 1, 0, at, _WORD_BITS - at, 0)
    over = at + cut.bits - _WORD_BITS
    return _Straddle(row, first, first + 1, at, _WORD_BITS - cut.bits, 0, _WORD_BITS - over)


def _formed(cut: Cut, raw: NDArray[np.int64]) -> Values:
    if cut.form is Form.UINT:
        return raw.view(np.uint64)
    bits, real = _FLOATS[cut.bits]
    with np.errstate(invalid="ignore"):  # a signalling NaN is no less a NaN
        return np.asarray(raw.astype(bits).view(real), np.float64)


@dataclass(frozen=True, slots=True)
class _Part:
    """One group: `branches` are what its selectors have to say, `needs` the bytes it takes."""

    group: int
    needs: int
    branches: tuple[tuple[Branch, _Cutter], ...]
    cutter: _Cutter


class Decoder:
    """Decodes the groups named (all of the plan's without names). Groups keep their numbers in the plan's schema.

    `short[group]` counts rows left out because their frames had fewer bytes than the group takes; `others` counts
    frames that no group named is cut from.
    """

    def __init__(self, plan: SignalPlan, groups: Collection[int] | None = None) -> None:
        self.short: Counter[int] = Counter()
        self.others = 0
        chosen = range(len(plan.sources)) if groups is None else sorted(groups)
        by_key: dict[int, list[int]] = {}
        for group in chosen:
            source = plan.sources[group]
            by_key.setdefault(key_of(source.bus, source.can_id), []).append(group)
        self._keys = np.array(sorted(by_key), np.int64)
        self._needs = np.array(
            [max(plan.sources[group].needs_bytes for group in by_key[key]) for key in sorted(by_key)] + [0], np.uint8
        )
        self._parts = {
            width: [[_part(plan, group, width) for group in by_key[key]] for key in sorted(by_key)]
            for width in (CLASSIC_BYTES, FD_BYTES)
        }

    def decode(self, frames: Frames) -> list[Columns]:
        """The groups that came, by number; a group's rows are in order of time."""
        numbers = self._numbers(frames)
        order = np.argsort(numbers, kind="stable")
        numbers = numbers[order]
        known = int(np.searchsorted(numbers, len(self._keys)))
        self.others += len(numbers) - known
        if not known:
            return []
        order, numbers = order[:known], numbers[:known]
        t_ns, length, words = frames.t_ns[order], frames.length[order], _words(frames.data[order])
        is_short = length < self._needs[numbers]
        some_short = bool(is_short.any())
        cuts = [0, *(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist(), known]
        parts = self._parts[frames.width]
        columns: list[Columns] = []
        for begin, end in itertools.pairwise(cuts):
            lengths = length[begin:end] if some_short and is_short[begin:end].any() else None
            for part in parts[numbers[begin]]:
                self._take(part, t_ns[begin:end], words[:, begin:end], lengths, columns)
        columns.sort(key=_group_of)
        return columns

    def _numbers(self, frames: Frames) -> NDArray[np.uint16]:
        """(n,): the number of each frame's message among those known, one beyond the last for all others."""
        wanted = keys(frames)
        if not len(self._keys):
            return np.zeros(len(wanted), np.uint16)
        numbers = np.searchsorted(self._keys, wanted)
        np.minimum(numbers, len(self._keys) - 1, out=numbers)
        numbers[self._keys[numbers] != wanted] = len(self._keys)
        return numbers.astype(np.uint16)

    def _take(
        self,
        part: _Part,
        t_ns: NDArray[np.int64],
        words: Words,
        lengths: NDArray[np.uint8] | None,
        columns: list[Columns],
    ) -> None:
        if lengths is not None:
            enough = lengths >= part.needs
            self.short[part.group] += len(enough) - int(np.count_nonzero(enough))
            t_ns, words = t_ns[enough], words[:, enough]
        for branch, selector in part.branches:
            if not len(t_ns):
                return
            met = _meets(selector.values(words)[0], branch.ranges)
            t_ns, words = t_ns[met], words[:, met]
        if len(t_ns):
            columns.append(Columns(part.group, t_ns, part.cutter.values(words)))


def _part(plan: SignalPlan, group: int, width: int) -> _Part:
    source = plan.sources[group]
    if source.needs_bytes > width:  # no frame of that width is ever long enough
        return _Part(group, source.needs_bytes, (), _Cutter((), width))
    selectors = tuple((branch, _Cutter((branch.selector,), width)) for branch in source.branches)
    return _Part(group, source.needs_bytes, selectors, _Cutter(source.cuts, width))


def _meets(selected: Values, ranges: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    met = np.zeros(len(selected), np.bool_)
    for low, high in ranges:
        met |= selected == low if low == high else (selected >= low) & (selected <= high)
    return met


def _words(data: NDArray[np.uint8]) -> Words:
    little = data.view("<u8").T.astype(np.uint64, copy=False)
    return np.concatenate([little, little.byteswap()])


def _group_of(columns: Columns) -> int:
    return columns.group
