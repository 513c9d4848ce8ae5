"""What a vehicle's report says about a release. The one place that knows what counts as having it."""

from __future__ import annotations

from enum import StrEnum

from telemetry.records import UpdateReport


class Outcome(StrEnum):
    COMMITTED = "committed"
    FAILED = "failed"
    SILENT = "silent"
    UNDECIDED = "undecided"


JUDGED_BAD = (Outcome.FAILED, Outcome.SILENT)


def outcome_of(report: UpdateReport, digest: str) -> Outcome | None:
    """None where it says nothing about that release, or not yet. Written to a slot is no outcome: only what ran, was
    judged and is kept under this digest has it."""
    if report.digest != digest:
        return None
    match report.what:
        case "committed":
            return Outcome.COMMITTED
        case "rolled_back" | "damaged" | "refused":
            return Outcome.FAILED
        case "inconclusive":
            return Outcome.UNDECIDED
        case _:
            return None
