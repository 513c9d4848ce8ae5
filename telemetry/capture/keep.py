"""How much of a signal conditions need, and what that costs, known before anything is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_SAMPLES: Final = 1 << 17
"""The most that is kept of a path: 120 s of a signal that comes every millisecond."""

BYTES_A_SAMPLE: Final = 8 + 8 + 1
"""A stamp, a value, and whether it changed."""


@dataclass(frozen=True, slots=True)
class Keep:
    """What is kept of one path: its newest `samples` samples. Its value is believed for `stale_after_ns`; no window
    over it is longer than `window_ms`."""

    samples: int
    stale_after_ns: int
    window_ms: int = 0


def samples_for(window_ms: int, batch_ms: int, highest_hz: float, most: int = MAX_SAMPLES) -> int:
    """How many samples a path needs so that a window of `window_ms` is whole at every instant of a batch of `batch_ms`,
    when it comes no more often than `highest_hz`."""
    return min(int((window_ms + batch_ms) * highest_hz / 1000) + 2, most)


def sample_ring_bytes(samples: int) -> int:
    """The memory that one path takes, but for a few hundred bytes."""
    return 2 * samples * BYTES_A_SAMPLE
