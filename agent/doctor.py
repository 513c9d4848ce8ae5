"""Why nothing is uploading, or seen, or kept: findings from a status, each with what to do next. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from agent.learning.gates import Gate
from agent.status import AgentStatus
from ecu.clock import SECOND_NS
from ota.machine import State
from telemetry.uplink.status import UplinkState

CERTIFICATE_WARNING_NS = 2 * 24 * 3600 * SECOND_NS
RECEIPT_OVERDUE_NS = 30 * SECOND_NS


class Gravity(StrEnum):
    """How bad a finding is: `bad` makes the doctor's answer no."""

    GOOD = "good"
    NOTE = "note"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing the doctor looked at. `advice` is empty when nothing has to be done."""

    gravity: Gravity
    subject: str
    words: str
    advice: str = ""


def diagnose(status: AgentStatus) -> tuple[Finding, ...]:
    """What is wrong first. Never empty: a healthy agent is told to be."""
    findings = [
        *_cloud(status), *_records(status), *_perception(status), *_signals(status), *_privacy(status),
        *_updates(status), *_pictures(status), *_learning(status), *_network(status),
    ]  # fmt: skip
    order = {Gravity.BAD: 0, Gravity.NOTE: 1, Gravity.GOOD: 2}
    return tuple(sorted(findings, key=lambda finding: order[finding.gravity]))


def _cloud(status: AgentStatus) -> Iterator[Finding]:
    cloud, now_ns = status.cloud, status.clock.boot_ns
    if cloud.link == "none":
        yield Finding(Gravity.NOTE, "link", "The link is switched off; records wait on flash.", "Set [link] kind.")
        return
    if cloud.paired_with is None:
        yield Finding(
            Gravity.BAD, "pairing", "This vehicle was never paired, so there is nobody to send to.",
            "Have the receiver's operator enrol it, then: outrider pair FILE",
        )  # fmt: skip
        return
    yield from _certificate(status)
    if cloud.uplink is None:
        return
    uplink = cloud.uplink
    for_s = (now_ns - uplink.since_ns) / SECOND_NS
    match uplink.state:
        case UplinkState.CONNECTED:
            yield _receipts(status)
        case UplinkState.HELD_BACK:
            yield Finding(Gravity.NOTE, "link", uplink.reason, _when_let(status))
        case UplinkState.THROTTLED:
            yield Finding(Gravity.NOTE, "link", f"The receiver asks for patience: {uplink.reason}")
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
            yield Finding(
                Gravity.BAD, "link", f"Not connected for {for_s:.0f} s: {uplink.reason or uplink.state.value}",
                "Records wait on flash meanwhile; nothing is lost while there is room.",
            )  # fmt: skip


def _when_let(status: AgentStatus) -> str:
    """When what is held back may go."""
    assert status.cloud.uplink is not None
    ends_ns = [held.until_ns for held in status.cloud.uplink.meter.held.values() if held.until_ns is not None]
    if not ends_ns:
        return "It goes by itself over a network that lets it; nothing is lost while flash has room."
    left_h = (min(ends_ns) - status.clock.boot_ns) / SECOND_NS / 3600
    return f"It goes by itself in {left_h:.1f} hours, or over another network; nothing is lost while flash has room."


def _network(status: AgentStatus) -> Iterator[Finding]:
    if status.cloud.uplink is not None and status.cloud.uplink.meter.fault:
        yield Finding(
            Gravity.BAD, "network", status.cloud.uplink.meter.fault, "Check the disk's health and its free space."
        )


def _receipts(status: AgentStatus) -> Finding:
    uplink = status.cloud.uplink
    assert uplink is not None
    if not uplink.law6_held:
        return Finding(
            Gravity.NOTE, "law 6", "Not held: this link frees records when a broker takes them, stored or not.",
            "Put the receiver behind the broker, and take out [link] acks and [uplink] free_on_acceptance.",
        )  # fmt: skip
    waiting = sum(lane.spooled for lane in status.spool.lanes)
    last_ns = max(uplink.counts.last_receipt_ns or 0, uplink.since_ns)
    silent_ns = status.clock.boot_ns - last_ns
    if waiting and silent_ns > RECEIPT_OVERDUE_NS:
        return Finding(
            Gravity.BAD, "receipts",
            f"{waiting} records wait and no receipt came for {silent_ns / SECOND_NS:.0f} s though the link is up.",
            "The receiver takes them and doesn't store them: look at its log and its disk.",
        )  # fmt: skip
    return Finding(Gravity.GOOD, "link", f"Connected; {uplink.counts.records_freed} records stored and freed.")


def _certificate(status: AgentStatus) -> Iterator[Finding]:
    ends_ns = status.cloud.certificate_ends_ns
    if ends_ns is None:
        return
    left_ns = ends_ns - status.clock.wall_ns
    if left_ns <= 0:
        yield Finding(
            Gravity.BAD, "certificate", "This vehicle's certificate has expired.",
            "Have it enrolled and paired again; its records stay.",
        )  # fmt: skip
    elif left_ns < CERTIFICATE_WARNING_NS:
        yield Finding(
            Gravity.NOTE, "certificate", f"This vehicle's certificate ends in {left_ns / SECOND_NS / 3600:.0f} hours.",
            "It renews itself over the link; check that the link is up.",
        )  # fmt: skip


def _records(status: AgentStatus) -> Iterator[Finding]:
    spool = status.spool
    if not status.law_1_holds:
        yield Finding(
            Gravity.BAD, "law 1", "Records aren't conserved: the sums of at least one lane differ.",
            "Keep the state folder and report it: outrider spool inspect --json",
        )  # fmt: skip
    if spool.fault is not None:
        yield Finding(Gravity.BAD, "flash", spool.fault, "Check the disk's health and its free space.")
    for lane in spool.lanes:
        for kind, reasons in (("dropped", lane.dropped), ("evicted", lane.evicted), ("quarantined", lane.quarantined)):
            for reason, records in reasons.items():
                yield Finding(Gravity.NOTE, lane.lane.name, f"{records} records {kind} ({reason}).")
    if status.law_1_holds:
        yield Finding(Gravity.GOOD, "law 1", f"All {sum(lane.offered for lane in spool.lanes)} records accounted for.")


def _perception(status: AgentStatus) -> Iterator[Finding]:
    perception = status.perception
    if perception is None:
        yield Finding(Gravity.NOTE, "camera", "No camera is configured.", "Set [camera] source.")
        return
    if perception.camera_fault is not None:
        yield Finding(
            Gravity.BAD, "camera", perception.camera_fault, "The agent tries it again by itself, more and more rarely."
        )
    if perception.live_pid is None:
        yield Finding(Gravity.BAD, "perception", "No worker is live just now.", "See the log for why workers end.")
    if not perception.law_2_holds:
        yield Finding(Gravity.BAD, "law 2", f"Frames aren't conserved: {perception.frames}.", "Report it with the log.")
    else:
        yield Finding(Gravity.GOOD, "law 2", f"All {perception.frames.captured} frames accounted for.")


def _signals(status: AgentStatus) -> Iterator[Finding]:
    signals = status.signals
    if signals is None:
        yield Finding(Gravity.NOTE, "signals", "No signal source is configured.", "Set [signals] source.")
    elif not signals.connected:
        yield Finding(Gravity.BAD, "signals", signals.reason, "The agent connects again by itself.")


def _privacy(status: AgentStatus) -> Iterator[Finding]:
    for reason, records in status.privacy.dropped.items():
        yield Finding(Gravity.NOTE, "privacy", f"{records} records dropped before the spool ({reason}).")
    if set(status.privacy.consents) <= {"operation"}:
        yield Finding(
            Gravity.NOTE, "consent", "The owner consented to nothing but the runtime's own health.",
            "Only then does more leave the vehicle: [privacy] consents.",
        )  # fmt: skip


def _updates(status: AgentStatus) -> Iterator[Finding]:
    updates = status.updates
    if updates is None:
        return
    if updates.trouble:
        yield Finding(
            Gravity.NOTE, "updates", updates.trouble,
            "The installed model goes on. A refusal names its attack class: tell whoever signs for the fleet.",
        )  # fmt: skip
    for kind in updates.kinds:
        if kind.words and kind.state in (State.ROLLED_BACK, State.INCONCLUSIVE):
            yield Finding(Gravity.NOTE, "updates", f"The last {kind.kind} was {kind.state}: {kind.words}.")


def _pictures(status: AgentStatus) -> Iterator[Finding]:
    gallery = status.gallery
    if gallery is None:
        return
    if (pictures := gallery.pictures) is not None:
        if pictures.fault:
            yield Finding(
                Gravity.BAD, "pictures", f"There are none, since nobody could cover them: {pictures.fault}",
                "Name a package that finds faces with [pictures] faces.",
            )  # fmt: skip
        if not pictures.counts.holds:
            yield Finding(
                Gravity.BAD, "pictures", f"Wanted pictures aren't all accounted for: {pictures.counts}.",
                "Keep the state folder and report it with the log.",
            )  # fmt: skip
        for reason, number in pictures.counts.dropped.items():
            yield Finding(Gravity.NOTE, "pictures", f"{number} wanted pictures were not taken ({reason}).")
    if not gallery.objects.conservation.holds:
        yield Finding(
            Gravity.BAD, "objects", f"Pictures on flash aren't conserved: {gallery.objects}.",
            "Keep the state folder and report it.",
        )  # fmt: skip
    if gallery.objects.fault is not None:
        yield Finding(Gravity.BAD, "flash", gallery.objects.fault, "Check the disk's health and its free space.")


_OPENS: dict[str, str] = {
    Gate.PARKED: "It learns while the vehicle stands: [learning] parked_s, and [signals] source has to tell the speed.",
    Gate.POWER: "It learns on outside power: [learning] power.",
    Gate.HEAT: "It learns once the computer is cool.",
    Gate.CLOCK: "The clock is trusted once the link to the receiver stands.",
    Gate.PLAN_ENDED: "Nobody wants what this plan asks for any more.",
    Gate.PAUSE: "The next run comes after [learning] pause_s.",
    Gate.LONGEST: "A run ends after [learning] longest_s.",
}
"""What opens each gate."""


def _learning(status: AgentStatus) -> Iterator[Finding]:
    learning = status.learning
    if learning is None:
        return
    if learning.store is not None and not learning.store.holds:
        yield Finding(
            Gravity.BAD, "learning", f"Examples aren't all accounted for: {learning.store}.",
            "Keep the state folder and report it.",
        )  # fmt: skip
    for fault in filter(None, (learning.fault, learning.source_fault)):
        yield Finding(Gravity.NOTE, "learning", fault)
    if learning.refusal:
        yield Finding(Gravity.NOTE, "learning", learning.refusal)
    if not learning.is_learning:
        for gate in learning.closed:
            yield Finding(Gravity.NOTE, "learning", f"Plan {learning.plan} waits ({gate}).", _OPENS[gate])
    if learning.waiting:
        yield Finding(
            Gravity.NOTE, "learning", "An update waits until the spool has it.", "Look at the spool: flash may be full."
        )
