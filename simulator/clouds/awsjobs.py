"""The Jobs service as far as a vehicle meets it, as pure functions over executions (AWS IoT Core Developer Guide, "Jobs
device MQTT and HTTPS APIs")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

ENDED: Final = ("SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT", "REMOVED", "CANCELED")
_TOLD: Final = ("IN_PROGRESS", "SUCCEEDED", "FAILED", "REJECTED")


@dataclass(frozen=True, slots=True)
class Execution:
    """One job on one thing."""

    job_id: str
    thing: str
    document: Mapping[str, Any]
    queued_at: int
    status: str = "QUEUED"
    details: Mapping[str, str] = field(default_factory=dict)
    version: int = 1
    started_at: int | None = None
    updated_at: int = 0

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    def as_dict(self) -> dict[str, Any]:
        told = {
            "jobId": self.job_id,
            "thingName": self.thing,
            "status": self.status,
            "statusDetails": dict(self.details),
            "jobDocument": dict(self.document),
            "queuedAt": self.queued_at,
            "startedAt": self.started_at,
            "lastUpdatedAt": self.updated_at,
            "versionNumber": self.version,
            "executionNumber": 1,
        }
        return {name: value for name, value in told.items() if value is not None}

    def summary(self) -> dict[str, Any]:
        names = ("jobId", "queuedAt", "startedAt", "lastUpdatedAt", "versionNumber", "executionNumber")
        return {name: value for name, value in self.as_dict().items() if name in names}

    def state(self) -> dict[str, Any]:
        return {"status": self.status, "statusDetails": dict(self.details), "versionNumber": self.version}


class JobRefused(Exception):
    def __init__(self, code: str, message: str, execution: Execution | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.execution = execution


def next_of(executions: Sequence[Execution]) -> Execution | None:
    """The one that a thing is to work on: begun before queued, the oldest first."""
    pending = [execution for execution in executions if not execution.has_ended]
    return min(pending, key=lambda e: (e.status == "QUEUED", e.queued_at), default=None)


def started(execution: Execution, now_s: int) -> Execution:
    """As start-next leaves it; one that is under way stays as it is."""
    if execution.status != "QUEUED":
        return execution
    changes: dict[str, Any] = {"status": "IN_PROGRESS", "version": execution.version + 1}
    return replace(execution, started_at=now_s, updated_at=now_s, **changes)


def told(execution: Execution | None, request: Mapping[str, Any], now_s: int) -> Execution:
    """As an update leaves it. Raises JobRefused."""
    if execution is None:
        raise JobRefused("ResourceNotFound", "There is no such job execution")
    if execution.has_ended:
        raise JobRefused("InvalidStateTransition", f"It is {execution.status}", execution)
    expected, status = request.get("expectedVersion"), request.get("status")
    if expected is not None and int(expected) != execution.version:
        raise JobRefused("VersionMismatch", f"The version is {execution.version}", execution)
    if status not in _TOLD:
        raise JobRefused("InvalidRequest", f"{status} is no status that a device tells")
    details = request.get("statusDetails") or execution.details
    begun_at = execution.started_at or now_s
    version = execution.version + 1
    return replace(execution, status=status, details=details, version=version, started_at=begun_at, updated_at=now_s)
