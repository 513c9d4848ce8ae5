"""Why nothing is uploading, or seen, or kept: findings from a status, each with what to do next. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from agent.finding import Finding, Gravity
from agent.learning.gates import Gate
from agent.signals.findings import on_bus, on_gnss
from agent.status import AgentStatus
from agent.uploading import uploading, when_let
from ecu.clock import SECOND_NS
from ota.machine import State

__all__ = ["Finding", "Gravity", "diagnose"]

CERTIFICATE_WARNING_NS = 2 * 24 * 3600 * SECOND_NS


def diagnose(status: AgentStatus) -> tuple[Finding, ...]:
    """What is wrong first. Never empty: a healthy agent is told to be."""
    findings = [
        *_certificate(status), *uploading(status), *_records(status), *_perception(status), *_signals(status),
        *_updates(status), *_pictures(status), *_learning(status), *_overlooked(status),
    ]  # fmt: skip
    order = {Gravity.BAD: 0, Gravity.NOTE: 1, Gravity.GOOD: 2}
    return tuple(sorted(findings, key=lambda finding: order[finding.gravity]))


def _certificate(status: AgentStatus) -> Iterator[Finding]:
    ends_ns = status.cloud.certificate_ends_ns
    if ends_ns is None or status.cloud.paired_with is None:
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
    if status.law_1_holds:
        offered = sum(lane.offered for lane in status.spool.lanes)
        yield Finding(Gravity.GOOD, "law 1", f"All {offered} records accounted for.")
    else:
        yield Finding(
            Gravity.BAD, "law 1", "Records aren't conserved: the sums of at least one lane differ.",
            "Keep the state folder and report it: outrider spool inspect --json",
        )  # fmt: skip


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
    if status.campaigns.bus:
        yield from on_bus(status.campaigns)
    elif signals is None and not status.campaigns.gnss:
        yield Finding(Gravity.NOTE, "signals", "No signal source is configured.", "Set [signals] source.")
    elif signals is not None and not signals.connected:
        yield Finding(Gravity.BAD, "signals", signals.reason, "The agent connects again by itself.")
    yield from on_gnss(status.campaigns)


def _updates(status: AgentStatus) -> Iterator[Finding]:
    updates = status.updates
    if updates is None:
        return
    if updates.trouble:
        yield Finding(
            Gravity.NOTE, "updates", updates.trouble,
            "The installed model goes on. A refusal names its attack class: tell whoever signs for the fleet.",
        )  # fmt: skip
    if (waits := updates.waits) is not None:
        when = when_let((waits,), status.clock.boot_ns)
        yield Finding(Gravity.NOTE, "updates", waits.words, f"What is missing is fetched by itself {when}.")
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


def _overlooked(status: AgentStatus) -> Iterator[Finding]:
    """What was left out before it could become a record."""
    for what, number in status.left_out.items():
        if number:
            yield Finding(Gravity.NOTE, "left out", f"{number:,} {what.replace('_', ' ')}.")
