"""When a job that asked for a look is done: decided by what the vehicle reports, and by nothing in the job."""

from __future__ import annotations

from dataclasses import dataclass

from telemetry.links.statusreport import StatusReport, UpdateState

MAX_DETAIL_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class JobUnderWay:
    """An execution that this vehicle has begun. `looks_before` is what the last report said then; None: none was made.

    Its document isn't here: a job only says that there is something to look at.
    """

    job_id: str
    version: int
    looks_before: int | None


@dataclass(frozen=True, slots=True)
class JobNews:
    """What an execution is told. `status` is AWS's own word."""

    status: str
    details: dict[str, str]


def news_of(job: JobUnderWay, report: StatusReport) -> JobNews:
    """IN_PROGRESS until the vehicle has looked again since it saw the job, and what it found has come to an end."""
    update = report.update
    if update is None:
        return JobNews("FAILED", {"words": "this vehicle takes no updates: it wasn't told who signs them"})
    details = {
        "title": update.title[:MAX_DETAIL_CHARACTERS],
        "digest": update.digest[:MAX_DETAIL_CHARACTERS],
        "words": update.words[:MAX_DETAIL_CHARACTERS],
    }
    details = {name: value for name, value in details.items() if value}
    looked = job.looks_before is not None and update.looks > job.looks_before
    if not looked or update.state is UpdateState.UNDER_WAY:
        return JobNews("IN_PROGRESS", details)
    return JobNews("SUCCEEDED" if update.state is UpdateState.SETTLED else "FAILED", details)
