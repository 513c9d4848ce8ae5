"""The system's D-Bus, a connection for each question, and no answer waited for without end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from dbus_fast import BusType, Message
from dbus_fast.aio import MessageBus
from dbus_fast.errors import DBusFastError

from ota.system.port import InstallerAway

BUS: Final = "org.freedesktop.DBus"
ANSWER_WITHIN_S: Final = 20.0
"""RAUC asks the bootloader for each of its answers, which takes as long as its tools take."""


class Line:
    """One connection."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus

    async def call(
        self, name: str, path: str, interface: str, member: str, signature: str = "", *body: object
    ) -> Message:
        """The answer, which may be an error. Raises InstallerAway where there is none."""
        message = Message(
            destination=name, path=path, interface=interface, member=member, signature=signature, body=list(body)
        )
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await self._bus.call(message)
        except (OSError, EOFError, TimeoutError, DBusFastError) as error:
            raise InstallerAway(f"{name} doesn't answer to {member}: {error or 'too late'}.") from error

    async def follow(self, name: str, hear: Callable[[Message], Any]) -> None:
        """From here on every signal of that name's, and whether it is still owned, is told; and what else comes."""
        self._bus.add_message_handler(hear)
        for rule in (f"type='signal',sender='{name}'", f"type='signal',sender='{BUS}',arg0='{name}'"):
            await self.call(BUS, "/org/freedesktop/DBus", BUS, "AddMatch", "s", rule)


@asynccontextmanager
async def connected(address: str | None) -> AsyncIterator[Line]:
    """`address` of the bus; None for the system's. Raises InstallerAway."""
    try:
        bus = MessageBus(bus_address=address, bus_type=BusType.SYSTEM)
        async with asyncio.timeout(ANSWER_WITHIN_S):
            await bus.connect()
    except (OSError, EOFError, TimeoutError, DBusFastError) as error:
        raise InstallerAway(f"The system's D-Bus can't be reached: {error}. Is dbus-daemon running?") from error
    try:
        yield Line(bus)
    finally:
        bus.disconnect()
