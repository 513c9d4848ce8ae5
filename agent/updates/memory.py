"""Whether a candidate's worker takes too much memory: held against the live one's, and against what it promised."""

from __future__ import annotations

from typing import Final

from agent.updates.judge import Opinion
from ota.machine import Event

_MIB: Final = 1 << 20
SLACK_BYTES: Final = 16 * _MIB
"""What two workers of one model may differ by."""


def judge_memory(live: int | None, candidate: int | None, ratio: float, at_most: int | None) -> Opinion:
    """Both at their peak, bytes; None where nobody can tell. `at_most` is the release's own word, if it gave one."""
    if live is None or candidate is None:
        return Opinion(Event.UNDECIDED, "how much memory its worker takes can't be told")
    allowed = int(ratio * live) + SLACK_BYTES
    words = f"{candidate / _MIB:.0f} MiB of memory, the live one {live / _MIB:.0f} MiB"
    if candidate > allowed:
        return Opinion(Event.FAILED, f"{words}: too much, {allowed / _MIB:.0f} MiB are allowed")
    if at_most is not None and candidate > at_most:
        return Opinion(Event.FAILED, f"{words}: its release promised {at_most / _MIB:.0f} MiB")
    return Opinion(Event.PASSED, words)
