"""What a signal source and its reader say over an ecu.channel.Channel.

The source greets with SourceHello; the reader answers Begin. In real time the source then sends Signals as they come;
in lockstep it waits for Advance(t), sends every Signals up to and including t, and answers Done(t).
"""

from __future__ import annotations

from typing import Union

from ecu.channel import Advance, Done, Message


class SourceHello(Message, frozen=True, tag="source_hello"):
    """`now_ns` is the source's boot time as it says this; a sample comes about every `period_ns`."""

    now_ns: int
    period_ns: int


class Begin(Message, frozen=True, tag="begin"):
    """Nothing that was true before `from_ns` is wanted. Not real time means lockstep."""

    realtime: bool
    from_ns: int


class Signals(Message, frozen=True, tag="signals"):
    """Values by VSS path, true at boot time `t_ns`. `seq` counts the source's samples: a gap means that it left some
    out."""

    seq: int
    t_ns: int
    values: dict[str, float]


FromSource = Union[SourceHello, Signals, Done]  # noqa: UP007
ToSource = Union[Begin, Advance]  # noqa: UP007
