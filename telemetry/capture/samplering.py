"""The last samples of one signal, in arrays that are searched as they lie."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

NEVER_NS: Final = -(1 << 63)
"""Before any stamp that there is."""


class SampleRing:
    """Holds the newest `samples` samples, at least one; a value is believed for `stale_after_ns`. `forgotten_ns` is the
    stamp of the newest sample that it had to forget, `first` the number of the oldest that it holds: they are numbered
    from 0 as they are taken.

    The arrays are twice as long as what is held, so that what is held is always one piece of them: only when the end
    is reached is it moved to the front.
    """

    def __init__(self, samples: int, stale_after_ns: int) -> None:
        if samples < 1:
            raise ValueError(f"a ring holds at least one sample, and not {samples}")
        self.stale_after_ns = stale_after_ns
        self.first = 0
        self.last_ns = NEVER_NS
        self.last = np.nan
        self.forgotten_ns = NEVER_NS
        self.dropped = 0
        self._samples = samples
        self._begin = 0
        self._end = 0
        self._known = np.nan
        self._t_ns = np.zeros(2 * samples, np.int64)
        self._values = np.zeros(2 * samples, np.float64)
        self._changed = np.zeros(2 * samples, np.bool_)

    def __len__(self) -> int:
        return self._end - self._begin

    @property
    def t_ns(self) -> NDArray[np.int64]:
        """Rising."""
        return self._t_ns[self._begin : self._end]

    @property
    def values(self) -> NDArray[np.float64]:
        """NaN where the vehicle said that it doesn't know."""
        return self._values[self._begin : self._end]

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Whether a sample's value is another than the one before it that had a value; the first one's isn't."""
        return self._changed[self._begin : self._end]

    def put(self, t_ns: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.int64]:
        """The stamps of those taken. What isn't later than a sample before it is dropped, and counted."""
        before = np.concatenate(([self.last_ns], t_ns[:-1]))
        later = t_ns > np.maximum.accumulate(before)
        if not later.all():
            self.dropped += len(t_ns) - int(np.count_nonzero(later))
            t_ns, values = t_ns[later], values[later]
        if len(t_ns):
            values = np.where(np.isfinite(values), values, np.nan)
            self._append(t_ns, values, self._changes(values))
        return t_ns

    def _changes(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        changes = np.zeros(len(values), np.bool_)
        told = np.flatnonzero(values == values)
        if len(told):
            known = values[told]
            before = np.concatenate(([self._known], known[:-1]))
            changes[told] = (known < before) | (known > before)
            self._known = known[-1]
        return changes

    def _append(self, t_ns: NDArray[np.int64], values: NDArray[np.float64], changes: NDArray[np.bool_]) -> None:
        self._forget(len(self) + len(t_ns) - self._samples, t_ns)
        kept = slice(-self._samples, None)
        t_ns, values, changes = t_ns[kept], values[kept], changes[kept]
        self._make_room(len(t_ns))
        place = slice(self._end, self._end + len(t_ns))
        self._t_ns[place], self._values[place], self._changed[place] = t_ns, values, changes
        self._end = place.stop
        self.last_ns, self.last = int(t_ns[-1]), float(values[-1])

    def _forget(self, too_many: int, coming_ns: NDArray[np.int64]) -> None:
        """Makes room for what comes; what comes first may itself be too much."""
        if too_many <= 0:
            return
        held = len(self)
        newest = self.t_ns[too_many - 1] if too_many <= held else coming_ns[too_many - held - 1]
        self.forgotten_ns = int(newest)
        self.first += too_many
        self._begin += min(too_many, held)

    def _make_room(self, coming: int) -> None:
        if self._end + coming <= len(self._t_ns):
            return
        held = slice(self._begin, self._end)
        for array in (self._t_ns, self._values, self._changed):
            array[: len(self)] = array[held].copy()
        self._begin, self._end = 0, len(self)
