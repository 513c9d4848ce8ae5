"""What of a GNSS receiver's time may be believed, when nobody's signed time can be had: a decision, no acts.

Anybody can send what a receiver takes for satellites, and its weeks are counted in 10 bits (IS-GPS-200, 20.3.3.3.1.1):
it may be two decades off. So no more is taken from it than what the vehicle's own certificate allows.
"""

from __future__ import annotations

from typing import Final

from agent.signals.messages import TimeHeard
from ecu.clock import SECOND_NS

OLDEST_NS: Final = 60 * SECOND_NS


def at(heard: TimeHeard, now_ns: int) -> int:
    """The wall time at boot time `now_ns`, if it is right."""
    return heard.wall_ns + now_ns - heard.t_ns


def why_not(heard: TimeHeard | None, now_ns: int, validity_ns: tuple[int, int] | None) -> str:
    """Why it isn't used at boot time `now_ns`, empty when it may be. `validity_ns` is when the vehicle's own
    certificate begins, which its authority signed, and when it ends: a clock beyond it would let nobody in."""
    if heard is None:
        return "No GNSS receiver has told the time."
    if not 0 <= now_ns - heard.t_ns <= OLDEST_NS:
        return "The GNSS receiver's time was told too long ago."
    if validity_ns is None or at(heard, now_ns) < validity_ns[0]:
        return "The GNSS receiver's time lies before what was signed for this vehicle."
    if at(heard, now_ns) > validity_ns[1]:
        return "The GNSS receiver's time lies beyond the end of this vehicle's certificate."
    return ""
