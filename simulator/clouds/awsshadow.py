"""The Device Shadow service as far as a vehicle meets it, as pure functions over documents (AWS IoT Core Developer
Guide, "Device Shadow MQTT topics" and "Device Shadow error messages")."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

MAX_DOCUMENT_BYTES: Final = 8 * 1024

Messages = Iterator[tuple[str, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Shadow:
    """One document. A version never comes twice, also not after a deletion."""

    version: int = 0
    exists: bool = False
    desired: Mapping[str, Any] = field(default_factory=dict)
    reported: Mapping[str, Any] = field(default_factory=dict)

    @property
    def delta(self) -> dict[str, Any]:
        return difference(self.desired, self.reported)

    def as_state(self) -> dict[str, Any]:
        state = {"desired": dict(self.desired), "reported": dict(self.reported), "delta": self.delta}
        return {part: value for part, value in state.items() if value}


class ShadowRefused(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def got(shadow: Shadow, now_s: int) -> dict[str, Any]:
    """Raises ShadowRefused."""
    _demand(shadow)
    return {"state": shadow.as_state(), "version": shadow.version, "timestamp": now_s}


def updated(shadow: Shadow, request: Mapping[str, Any]) -> Shadow:
    """Raises ShadowRefused."""
    state, version = request.get("state"), request.get("version")
    if not isinstance(state, dict):
        raise ShadowRefused(400, "Missing required node: state")
    if version is not None and version != shadow.version:
        raise ShadowRefused(409, "Version conflict")
    parts = {part: _changed(getattr(shadow, part), state[part]) for part in ("desired", "reported") if part in state}
    new = replace(shadow, version=shadow.version + 1, exists=True, **parts)
    for part in (new.desired, new.reported):
        if len(msgspec.json.encode(part)) > MAX_DOCUMENT_BYTES:
            raise ShadowRefused(413, "The payload exceeds the maximum size allowed")
    return new


def deleted(shadow: Shadow) -> Shadow:
    """Raises ShadowRefused."""
    _demand(shadow)
    return Shadow(version=shadow.version + 1)


def difference(wanted: Mapping[str, Any], had: Mapping[str, Any]) -> dict[str, Any]:
    """What of `wanted` isn't so in `had`; nested, as the service tells it."""
    found: dict[str, Any] = {}
    for key, value in wanted.items():
        other = had.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            if nested := difference(value, other):
                found[key] = nested
        elif other != value:
            found[key] = value
    return found


def _demand(shadow: Shadow) -> None:
    if not shadow.exists:
        raise ShadowRefused(404, "No shadow exists with that name")


def _changed(before: Mapping[str, Any], change: Any) -> dict[str, Any]:
    """JSON merge (RFC 7396): null takes away."""
    if change is None:
        return {}
    if not isinstance(change, dict):
        raise ShadowRefused(400, "State node must be an object")
    after = dict(before)
    for key, value in change.items():
        if value is None:
            after.pop(key, None)
        elif isinstance(value, dict):
            held = after.get(key)
            after[key] = _changed(held if isinstance(held, dict) else {}, value)
        else:
            after[key] = value
    return after
