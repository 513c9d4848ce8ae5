"""A Channel that is awaited: one task listens and speaks in turn, and a slow other end never blocks the loop."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from ecu.channel import Channel, Message

In = TypeVar("In")


class Conversation(Generic[In]):
    """One end of a channel. All methods raise ChannelClosed once the other end is gone, or this one closed."""

    def __init__(self, end: socket.socket, accepts: Any) -> None:
        end.setblocking(False)
        self._channel: Channel[In] = Channel(end, accepts)

    async def receive(self) -> In:
        """The next message. Also raises BadMessage for what `accepts` doesn't name."""
        while True:
            if (message := self.try_receive()) is not None:
                return message
            await self._until(asyncio.get_running_loop().add_reader, asyncio.get_running_loop().remove_reader)

    def try_receive(self) -> In | None:
        """The next message if it is there already. Also raises BadMessage."""
        try:
            message, descriptors = self._channel.receive()
        except BlockingIOError:
            return None
        for fd in descriptors:
            os.close(fd)
        return message

    async def send(self, message: Message) -> None:
        """Waits while the other end is far behind."""
        while not self.try_send(message):
            await self._until(asyncio.get_running_loop().add_writer, asyncio.get_running_loop().remove_writer)

    def try_send(self, message: Message) -> bool:
        """False when the other end is so far behind that there's no room for it."""
        try:
            self._channel.send(message)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        self._channel.close()

    async def _until(self, watch: Callable[..., None], unwatch: Callable[[int], bool]) -> None:
        fd = self._channel.fileno()
        ready = asyncio.Event()
        watch(fd, ready.set)
        try:
            await ready.wait()
        finally:
            unwatch(fd)
