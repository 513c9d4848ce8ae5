"""What a signal source and its reader say over an ecu.channel.Channel.

The source greets with SourceHello; the reader answers Begin. In real time the source then sends Signals as they come;
in lockstep it waits for Advance(t), sends every Signals up to and including t, and answers Done(t). A bus says the same
with FrameBatch in the place of Signals.
"""

from __future__ import annotations

from typing import Annotated, Union

from msgspec import Meta

from ecu.channel import Advance, Done, Message

MOST_NS = 1 << 62
"""No clock is so far from any other, and what is added to one still fits 64 bits."""
Stamp = Annotated[int, Meta(ge=-MOST_NS, le=MOST_NS)]


class SourceHello(Message, frozen=True, tag="source_hello"):
    """`now_ns` is the source's boot time as it says this; a sample comes about every `period_ns`."""

    now_ns: Stamp
    period_ns: int


class Begin(Message, frozen=True, tag="begin"):
    """Nothing that was true before `from_ns` is wanted. Not real time means lockstep."""

    realtime: bool
    from_ns: int


class Signals(Message, frozen=True, tag="signals"):
    """Values by VSS path, true at boot time `t_ns`. `seq` counts the source's samples: a gap means that it left some
    out."""

    seq: int
    t_ns: Stamp
    values: dict[str, float]


class FrameBatch(Message, frozen=True, tag="frames"):
    """Raw CAN frames in order of time, at most MAX_FRAMES_A_MESSAGE. `seq` is the first one's number: they are counted,
    and a gap means that the source left some out. One after another, in this computer's byte order: `t_ns` boot times
    of 8 bytes, `bus` numbers of 1 byte, `frames` struct can_frame, or struct canfd_frame where `fd`."""

    seq: int
    fd: bool
    t_ns: bytes
    bus: bytes
    frames: bytes


MAX_FRAMES_A_MESSAGE = 1024

FromBus = Union[SourceHello, FrameBatch, Done]  # noqa: UP007
FromSource = Union[SourceHello, Signals, Done]  # noqa: UP007
ToSource = Union[Begin, Advance]  # noqa: UP007
