"""Why nothing is uploading: one finding a cause, the most likely first, each with what to do. Pure.

In the order of what a record meets on its way: is there a link, may it be used, is anything wanted, may it be told,
does flash hold it, does the receiver store it. Whatever stops it earlier explains what is seen later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from agent.finding import Finding, Gravity
from agent.signals.findings import on_campaigns
from agent.status import AgentStatus
from ecu.clock import SECOND_NS
from telemetry.objects.status import ObjectUplinkState
from telemetry.privacy.stage import Reason
from telemetry.spool.counts import Dropped, Evicted, Quarantined
from telemetry.uplink.allowance import Held
from telemetry.uplink.meter import MeterStatus
from telemetry.uplink.status import UplinkState

RECEIPT_OVERDUE_NS: Final = 30 * SECOND_NS

_WITHHELD: Final[dict[str, tuple[str, str]]] = {
    Reason.NO_CONSENT: ("for want of consent", "Its owner allows more with [privacy] consents."),
    Reason.DENIED: ("by the deny-list", "Take their kinds out of [privacy] deny, if its owner agrees."),
    Reason.NOTHING_LEFT: ("since the deny-list left nothing of them", "Look at [privacy] deny and position."),
    Reason.IN_ZONE: ("in or near a zone", "Outside of [[privacy.zones]] it tells again."),
    Reason.PLACE_UNKNOWN: (
        "since there are zones and nobody knew where the vehicle was",
        "Let [signals] source tell Vehicle.CurrentLocation, or take out [[privacy.zones]].",
    ),
    Reason.WRONG_PURPOSE: (
        "since they claimed a purpose that they may not serve",
        "A campaign is for safety, driving or perception: tell whoever signs campaigns.",
    ),
    Reason.UNKNOWN_KIND: ("since this version has no rule for them", "Report it: a record's kind has no rule."),
}


def uploading(status: AgentStatus) -> Iterator[Finding]:
    yield from _link(status)
    yield from _network(status)
    yield from on_campaigns(status.campaigns)
    yield from _privacy(status)
    yield from _flash(status)
    yield from _receiver(status)
    yield from _pictures(status)


# --- the way -------------------------------------------------------------------------------------


def _link(status: AgentStatus) -> Iterator[Finding]:
    cloud = status.cloud
    if cloud.link == "none":
        yield Finding(Gravity.NOTE, "link", "The link is switched off; records wait on flash.", "Set [link] kind.")
    elif cloud.paired_with is None:
        yield Finding(
            Gravity.BAD, "pairing", "This vehicle was never paired, so there is nobody to send to.",
            "Have the receiver's operator enrol it, then: outrider pair FILE",
        )  # fmt: skip
    elif cloud.uplink is not None:
        yield from _uplink(status)


def _uplink(status: AgentStatus) -> Iterator[Finding]:
    uplink = status.cloud.uplink
    assert uplink is not None
    match uplink.state:
        case UplinkState.CONNECTED:
            if uplink.law6_held and not _is_overdue(status):
                yield Finding(
                    Gravity.GOOD, "link", f"Connected; {uplink.counts.records_freed} records stored and freed."
                )
        case UplinkState.HELD_BACK:
            pass  # its network says so
        case UplinkState.THROTTLED:
            yield Finding(
                Gravity.NOTE, "link", f"The receiver asks for patience: {uplink.reason}",
                "It goes on by itself; when it lasts, the receiver is too small for its fleet.",
            )  # fmt: skip
        case UplinkState.CLOCK_UNTRUSTED:
            yield Finding(
                Gravity.BAD, "clock", f"The clock can't be trusted, so nobody's certificate can: {uplink.reason}",
                "It mends itself when GNSS or the receiver's signed time is reached; check the network to it.",
            )  # fmt: skip
        case UplinkState.UNAUTHORIZED:
            yield Finding(
                Gravity.BAD, "link", f"The receiver doesn't let this vehicle in: {uplink.reason}",
                "Ask its operator whether it was revoked; then enrol and pair it again.",
            )  # fmt: skip
        case UplinkState.CONNECTING | UplinkState.WAITING | UplinkState.STOPPED:
            for_s = (status.clock.boot_ns - uplink.since_ns) / SECOND_NS
            yield Finding(
                Gravity.BAD, "link", f"Not connected for {for_s:.0f} s: {uplink.reason or uplink.state.value}",
                "Records wait on flash meanwhile; nothing is lost while there is room.",
            )  # fmt: skip


def _network(status: AgentStatus) -> Iterator[Finding]:
    """Budgets of the network in use: what may go today, and when it goes on."""
    uplink = status.cloud.uplink
    if uplink is None:
        return
    if uplink.state is UplinkState.HELD_BACK:
        yield Finding(Gravity.NOTE, "network", uplink.reason, _when_let(uplink.meter, status.clock.boot_ns))
    if uplink.meter.fault:
        yield Finding(Gravity.BAD, "network", uplink.meter.fault, "Check the disk's health and its free space.")


def _when_let(meter: MeterStatus, now_ns: int) -> str:
    return f"It goes by itself {when_let(meter.held.values(), now_ns)}; nothing is lost while flash has room."


def when_let(held: Iterable[Held], now_ns: int) -> str:
    """When what is held back may go."""
    ends_ns = [one.until_ns for one in held if one.until_ns is not None]
    if not ends_ns:
        return "over a network that lets it"
    return f"in {(min(ends_ns) - now_ns) / SECOND_NS / 3600:.1f} hours, or over another network"


# --- what is wanted, and may be told ----------------------------------------------------------------


def _privacy(status: AgentStatus) -> Iterator[Finding]:
    privacy = status.privacy
    if privacy.hidden == Reason.PLACE_UNKNOWN:
        yield Finding(
            Gravity.BAD, "zones", "There are zones, and nobody knows where the vehicle is: nothing is told.",
            _WITHHELD[Reason.PLACE_UNKNOWN][1],
        )  # fmt: skip
    elif privacy.hidden:
        yield Finding(Gravity.NOTE, "zones", "The vehicle is in or near a zone, and tells nothing of it.",
                      _WITHHELD[Reason.IN_ZONE][1])  # fmt: skip
    nothing = (not privacy.passed and "Nothing passed; all ") or ""
    for reason, records in sorted(privacy.dropped.items(), key=lambda item: -item[1]):
        why, advice = _WITHHELD.get(reason, (f"({reason})", ""))
        yield Finding(Gravity.NOTE, "privacy", f"{nothing}{records} records were dropped {why} ({reason}).", advice)
    if set(privacy.consents) <= {"operation"}:
        yield Finding(
            Gravity.NOTE, "consent", "The owner consented to nothing but the runtime's own health.",
            "Only then does more leave the vehicle: [privacy] consents.",
        )  # fmt: skip


# --- flash -------------------------------------------------------------------------------------------


def _flash(status: AgentStatus) -> Iterator[Finding]:
    spool = status.spool
    if spool.why_full is not None:
        yield Finding(
            Gravity.BAD, "flash", f"Flash takes no more records: {spool.why_full}",
            "Free space on the disk; records are dropped once memory is full, too.",
        )  # fmt: skip
    elif spool.fault is not None:
        yield Finding(Gravity.BAD, "flash", spool.fault, "Check the disk's health and its free space.")
    if spool.dictionary_fault:
        yield Finding(
            Gravity.NOTE, "dictionary", f"Small blocks are packed without one, and longer: {spool.dictionary_fault}",
            "Nothing is lost; it is looked for again when the agent starts.",
        )  # fmt: skip
    for lane in spool.lanes:
        for reason, records in lane.dropped.items():
            yield Finding(
                Gravity.NOTE, lane.lane.name, f"{records} records dropped ({reason}).", _DROPPED.get(reason, "")
            )
        for reason, records in lane.evicted.items():
            yield Finding(
                Gravity.NOTE, lane.lane.name, f"{records} records evicted ({reason}).", _EVICTED.get(reason, "")
            )


_EVICTED: Final[dict[str, str]] = {
    Evicted.QUOTA: "There was no room for them until they could be sent: raise [spool] max_bytes, or mend the link.",
    Evicted.DISK_FULL: "The disk had less room than [spool] max_bytes: free space on it, or mend the link.",
    Evicted.EXPIRED: "Nobody wanted them for longer (their campaign's keep_s, [spool] keep_s): mend the link.",
}

_DROPPED: Final[dict[str, str]] = {
    Dropped.QUEUE_FULL: "They came faster than flash takes them: capture less, or raise [spool] queue_bytes.",
    Dropped.TOO_LARGE: "No block could hold them: raise [spool] segment_bytes.",
    Dropped.DISK_FULL: "Free space on the disk, or lower [spool] max_bytes.",
    Dropped.DISK_FAULT: "Check the disk's health (dmesg, smartctl).",
    Dropped.ERASED: "Their purpose was purged before they were written.",
}


# --- the other side ------------------------------------------------------------------------------------


def _receiver(status: AgentStatus) -> Iterator[Finding]:
    uplink = status.cloud.uplink
    if uplink is not None and uplink.connected and not uplink.law6_held:
        yield Finding(
            Gravity.NOTE, "law 6", "Not held: this link frees records when a broker takes them, stored or not.",
            "Put the receiver behind the broker, and take out [link] acks and [uplink] free_on_acceptance.",
        )  # fmt: skip
    elif uplink is not None and _is_overdue(status):
        waiting, silent_s = sum(lane.spooled for lane in status.spool.lanes), _silent_ns(status) / SECOND_NS
        yield Finding(
            Gravity.BAD, "receipts",
            f"{waiting} records wait and no receipt came for {silent_s:.0f} s though the link is up.",
            "The receiver takes them and doesn't store them: look at its log and its disk.",
        )  # fmt: skip
    for lane in status.spool.lanes:
        for reason, records in lane.quarantined.items():
            told = f" The last refusal: {status.spool.last_refusal}" if reason == Quarantined.REFUSED else ""
            words = f"{records} records quarantined ({reason}).{told}"
            yield Finding(Gravity.NOTE, lane.lane.name, words, _QUARANTINED.get(reason, ""))


_QUARANTINED: Final[dict[str, str]] = {
    Quarantined.CORRUPT: "Their bytes changed on flash: check its health (dmesg, smartctl).",
    Quarantined.MISSING: "Their segment is gone: was something removed from the state folder?",
    Quarantined.UNREADABLE: "The next start tries to read them again; check the disk's health.",
    Quarantined.KEY_LOST: "The keys they were written under are gone: was the keys folder replaced?",
    Quarantined.REFUSED: "The receiver will never take these bytes; its log says why. The others go on.",
}


def _is_overdue(status: AgentStatus) -> bool:
    """The link is up, and what waits isn't acknowledged."""
    uplink = status.cloud.uplink
    if uplink is None or uplink.state is not UplinkState.CONNECTED or not uplink.law6_held:
        return False
    return any(lane.spooled for lane in status.spool.lanes) and _silent_ns(status) > RECEIPT_OVERDUE_NS


def _silent_ns(status: AgentStatus) -> int:
    uplink = status.cloud.uplink
    assert uplink is not None
    return status.clock.boot_ns - max(uplink.counts.last_receipt_ns or 0, uplink.since_ns)


def _pictures(status: AgentStatus) -> Iterator[Finding]:
    uplink = status.gallery.uplink if status.gallery is not None else None
    if uplink is None or not uplink.reason:
        return
    if uplink.state is ObjectUplinkState.UNAUTHORIZED:
        yield Finding(
            Gravity.BAD, "pictures", f"The receiver takes no pictures of this vehicle: {uplink.reason}",
            "Ask its operator whether it was revoked; then enrol and pair it again.",
        )  # fmt: skip
    elif uplink.state is ObjectUplinkState.WAITING:
        yield Finding(
            Gravity.NOTE, "pictures", f"Pictures wait: {uplink.reason}", "They are tried again by themselves."
        )
