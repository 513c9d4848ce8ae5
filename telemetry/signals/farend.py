"""The process at the other end of a Unix SOCK_SEQPACKET socket that tells what it knows: how it is dialled, greeted,
listened to and granted time (telemetry/signals/messages.py)."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Callable
from typing import Any, Generic, TypeVar

from ecu.channel import Advance, BadMessage, ChannelClosed, Done, Message
from ecu.errors import EnvironmentFault, UsageFault
from telemetry.records import TelemetryError
from telemetry.signals.conversation import Conversation
from telemetry.signals.messages import Begin, SourceHello

Dial = Callable[[], socket.socket]
"""Returns a connected socket; raises SourceLost when nobody answers. Never waits."""

In = TypeVar("In")


class SourceLost(TelemetryError, EnvironmentFault):
    """The source is gone, was never there, or speaks nonsense. In real time: connect again."""


def unix_dial(url: str) -> Dial:
    """Dials `unix:PATH`. Raises UsageFault for any other URL."""
    scheme, _, path = url.partition(":")
    if scheme != "unix" or not path:
        raise UsageFault(f"{url!r} is no signal source: write unix:PATH, the socket that the source listens on.")

    def dial() -> socket.socket:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        end.setblocking(False)
        try:
            end.connect(path)
        except OSError as error:
            end.close()
            raise SourceLost(f"No signal source answers at {url} ({error.strerror}): start it there.") from error
        return end

    return dial


class FarEnd(Generic[In]):
    """One conversation at a time. `what` names it in words, e.g. "The bus". All methods raise SourceLost."""

    def __init__(self, dial: Dial, accepts: Any, what: str) -> None:
        self._dial = dial
        self._accepts = accepts
        self._what = what
        self._conversation: Conversation[In] | None = None

    async def open(self, begin: Begin) -> SourceHello:
        """Dials, and begins once it has greeted. Who was spoken to before is hung up on."""
        self.close()
        self._conversation = Conversation(self._dial(), self._accepts)
        hello = await self.receive()
        if not isinstance(hello, SourceHello):
            raise SourceLost(f"{self._what} didn't greet, it said {_shown(hello)}: check that its version is ours.")
        await self.send(begin)
        return hello

    async def granted(self, t_ns: int) -> AsyncGenerator[In, None]:
        """Grants lockstep time up to `t_ns`; yields all that it says until that is done."""
        await self.send(Advance(t_ns))
        while not isinstance(message := await self.receive(), Done):
            yield message
        if message.t_ns != t_ns:
            raise self.broke_lockstep(f"it answered {message.t_ns} ns to {t_ns} ns")

    async def receive(self) -> In:
        try:
            return await self._conversing().receive()
        except (ChannelClosed, BadMessage) as error:
            raise self._lost(error) from error

    def try_receive(self) -> In | None:
        """None when nothing has come."""
        try:
            return self._conversing().try_receive()
        except (ChannelClosed, BadMessage) as error:
            raise self._lost(error) from error

    async def send(self, message: Message) -> None:
        try:
            await self._conversing().send(message)
        except ChannelClosed as error:
            raise self._lost(error) from error

    def close(self) -> None:
        if self._conversation is not None:
            self._conversation.close()
            self._conversation = None

    def out_of_turn(self, message: object) -> SourceLost:
        return SourceLost(f"{self._what} said {_shown(message)} out of turn: check that its version is ours.")

    def broke_lockstep(self, how: str) -> SourceLost:
        return SourceLost(f"{self._what} broke lockstep: {how}.")

    def _lost(self, error: ChannelClosed | BadMessage) -> SourceLost:
        if isinstance(error, BadMessage):
            return SourceLost(f"{self._what} said what this version doesn't know: {error}.")
        return SourceLost(f"{self._what} hung up.")

    def _conversing(self) -> Conversation[In]:
        if self._conversation is None:
            raise SourceLost(f"{self._what} isn't connected: begin first.")
        return self._conversation


def _shown(message: object) -> str:
    """What it is; never what it holds, which may be the vehicle's place."""
    return type(message).__name__
