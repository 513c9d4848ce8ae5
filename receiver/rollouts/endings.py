"""What of the repository ends soon because nobody at the signing desk let it last longer. What has ended vehicles take
for frozen, and look at nothing any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from ecu.clock import SECOND_NS
from ota.kinds import Kind
from ota.repository.metadata import Standing
from receiver.rollouts.answers import RoleLine

_PUBLISH: Final = "outrider ota publish"
_SAID_BEFORE: Final[Mapping[str, tuple[timedelta, str]]] = MappingProxyType(
    {
        "snapshot": (timedelta(days=2), _PUBLISH),
        "timestamp": (timedelta(days=2), _PUBLISH),
        **{
            kind.value: (timedelta(days=14), f"outrider ota sign --role {kind} --renew, then {_PUBLISH}")
            for kind in Kind
        },
    }
)
"""How long before, and what helps. Everything else is a root, or what it delegates with: several people's work."""
_PEOPLES: Final = (timedelta(days=30), f"outrider ota rotate, sign by several people, then {_PUBLISH}")


def endings(standings: Sequence[Standing], now_ns: int) -> list[RoleLine]:
    """A line a role, the soonest first."""
    now = datetime.fromtimestamp(now_ns // SECOND_NS, UTC)
    ordered = sorted(standings, key=lambda its: (its.expires, its.role))
    return [RoleLine(its.role, int(its.expires.timestamp()) * SECOND_NS, _words(its, now)) for its in ordered]


def _words(its: Standing, now: datetime) -> str:
    before, remedy = _SAID_BEFORE.get(its.role, _PEOPLES)
    if its.expires > now + before:
        return ""
    if its.expires <= now:
        return f"{its.role} has ended: vehicles take nothing from this repository. At the desk: {remedy}."
    hours = (its.expires - now) / timedelta(hours=1)
    return f"{its.role} ends in {hours:.0f} hours, and then vehicles take nothing. At the desk: {remedy}."
