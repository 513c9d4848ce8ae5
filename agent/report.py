"""What a vehicle reports to its cloud of all that it knows of itself: a decision, no acts."""

from __future__ import annotations

import msgspec

from agent.status import AgentStatus, UpdatesStatus
from ota.machine import State
from telemetry.links.statusreport import StatusReport, UpdateNews, UpdateState

MAX_WORDS = 400
_GIVEN_UP = (State.ROLLED_BACK, State.INCONCLUSIVE)


def report_of(status: AgentStatus) -> StatusReport:
    """Counts, names of releases and whether the laws hold; nothing of the drive."""
    lanes = status.spool.lanes
    lost = sum(sum(reasons.values()) for lane in lanes for reasons in (lane.dropped, lane.evicted, lane.quarantined))
    return StatusReport(
        version=status.version,
        records_waiting=sum(lane.spooled for lane in lanes),
        records_lost=lost,
        law_1_holds=status.law_1_holds,
        law_2_holds=status.law_2_holds,
        law_6_holds=status.law_6_holds,
        update=None if status.updates is None else _news(status.updates),
    )


def is_urgent(report: StatusReport, before: StatusReport | None, hinted: bool) -> bool:
    """Whether somebody may wait for it: all but counts. Who hinted waits for the count of looks to rise, too."""
    if before is None:
        return True
    return _matter(report, hinted) != _matter(before, hinted)


def _matter(report: StatusReport, hinted: bool) -> tuple[object, ...]:
    update = report.update
    if update is not None and not hinted:
        update = msgspec.structs.replace(update, looks=0)
    return report.version, report.law_1_holds, report.law_2_holds, report.law_6_holds, update


def _news(updates: UpdatesStatus) -> UpdateNews:
    trying = [kind.trial for kind in updates.kinds if kind.trial is not None]
    kept = [kind.good for kind in updates.kinds if kind.good is not None]
    given_up = [kind.words for kind in updates.kinds if kind.state in _GIVEN_UP and kind.words]
    if trying or updates.whole or updates.waits is not None:
        state, words = UpdateState.UNDER_WAY, ""
    elif updates.trouble or given_up:
        state, words = UpdateState.FAILED, updates.trouble or given_up[0]
    else:
        state, words = UpdateState.SETTLED, ""
    release = next(iter(trying or kept), None)
    return UpdateNews(
        looks=updates.looks,
        state=state,
        title=release.title if release is not None else "",
        digest=release.digest if release is not None else "",
        words=words[:MAX_WORDS],
    )
