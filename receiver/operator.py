"""The operator's API: HTTP on a Unix socket that only the receiver's user can open. Its client: receiver/client.py."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ecu.clock import SECOND_NS, Clock
from ecu.errors import EnvironmentFault, OutriderError, UsageFault
from receiver import admission, checkpoints, completeness, journal, objectrows
from receiver.admission import NotAdmitted
from receiver.answers import (
    AuditLine,
    AuditTail,
    AuditVerdict,
    FleetMember,
    ObjectLine,
    Revoked,
    VehicleRecords,
    checked_vehicle,
)
from receiver.counters import Counters
from receiver.endpoint import Endpoint
from receiver.learning.desk import LearningDesk
from receiver.learning.routes import routes as learning_routes
from receiver.objectfiles import ObjectFiles
from receiver.pki import Authority
from receiver.rollouts.desk import RolloutDesk
from receiver.rollouts.routes import routes as rollout_routes
from receiver.store import Store
from receiver.web import TooLarge, answer, body_of
from telemetry.links.checkpoints import CheckpointAnswer
from telemetry.links.pairing import PairingFile, Refusal
from telemetry.records import Lane
from telemetry.wire import MAX_HINT_CHARACTERS

TOKEN_BYTES: Final = 32
OBJECTS_SHOWN: Final = 10_000
MAX_HELD_BYTES: Final = 16 << 20
REVOKED: Final = "the operator revoked this vehicle's certificates"


@dataclass(frozen=True, slots=True)
class Address:
    """Where vehicles find this receiver."""

    host: str
    mqtt_port: int
    https_port: int


class Operator:
    """What an operator may ask and do. The handlers only translate."""

    def __init__(
        self,
        store: Store,
        authority: Authority,
        endpoint: Endpoint,
        clock: Clock,
        counters: Counters,
        address: Address,
        enrolment_s: float,
        roots: Callable[[], tuple[str, str]],
        objects: Path,
        learning: LearningDesk,
        rollouts: RolloutDesk,
        hint_elsewhere: Callable[[str, str], bool] | None = None,
        on_revoked: Callable[[str], None] | None = None,
    ) -> None:
        self._store = store
        self._authority = authority
        self._endpoint = endpoint
        self._clock = clock
        self._counters = counters
        self._address = address
        self._enrolment_ns = int(enrolment_s * SECOND_NS)
        self._roots = roots
        self._objects = objects
        self._learning = learning
        self._rollouts = rollouts
        self._hint_elsewhere = hint_elsewhere
        self._on_revoked = on_revoked

    async def enrol(self, vehicle: str) -> PairingFile:
        """What lets `vehicle` pair once. Raises UsageFault for a name that can't be one."""
        vehicle = checked_vehicle(vehicle)
        now_ns = self._clock.wall_ns()
        token = secrets.token_urlsafe(TOKEN_BYTES)
        await self._store.transact(admission.enrol, vehicle, token, now_ns, now_ns + self._enrolment_ns)
        director_root, image_root = self._roots()
        return PairingFile(
            vehicle=vehicle,
            host=self._address.host,
            mqtt_port=self._address.mqtt_port,
            https_port=self._address.https_port,
            ca=self._authority.pem,
            token=token,
            expires=_rfc3339(now_ns + self._enrolment_ns),
            director_root=director_root,
            image_root=image_root,
        )

    async def fleet(self) -> list[FleetMember]:
        members = await self._store.transact(admission.fleet, self._clock.wall_ns())
        return [self._member(member) for member in members]

    async def records(self, vehicle: str) -> VehicleRecords:
        """What is stored of it, what left it and what is missing. Raises NotAdmitted."""
        return await self._store.transact(completeness.of_vehicle, vehicle)

    async def revoke(self, vehicle: str) -> Revoked:
        """Durably, and then its live session is cut. Raises NotAdmitted for a vehicle that isn't of the fleet."""
        certificates = await self._store.transact(admission.revoke, vehicle, self._clock.wall_ns())
        if self._on_revoked is not None:
            self._on_revoked(vehicle)
        return Revoked(vehicle, certificates, self._endpoint.cut(vehicle, REVOKED))

    async def audit(self, last: int) -> AuditTail:
        entries = await self._store.transact(journal.tail, last)
        lines = [AuditLine(e.seq, e.wall_ns, e.event, e.subject, e.detail, e.digest.hex()) for e in entries]
        return AuditTail(lines, await journal.broken_at(self._store))

    async def verify_audit(self, held: Sequence[CheckpointAnswer]) -> AuditVerdict:
        """The audit's chain, against all that vehicles have signed of it, and what they hold."""
        return await checkpoints.verify(self._store, self._authority, held)

    async def objects(self, vehicle: str | None = None) -> list[ObjectLine]:
        """The newest OBJECTS_SHOWN stored objects, of one vehicle or of all, and where their files are."""
        name = checked_vehicle(vehicle) if vehicle is not None else None
        stored = await self._store.transact(objectrows.newest, name, OBJECTS_SHOWN)
        return [
            ObjectLine(o.vehicle, o.sha256, o.bytes, o.stored_ns, str(self.object_path(o.vehicle, o.sha256)))
            for o in stored
        ]

    def object_path(self, vehicle: str, sha256: str) -> Path:
        """The file of a stored object: its bytes as they were taken."""
        return self._objects / ObjectFiles.path(vehicle, sha256)

    def stats(self) -> dict[str, int]:
        return {"connections": self._endpoint.connections, **self._counters.as_dict()}

    def hint(self, vehicle: str, kind: str) -> bool:
        """Whether the vehicle was there to hear it. Raises UsageFault for a kind that no vehicle would read."""
        if not kind.isascii() or not 0 < len(kind) <= MAX_HINT_CHARACTERS:
            raise UsageFault(f"A hint has 1 to {MAX_HINT_CHARACTERS} ASCII characters.")
        if self._endpoint.hint(vehicle, kind):
            return True
        return self._hint_elsewhere is not None and self._hint_elsewhere(vehicle, kind)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/vehicles", _spoken(self._fleet)),
                Route("/vehicles/{vehicle}/enrolment", _spoken(self._enrol), methods=["POST"]),
                Route("/vehicles/{vehicle}/revocation", _spoken(self._revoke), methods=["POST"]),
                Route("/vehicles/{vehicle}/records", _spoken(self._records)),
                Route("/vehicles/{vehicle}/hint/{kind}", _spoken(self._hint), methods=["POST"]),
                Route("/objects", _spoken(self._list_objects)),
                Route("/stats", _spoken(self._stats)),
                Route("/audit", _spoken(self._audit)),
                Route("/audit/verification", _spoken(self._verify_audit), methods=["POST"]),
                *learning_routes(self._learning, _spoken),
                *rollout_routes(self._rollouts, _spoken),
            ]
        )

    def _member(self, member: admission.Member) -> FleetMember:
        return FleetMember(
            member.vehicle,
            self._endpoint.is_connected(member.vehicle),
            member.enrolled_ns,
            member.seen_ns,
            member.certificates,
            {lane.name: member.records.get(lane, 0) for lane in Lane},
        )

    async def _enrol(self, request: Request) -> Response:
        return answer(await self.enrol(request.path_params["vehicle"]))

    async def _fleet(self, request: Request) -> Response:
        return answer(await self.fleet())

    async def _records(self, request: Request) -> Response:
        return answer(await self.records(request.path_params["vehicle"]))

    async def _revoke(self, request: Request) -> Response:
        return answer(await self.revoke(request.path_params["vehicle"]))

    async def _hint(self, request: Request) -> Response:
        return answer({"heard": self.hint(request.path_params["vehicle"], request.path_params["kind"])})

    async def _list_objects(self, request: Request) -> Response:
        return answer(await self.objects(request.query_params.get("vehicle")))

    async def _stats(self, request: Request) -> Response:
        return answer(self.stats())

    async def _audit(self, request: Request) -> Response:
        last = request.query_params.get("last", "")
        return answer(await self.audit(min(int(last), 10_000) if last.isdecimal() else 20))

    async def _verify_audit(self, request: Request) -> Response:
        try:
            held = msgspec.json.decode(await body_of(request, MAX_HELD_BYTES), type=list[CheckpointAnswer])
        except (ValueError, RecursionError, TooLarge) as error:  # msgspec's own are ValueErrors
            raise UsageFault(f"Those are no checkpoints: {error}.") from error
        return answer(await self.verify_audit(held))


def _spoken(handle: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Our own errors as words, with the exit code that they are worth."""

    async def spoken(request: Request) -> Response:
        try:
            return await handle(request)
        except OutriderError as error:
            return answer(Refusal(str(error)), _status_of(error))

    return spoken


def _status_of(error: OutriderError) -> int:
    match error:
        case UsageFault():
            return 400
        case EnvironmentFault():
            return 503
        case NotAdmitted():
            return 404
        case _:
            return 409


def _rfc3339(wall_ns: int) -> str:
    moment = datetime.datetime.fromtimestamp(wall_ns // SECOND_NS, datetime.UTC)
    return moment.isoformat().replace("+00:00", "Z")
