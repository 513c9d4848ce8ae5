"""What the spool confirmed as durable, told to a witness beside the agent.

An independent process that heard of each durable record can say afterwards whether any was lost: the agent's own word
isn't evidence about the agent. Telling never blocks the agent and never fails it; what couldn't be told is counted.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from ecu.channel import Channel, ChannelClosed, Message

MAX_BATCH: Final = 512
"""Confirmations in one message: about 35 kB, well below a channel's longest message and a socket's send buffer."""


class Confirmation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The record `seq` of one lane's epoch is durable on this vehicle; `digest` names its bytes."""

    lane: int
    epoch: bytes
    seq: int
    digest: bytes


class Confirmations(Message, frozen=True, tag="confirmations"):
    """At most MAX_BATCH records that became durable together."""

    items: list[Confirmation]


class ConfirmationSocket:
    """Tells a witness that listens on a Unix SOCK_SEQPACKET socket, now or later; connects again whenever it must.

    Holds at most `capacity` confirmations while nobody reads; further ones are counted in `untold` and forgotten.
    `told` counts those handed to the kernel. Use it from one thread.
    """

    def __init__(self, path: Path, capacity: int = 65_536) -> None:
        self.told = 0
        self.untold = 0
        self._path = path
        self._capacity = capacity
        self._waiting: deque[Confirmation] = deque()
        self._channel: Channel[Confirmations] | None = None

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def tell(self, items: Iterable[Confirmation]) -> None:
        """Call after the records are durable, never before. Never blocks, never raises."""
        for item in items:
            if len(self._waiting) < self._capacity:
                self._waiting.append(item)
            else:
                self.untold += 1
        self.flush()

    def flush(self) -> None:
        """Tries again to tell what still waits. Never blocks, never raises."""
        with contextlib.suppress(BlockingIOError):
            while self._waiting and self._tell_one_batch():
                pass

    def close(self) -> None:
        """Tells what it can; what still waits then counts as untold."""
        self.flush()
        self._disconnect()
        self.untold += len(self._waiting)
        self._waiting.clear()

    def _tell_one_batch(self) -> bool:
        """False when nobody listens (any more). Raises BlockingIOError when the witness is behind."""
        channel = self._channel or self._connect()
        if channel is None:
            return False
        batch = list(islice(self._waiting, MAX_BATCH))
        try:
            channel.send(Confirmations(batch))
        except ChannelClosed:
            # Connecting again waits for the next call: a witness that hangs up on us mustn't keep us here.
            self._disconnect()
            return False
        for _ in batch:
            self._waiting.popleft()
        self.told += len(batch)
        return True

    def _connect(self) -> Channel[Confirmations] | None:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        end.setblocking(False)
        try:
            end.connect(str(self._path))
        except OSError:  # no witness (yet), or its backlog is full: the next tell tries again
            end.close()
            return None
        self._channel = Channel(end, Confirmations)
        return self._channel

    def _disconnect(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
