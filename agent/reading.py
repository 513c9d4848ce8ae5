"""A reading of everything that the daemon is made of, for `outrider agent status`, doctor and the fleet's report."""

from __future__ import annotations

import os

from agent.cloud import never_paired
from agent.parts import Parts
from agent.status import AgentStatus, ClockStatus, PrivacyStatus, WitnessStatus


def read(parts: Parts, *, drive_ended: bool) -> AgentStatus:
    """A reading of everything, now."""
    perception = parts.perception.status() if parts.perception is not None else None
    spool = parts.keeper.counts()
    cloud = parts.cloud.status() if parts.cloud is not None else never_paired(parts.config.link)
    return AgentStatus(
        version=parts.version,
        pid=os.getpid(),
        running_since_ns=parts.since_ns,
        lockstep=parts.stepping is not None,
        drive_ended=drive_ended,
        clock=ClockStatus(parts.clock.boot_ns(), parts.wall.wall_ns(), parts.wall.offset_ns),
        perception=perception,
        signals=parts.signals.status() if parts.signals is not None else None,
        campaigns=parts.room.status(),
        privacy=PrivacyStatus(
            parts.privacy.passed,
            {reason.value: records for reason, records in parts.privacy.dropped.items()},
            tuple(sorted(purpose.name.lower() for purpose in parts.config.privacy.consents)),
            len(parts.config.privacy.zones),
            parts.privacy.hides(parts.clock.boot_ns()) or "",
        ),
        spool=spool,
        law_1_holds=spool.holds,
        law_2_holds=perception.law_2_holds if perception is not None else None,
        law_6_holds=cloud.uplink is None or cloud.uplink.law6_held,
        cloud=cloud,
        updates=parts.updates.status() if parts.updates is not None else None,
        gallery=parts.gallery.status() if parts.gallery is not None else None,
        learning=parts.learning.status(),
        witness=WitnessStatus(parts.witness.told, parts.witness.untold) if parts.witness is not None else None,
        left_out=_left_out(parts),
    )


def _left_out(parts: Parts) -> dict[str, int]:
    signals, side = parts.signals, parts.side
    return {
        **parts.pipeline.left_out(),
        **parts.learning.left_out(),
        "samples_missed": signals.status().missed if signals is not None else 0,
        "samples_late": signals.status().late if signals is not None else 0,
        "crops_hidden_by_zones": parts.crops_hidden,
        "lights_not_cut_out": side.lights_left_out if side is not None else 0,
        "confirmations_untold": parts.witness.untold if parts.witness is not None else 0,
        "events_unheard": parts.api.events_dropped,
    }
