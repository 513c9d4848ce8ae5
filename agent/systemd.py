"""Whether a system's services run, by systemd over D-Bus (org.freedesktop.systemd1(5))."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dbus_fast import MessageType

from agent.systembus import Line, connected
from agent.updates.booted import ServiceStates
from ota.system.port import InstallerAway

_NAME: Final = "org.freedesktop.systemd1"
_UNIT: Final = "org.freedesktop.systemd1.Unit"


class SystemdServices:
    """The units that the configuration names. `address` of the bus; None for the system's."""

    def __init__(self, units: Sequence[str], address: str | None = None) -> None:
        self._units = units
        self._address = address

    async def states(self) -> ServiceStates:
        async with connected(self._address) as line:
            return {unit: await _state(line, unit) for unit in self._units}


async def _state(line: Line, unit: str) -> str:
    loaded = await line.call(_NAME, "/org/freedesktop/systemd1", f"{_NAME}.Manager", "LoadUnit", "s", unit)
    if loaded.message_type is MessageType.ERROR:
        raise InstallerAway(f"systemd doesn't tell of {unit}: {loaded.error_name}.")
    told = await line.call(
        _NAME, loaded.body[0], "org.freedesktop.DBus.Properties", "Get", "ss", _UNIT, "ActiveState"
    )  # fmt: skip
    if told.message_type is MessageType.ERROR:
        raise InstallerAway(f"systemd doesn't tell how {unit} is: {told.error_name}.")
    return str(told.body[0].value)
