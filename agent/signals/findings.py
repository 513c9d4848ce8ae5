"""What the doctor finds of a bus and of campaigns: why they tell nothing, each with what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from agent.finding import Finding, Gravity
from agent.signals.messages import CampaignCounts
from agent.signals.room import SignalRoomStatus


def on_bus(room: SignalRoomStatus) -> Iterator[Finding]:
    told = room.side.told if room.side is not None else None
    if room.plan_fault:
        yield Finding(
            Gravity.BAD,
            "bus",
            room.plan_fault,
            "The one before it goes on, if any: tell whoever signs for the fleet.",
        )
    if not room.plan:
        yield Finding(
            Gravity.NOTE, "bus", f"{room.bus} waits for a plan of its signals.",
            "It begins by itself once one is released; or name one with [signals] plan.",
        )  # fmt: skip
    elif told is None:
        yield Finding(Gravity.NOTE, "bus", f"Nothing has been heard of {room.bus} yet.")
    elif told.source:
        yield Finding(Gravity.BAD, "bus", told.source, "The agent opens it again by itself.")
    elif told.counts.get("missed"):
        yield Finding(
            Gravity.NOTE, "bus", f"{told.counts['missed']} frames found no room before they were read.",
            "The computer is too busy: look at what else runs.",
        )  # fmt: skip


def on_gnss(room: SignalRoomStatus) -> Iterator[Finding]:
    if not room.gnss:
        return
    told = room.side.told if room.side is not None else None
    if told is None:
        yield Finding(Gravity.NOTE, "gnss", f"Nothing has been heard of {room.gnss} yet.")
    elif told.gnss:
        yield Finding(Gravity.BAD, "gnss", told.gnss, "The agent opens it again by itself.")
    elif told.counts.get("gnss_damaged", 0) > told.counts.get("gnss_taken", 0):
        words = f"Most of what {room.gnss} says is damaged."
        yield Finding(Gravity.BAD, "gnss", words, "Look at [signals] gnss_baud, and at its line.")


_IDLE: Final[dict[str, tuple[str, str]]] = {
    "no_consent": ("waits for its owner's consent to its purpose", "[privacy] consents."),
    "denied": ("would look at what its owner denies, and does nothing", "[privacy] deny and position."),
    "nothing_left": ("wants only what its owner denies, and does nothing", "[privacy] deny."),
    "ended": ("has ended", ""),
}
"""Why a campaign is idle, and where that is said."""


def on_campaigns(room: SignalRoomStatus) -> Iterator[Finding]:
    if room.fault:
        yield Finding(
            Gravity.BAD, "campaigns", f"The campaigns in force couldn't be kept: {room.fault}",
            "They are asked for again at the next start.",
        )  # fmt: skip
    if (side := room.side) is None:
        return
    if side.fault:
        yield Finding(Gravity.BAD, "campaigns", side.fault, "The agent starts it again by itself; see its log for why.")
    if side.refused:
        yield Finding(
            Gravity.NOTE, "campaigns", side.refused, "The ones before stay in force: tell whoever signs for the fleet."
        )
    if side.untold + side.not_understood:
        yield Finding(
            Gravity.NOTE, "campaigns", f"{side.untold} samples weren't taken by the signals process, and "
            f"{side.not_understood} records of its weren't understood.",
        )  # fmt: skip
    yield from _lost(side.told.counts if side.told is not None else {})
    for campaign in side.told.campaigns if side.told is not None else ():
        yield from _campaign(campaign)


_LOST: Final[dict[str, tuple[str, str]]] = {
    "unsaid": ("messages of the signals process found no room", "The agent is too busy: look at what else runs."),
    "untaken": ("samples found no room before their time had come", "The signal source tells too much at once."),
    "short": ("frames were shorter than the plan says", "Compile it from the DBC files of this very vehicle."),
    "late": ("frames had a stamp that was told already", "Look at the bus's clock, and what holds its frames up."),
    "unfit": ("samples were too long for any record", "[spool] segment_bytes."),
    "book_failures": ("times the flash didn't take the campaigns' book", "Look at the disk: outrider spool verify."),
}
"""What no campaign counts, and what to do."""


def _lost(counts: Mapping[str, int]) -> Iterator[Finding]:
    for name, (words, advice) in _LOST.items():
        if number := counts.get(name):
            yield Finding(Gravity.NOTE, "campaigns", f"{number} {words}.", advice)


def _campaign(campaign: CampaignCounts) -> Iterator[Finding]:
    if campaign.state in _IDLE:
        words, advice = _IDLE[campaign.state]
        yield Finding(Gravity.NOTE, "campaigns", f"Campaign {campaign.name} {words}.", advice)
    for reason, number in campaign.dropped.items():
        yield Finding(Gravity.NOTE, "campaigns", f"Campaign {campaign.name} left out {number} ({reason}).")
