"""How much of something each name may have: a token bucket each, over a bounded number of names. Pure in time."""

from __future__ import annotations

from collections import OrderedDict

from ecu.clock import SECOND_NS


class Quota:
    """`per_s` flows into each name's bucket up to `burst`. Of more than `names_kept` names the idlest is forgotten,
    which fills its bucket."""

    def __init__(self, per_s: float, burst: float, names_kept: int = 10_000) -> None:
        self._per_s = per_s
        self._burst = burst
        self._names_kept = names_kept
        self._levels: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait_s(self, name: str, amount: float, now_ns: int) -> float:
        """0.0 when `amount` (at most the burst) may be had now, else the seconds until it may."""
        missing = min(amount, self._burst) - self._level(name, now_ns)
        return max(0.0, missing / self._per_s)

    def charge(self, name: str, amount: float, now_ns: int) -> None:
        self._set(name, self._level(name, now_ns) - amount, now_ns)

    def take(self, name: str, amount: float, now_ns: int) -> float:
        """Charges it when it may be had; otherwise only says how long to wait."""
        level = self._level(name, now_ns)
        if (missing := min(amount, self._burst) - level) > 0.0:
            return missing / self._per_s
        self._set(name, level - amount, now_ns)
        return 0.0

    def _set(self, name: str, level: float, now_ns: int) -> None:
        self._levels[name] = level, now_ns
        self._levels.move_to_end(name)
        if len(self._levels) > self._names_kept:
            self._levels.popitem(last=False)

    def _level(self, name: str, now_ns: int) -> float:
        level, at_ns = self._levels.get(name, (self._burst, now_ns))
        return min(self._burst, level + (now_ns - at_ns) / SECOND_NS * self._per_s)
