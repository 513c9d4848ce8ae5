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
    """What is kept of one path: its newest `samples` samples. Its value is believed for `stale_after_ns`."""

    samples: int
    stale_after_ns: int


def sample_ring_bytes(samples: int) -> int:
    """The memory that one path takes, but for a few hundred bytes."""
    return 2 * samples * BYTES_A_SAMPLE
