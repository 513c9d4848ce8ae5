"""Other names for numbers that tie records together: frames, tracks, triggers.

An alias is a keyed hash (BLAKE2b, RFC 7693, 2.9) of the number. Its key is drawn at random, lives in memory only, and
is forgotten when its hours are over: from then on nobody can tell which alias belonged to which, this vehicle included.
Within its hours equal numbers have equal aliases, so that a picture still finds its track.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from ecu.clock import SECOND_NS

_KEY_BYTES: Final = 32
_ALIAS_BYTES: Final = 6  # every JSON reader holds 48 bits exactly
_KEYS_HELD: Final = 2  # what is told late belongs to the hours before
_NEVER_NS: Final = 1 << 62


def same_each_time(length: int) -> bytes:
    """In place of chance where nobody drives: in lockstep the same drive gives the same aliases (law 7)."""
    return bytes(length)


class Aliases:
    """`entropy` gives that many unpredictable bytes; `rotate_h` of 0: one key for this process."""

    def __init__(self, rotate_h: float, entropy: Callable[[int], bytes]) -> None:
        self._rotate_ns = int(rotate_h * 3600 * SECOND_NS) or _NEVER_NS
        self._entropy = entropy
        self._keys: dict[int, bytes] = {}

    def of(self, t_ns: int, what: str, number: int) -> int:
        """What `number` is called at boot time `t_ns`, among the numbers of `what`."""
        told = f"{what}\0{number}".encode()
        digest = hashlib.blake2b(told, digest_size=_ALIAS_BYTES, key=self._key(t_ns // self._rotate_ns))
        return int.from_bytes(digest.digest(), "big")

    def _key(self, hours: int) -> bytes:
        if hours not in self._keys:
            self._keys[hours] = self._entropy(_KEY_BYTES)
            for old in sorted(self._keys)[:-_KEYS_HELD]:
                if old != hours:
                    del self._keys[old]
        return self._keys[hours]
