"""What a vehicle's report says about a release. The one place that knows what counts as having it."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from telemetry.records import UpdateReport


class Outcome(StrEnum):
    COMMITTED = "committed"
    FAILED = "failed"
    SILENT = "silent"
    UNDECIDED = "undecided"
    MISPLACED = "misplaced"  # the release isn't for its hardware: it counts for nothing


JUDGED_BAD = (Outcome.FAILED, Outcome.SILENT)


def outcome_of(report: UpdateReport, digest: str, is_vouched_for: Callable[[], bool]) -> Outcome | None:
    """None where it says nothing about that release, or not yet. Written to a slot is no outcome: only what ran, was
    judged and is kept under this digest has it, and that the vehicle vouches for by its signed manifest alone."""
    if report.digest != digest:
        return None
    match report.what:
        case "committed":
            return Outcome.COMMITTED if is_vouched_for() else None
        case "rolled_back" | "damaged" | "refused":
            return Outcome.FAILED
        case "inconclusive":
            return Outcome.UNDECIDED
        case _:
            return None


def is_lost_again(report: UpdateReport) -> bool:
    """Whether who kept the release has it no longer: success, and failure later."""
    return report.what in ("rolled_back", "damaged")
