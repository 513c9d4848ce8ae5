"""Talks to a running receiver on its operator's socket."""

from __future__ import annotations

import http.client
import socket
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ecu.errors import EnvironmentFault, OutriderError, UsageFault
from receiver.answers import AuditTail, AuditVerdict, FleetMember, ObjectLine, Revoked, VehicleRecords, checked_vehicle
from receiver.learning.answers import (
    CLOSE_PATH,
    PLANS_PATH,
    STATUS_PATH,
    BeginRequest,
    Claimed,
    LearningStatus,
    PlanLine,
)
from receiver.rollouts.answers import (
    REPOSITORY_PATH,
    ROLLOUTS_PATH,
    RoleLine,
    RolloutLine,
    Signed,
    SignRequest,
    StartRequest,
    StopRequest,
)
from receiver.rollouts.approval import Statement
from telemetry.links.checkpoints import CheckpointAnswer
from telemetry.links.pairing import PairingFile, Refusal

SOCKET = "receiver.sock"

T = TypeVar("T")

_FAULTS: dict[int, type[OutriderError]] = {400: UsageFault, 404: OutriderError, 409: OutriderError}


class OperatorClient:
    """Each call raises EnvironmentFault when no receiver runs on that state folder, else what the receiver said."""

    def __init__(self, state: Path, timeout_s: float = 30.0) -> None:
        self._path = state / SOCKET
        self._timeout_s = timeout_s

    def enrol(self, vehicle: str) -> PairingFile:
        return self._ask("POST", f"/vehicles/{checked_vehicle(vehicle)}/enrolment", PairingFile)

    def fleet(self) -> list[FleetMember]:
        return self._ask("GET", "/vehicles", list[FleetMember])

    def records(self, vehicle: str) -> VehicleRecords:
        return self._ask("GET", f"/vehicles/{checked_vehicle(vehicle)}/records", VehicleRecords)

    def revoke(self, vehicle: str) -> Revoked:
        return self._ask("POST", f"/vehicles/{checked_vehicle(vehicle)}/revocation", Revoked)

    def hint(self, vehicle: str, kind: str) -> bool:
        return self._ask("POST", f"/vehicles/{checked_vehicle(vehicle)}/hint/{kind}", dict[str, bool])["heard"]

    def objects(self, vehicle: str | None = None) -> list[ObjectLine]:
        whose = "" if vehicle is None else f"?vehicle={checked_vehicle(vehicle)}"
        return self._ask("GET", f"/objects{whose}", list[ObjectLine])

    def stats(self) -> dict[str, int]:
        return self._ask("GET", "/stats", dict[str, int])

    def audit(self, last: int) -> AuditTail:
        return self._ask("GET", f"/audit?last={last}", AuditTail)

    def verify_audit(self, held: Sequence[CheckpointAnswer]) -> AuditVerdict:
        return self._ask("POST", "/audit/verification", AuditVerdict, msgspec.json.encode(held))

    def begin_learning(self, plan: str, package: Path, crops: Path | None) -> PlanLine:
        """Paths as the caller means them."""
        asked = BeginRequest(plan, str(package.absolute()), "" if crops is None else str(crops.absolute()))
        return self._ask("POST", PLANS_PATH, PlanLine, msgspec.json.encode(asked))

    def close_buffer(self, plan: str) -> Claimed:
        return self._ask("POST", f"{CLOSE_PATH}?plan={urllib.parse.quote(plan)}", Claimed)

    def learning_plans(self) -> list[PlanLine]:
        return self._ask("GET", PLANS_PATH, list[PlanLine])

    def learning_status(self) -> LearningStatus:
        return self._ask("GET", STATUS_PATH, LearningStatus)

    def start_rollout(self, asked: StartRequest) -> RolloutLine:
        return self._ask("POST", ROLLOUTS_PATH, RolloutLine, msgspec.json.encode(asked))

    def rollouts(self, name: str = "") -> list[RolloutLine]:
        return self._ask("GET", f"{ROLLOUTS_PATH}?name={urllib.parse.quote(name)}", list[RolloutLine])

    def repository(self) -> list[RoleLine]:
        return self._ask("GET", REPOSITORY_PATH, list[RoleLine])

    def rollout_statement(self, name: str, act: str) -> Statement:
        return self._ask("GET", f"{_rollout_path(name)}/statement?act={act}", Statement)

    def sign_rollout(self, name: str, act: str, by: str, signature: bytes) -> Signed:
        asked = msgspec.json.encode(SignRequest(act, by, signature.hex()))
        return self._ask("POST", f"{_rollout_path(name)}/signature", Signed, asked)

    def stop_rollout(self, name: str, act: str, by: str) -> RolloutLine:
        asked = msgspec.json.encode(StopRequest(act, by))
        return self._ask("POST", f"{_rollout_path(name)}/stop", RolloutLine, asked)

    def _ask(self, method: str, path: str, kind: type[T], body: bytes | None = None) -> T:
        connection = _UnixConnection(self._path, self._timeout_s)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            told = response.read()
        except (OSError, http.client.HTTPException) as error:
            start = f"outrider receiver run --state {self._path.parent}"
            raise EnvironmentFault(f"No receiver answers at {self._path} ({error}). Start one: {start}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise _FAULTS.get(response.status, EnvironmentFault)(_words(told, response.status))
        return msgspec.json.decode(told, type=kind)


def _rollout_path(name: str) -> str:
    return f"{ROLLOUTS_PATH}/{urllib.parse.quote(name, safe='')}"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path
        self._seconds = timeout_s

    def connect(self) -> None:
        self.sock: Any = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._seconds)
        self.sock.connect(str(self._path))


def _words(body: bytes, status: int) -> str:
    try:
        return msgspec.json.decode(body, type=Refusal).error
    except (ValueError, RecursionError):  # msgspec's own errors, and UnicodeDecodeError
        return f"The receiver answered {status}."
