"""systemd's manager on a bus, as far as it tells how units are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

NAME = "org.freedesktop.systemd1"
UNITS = "/org/freedesktop/systemd1/unit"


@asynccontextmanager
async def played(address: str, states: Mapping[str, str]) -> AsyncIterator[None]:
    names = list(states)

    def answer(message: Message) -> Message | None:
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        if message.member == "LoadUnit":
            return Message.new_method_return(message, "o", [f"{UNITS}/{names.index(message.body[0])}"])
        if message.member == "Get" and message.body == [f"{NAME}.Unit", "ActiveState"]:
            state = states[names[int((message.path or "").rpartition("/")[2])]]
            return Message.new_method_return(message, "v", [Variant("s", state)])
        return None

    bus = await MessageBus(bus_address=address).connect()
    bus.add_message_handler(answer)
    await bus.request_name(NAME)
    try:
        yield
    finally:
        bus.disconnect()
