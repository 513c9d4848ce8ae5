"""RAUC over D-Bus (de.pengutronix.rauc.Installer), as its reference describes it: https://rauc.readthedocs.io, section
"D-Bus API". Works with 1.8 and later.

RAUC says why it refused a bundle only after it was told to install it, in words: `LastError`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from dbus_fast import Message, MessageType, Variant

from agent.systembus import BUS, Line, connected
from ota.errors import Attack, OtaError, TrustError
from ota.system.port import InstallerAway, InstallFailed, Marking, Percent, Reading, SystemSlot

_NAME: Final = "de.pengutronix.rauc"
_INSTALLER: Final = "de.pengutronix.rauc.Installer"

_NOT_NOW: Final = ("expired", "not yet valid")
"""RAUC judges certificates by the computer's clock, which may be wrong until it was set."""
_ATTACKS: Final = (
    ("Compatible mismatch", Attack.WRONG_HARDWARE),
    ("verification failure", Attack.TAMPERED),
    ("content verify error", Attack.TAMPERED),
    ("digest failure", Attack.TAMPERED),
    ("signature verification failed", Attack.WRONG_SIGNER),
    ("Failed to open", None),
    ("Failed to seek", None),
    ("Invalid bundle format", Attack.MALFORMED),
    ("Failed to load manifest", Attack.MALFORMED),
)
"""What RAUC's words hold, the first one that fits: what is wrong with the bundle, None where nothing is."""


class Rauc:
    """A `SystemInstaller`. `address` of the bus; None for the system's. Each question has a connection of its own."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address

    async def read(self) -> Reading:
        async with connected(self._address) as line:
            (found,) = await _ask(line, "GetSlotStatus")
            try:
                (primary,) = await _ask(line, "GetPrimary")
            except InstallFailed:
                primary = None  # the bootloader names none that can be started
        return Reading(tuple(sorted((_slot(name, told) for name, told in found), key=lambda slot: slot.name)), primary)

    async def mark(self, marking: Marking, slot: str) -> None:
        async with connected(self._address) as line:
            await _ask(line, "Mark", "ss", marking.value, slot)

    async def install(self, bundle: Path, watch: Percent) -> None:
        async with connected(self._address) as line:
            work = _Installation(watch, await _owner(line))
            await line.follow(_NAME, work.hear)
            await _ask(line, "InstallBundle", "sa{sv}", str(bundle), {})
            result = await work.ended
        if result != 0:
            raise failure(work.last_error)


async def _ask(line: Line, member: str, signature: str = "", *body: object) -> list[Any]:
    """Raises InstallerAway where nobody answers, InstallFailed for an answer that is no."""
    reply = await line.call(_NAME, "/", _INSTALLER, member, signature, *body)
    if reply.message_type is MessageType.ERROR:
        raise _refusal(member, reply)
    return list(reply.body)


async def _owner(line: Line) -> str:
    """Who answers for RAUC: anybody may send us a signal. Starts it where the bus does that."""
    reply = await line.call(_NAME, "/", "org.freedesktop.DBus.Peer", "Ping")
    if reply.message_type is MessageType.ERROR or reply.sender is None:
        raise _refusal("Ping", reply)
    return reply.sender


class _Installation:
    """What is heard of one, until it ends: 0 when it went well."""

    def __init__(self, watch: Percent, owner: str) -> None:
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.last_error = ""
        self._watch = watch
        self._owner = owner

    def hear(self, message: Message) -> None:
        is_theirs = message.sender in (self._owner, BUS)
        if message.message_type is not MessageType.SIGNAL or not is_theirs or self.ended.done():
            return
        match message.member:
            case "Completed":
                self.ended.set_result(message.body[0])
            case "NameOwnerChanged" if message.body[0] == _NAME and not message.body[2]:
                self.ended.set_exception(InstallFailed("RAUC ended while it installed. It is tried again."))
            case "PropertiesChanged" if message.body[0] == _INSTALLER:
                self._note(message.body[1])

    def _note(self, changed: dict[str, Variant]) -> None:
        if "LastError" in changed:
            self.last_error = changed["LastError"].value
        if "Progress" in changed:
            percent, what, _ = changed["Progress"].value
            self._watch(percent, what)


def failure(words: str) -> OtaError:
    """What RAUC's words for an installation that failed come to."""
    if not any(part in words for part in _NOT_NOW):
        attack = next((attack for part, attack in _ATTACKS if part in words), None)
        if attack is not None:
            return TrustError(attack, f"RAUC says of the system's bundle: {words}")
    return InstallFailed(f"RAUC couldn't install the system's bundle: {words or 'it says not why'}. It is tried again.")


def _refusal(member: str, reply: Message) -> OtaError:
    words = f"{reply.body[0] if reply.body else reply.error_name}"
    if (reply.error_name or "").startswith("org.freedesktop.DBus.Error."):
        return InstallerAway(f"RAUC can't be asked for {member}: {words}. Is its service running?")
    return InstallFailed(f"RAUC refuses {member}: {words}.")


def _slot(name: str, told: dict[str, Variant]) -> SystemSlot:
    found: dict[str, Any] = {key: variant.value for key, variant in told.items()}
    return SystemSlot(
        name=name,
        kind=found.get("class", ""),
        bootname=found.get("bootname", ""),
        parent=found.get("parent", ""),
        runs=found.get("state") in ("booted", "active"),
        is_bad={"bad": True, "good": False}.get(found.get("boot-status", "")),
        # One whose writing was cut short or failed has a status of its own.
        sha256=found.get("sha256", "") if found.get("status") == "ok" else "",
    )
