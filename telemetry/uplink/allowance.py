"""Whether something may go over a network today: a decision by the network's rule and what went already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ecu.conditions import Network
from telemetry.records import Lane
from telemetry.uplink.daybook import DayBook
from telemetry.uplink.networks import NetworkRule

RELEASES_SHARE: Final = 2
"""Of a day's bytes releases leave the other half to records, however large they are."""


@dataclass(frozen=True, slots=True)
class Held:
    """Why nothing of a kind may go, in words; `until_ns` is the boot time at which that ends by itself, if it does."""

    words: str
    until_ns: int | None = None


def lane_held(lane: Lane, network: Network, rule: NetworkRule, days: DayBook) -> Held | None:
    """Why this lane has to wait for another network or another day; None when it hasn't."""
    if not rule.lets(lane):
        return Held(f"{lane.name} waits for another network: {_section(network)} lanes doesn't name it.")
    what = "bytes and P0's reserve" if lane is Lane.P0 else "bytes"
    return _used_up(f"{lane.name} waits", what, rule.most_bytes(lane), network, rule, days)


def releases_held(network: Network, rule: NetworkRule, days: DayBook) -> Held | None:
    """Why releases have to; None when they haven't. What is small about them goes as P0 does."""
    if not rule.downloads:
        return Held(f"Releases wait for another network: {_section(network)} downloads is false.")
    most = rule.bytes_per_day // RELEASES_SHARE if rule.bytes_per_day else None
    return _used_up("Releases wait", "bytes for releases", most, network, rule, days)


def _used_up(who: str, what: str, most: int | None, network: Network, rule: NetworkRule, days: DayBook) -> Held | None:
    if most is None or days.gone(network.value, rule.bytes_per_day) < most:
        return None
    words = f"{who} until the day ends: its {most:,} {what} are used up ({_section(network)} bytes_per_day)."
    return Held(words, days.ends_ns)


def _section(network: Network) -> str:
    return f"[network.{network.value}]"
