"""The vehicles' MQTT 5 endpoint: no broker. It takes blocks and status, and gives receipts and hints.

Who a vehicle is, its certificate says; client id, user name and topics are only compared with that. One session a
vehicle: a newer one takes over. Revocation cuts a live one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final

import msgspec
import structlog
from mqtt5 import ConnAckReasonCode, DisconnectReasonCode

from ecu.clock import SECOND_NS, Clock
from receiver import admission, journal
from receiver.admission import NotAdmitted
from receiver.counters import Counters
from receiver.inbox import STORED, Answer, Outcome, Verdict
from receiver.ingest import BUSY, GREEDY, Ingest, promised
from receiver.quota import Quota
from receiver.session import Phase, Session, SessionLimits
from receiver.store import Store, StoreError
from telemetry.records import Lane
from telemetry.wire import Receipt, pack_receipt

log = structlog.get_logger()

MAX_STATUS_BYTES: Final = 64 * 1024
CONNECTIONS_PER_VEHICLE: Final = 4
"""The one it has, the one that takes over, and those whose end it never noticed."""
_ALARMS_PER_S: Final = 1 / 60
_ALARMS_AT_ONCE: Final = 10


class Endpoint:
    """All sessions. It answers their questions (session.Desk) with the store and the ingest."""

    def __init__(
        self,
        store: Store,
        ingest: Ingest,
        clock: Clock,
        counters: Counters,
        limits: SessionLimits,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.clock = clock
        self.counters = counters
        self.limits = limits
        self._store = store
        self._ingest = ingest
        self._tasks = tasks
        self._alarms = Quota(_ALARMS_PER_S, _ALARMS_AT_ONCE)
        self._connections: dict[Session, None] = {}  # oldest first
        self._current: dict[str, Session] = {}
        self._seen_ns: dict[str, int] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def session(self) -> Session:
        """The protocol of a new connection."""
        return Session(self)

    @property
    def connections(self) -> int:
        """Of vehicles' certificates, admitted or not yet."""
        return len(self._connections)

    def has_room(self) -> bool:
        return self.connections < self.limits.connections

    def is_connected(self, vehicle: str) -> bool:
        return vehicle in self._current

    def deliver(self, vehicle: str, receipt: Receipt) -> None:
        """To a vehicle that has gone meanwhile: it will send the block again, and get its receipt then."""
        if (session := self._current.get(vehicle)) is not None:
            session.tell("receipt", pack_receipt(receipt))

    def hint(self, vehicle: str, kind: str) -> bool:
        """Tells the vehicle to go and look; False when it isn't there to hear it."""
        session = self._current.get(vehicle)
        return session is not None and session.tell("hint", kind.encode())

    def cut(self, vehicle: str, words: str) -> int:
        """Ends every connection of the vehicle at once, also one still being checked; how many."""
        mine = [session for session in self._standing() if session.vehicle == vehicle]
        for session in mine:
            self.counters.cut += 1
            session.cut(DisconnectReasonCode.ADMINISTRATIVE_ACTION, words)
        return len(mine)

    def _thin_out(self, vehicle: str) -> None:
        """Ends the vehicle's oldest connection that hasn't said CONNECT, when it has too many."""
        mine = [session for session in self._standing() if session.vehicle == vehicle]
        if len(mine) > CONNECTIONS_PER_VEHICLE:
            self.counters.crowded_out += 1
            silent = next(session for session in mine if session.phase is Phase.WAITING)
            silent.cut(DisconnectReasonCode.QUOTA_EXCEEDED, "this vehicle has too many connections")

    def _standing(self) -> list[Session]:
        """All but those that ended already: their transports may take a while to say goodbye."""
        return [session for session in self._connections if session.phase is not Phase.OVER]

    async def keep_time(self) -> None:
        """Ends the silent and the expired, and notes who was seen, once a second until cancelled."""
        while True:
            await self.clock.sleep_until(self.clock.boot_ns() + SECOND_NS)
            self.end_overdue()
            await self._note_seen()

    def end_overdue(self) -> None:
        now_ns, wall_ns = self.clock.boot_ns(), self.clock.wall_ns()
        for session in self._standing():
            if session.deadline_ns <= now_ns:
                self.counters.overdue += 1
                session.cut(DisconnectReasonCode.KEEP_ALIVE_TIMEOUT, "nothing whole came for too long")
            elif session.welcome_until_ns <= wall_ns:
                self.counters.expired += 1
                session.cut(DisconnectReasonCode.NOT_AUTHORIZED, "the certificate has expired")

    async def close(self) -> None:
        """Says goodbye to everyone, and returns when they are gone (the transport's time-out sees to that)."""
        for session in list(self._connections):
            session.cut(DisconnectReasonCode.SERVER_SHUTTING_DOWN, "the receiver is stopping")
        await self._empty.wait()
        await self._note_seen()

    # session.Desk

    def arrived(self, session: Session) -> None:
        self._connections[session] = None
        self._empty.clear()
        self._thin_out(session.vehicle)

    def check(self, session: Session) -> None:
        self._start(self._check(session))

    def left(self, session: Session) -> None:
        self._connections.pop(session, None)
        if not self._connections:
            self._empty.set()
        # A session that was taken over leaves its successor alone.
        if self._current.get(session.vehicle) is session:
            del self._current[session.vehicle]
            self._seen_ns[session.vehicle] = self.clock.wall_ns()
            log.info("vehicle_left", vehicle=session.vehicle)

    def offer(self, vehicle: str, lane: Lane, block: bytes, answer: Answer) -> None:
        self._ingest.offer(vehicle, lane, block, partial(self._heed, vehicle, answer))

    def submit(self, vehicle: str, lane: Lane, block: bytes) -> asyncio.Future[Verdict]:
        """As `offer`, for who didn't come through a session of ours."""
        return promised(partial(self.offer, vehicle, lane, block))

    def report(self, vehicle: str, status: bytes) -> asyncio.Future[Verdict]:
        answer: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        # Each is a transaction, however short: all cost as much as the longest.
        if not self._ingest.charge(vehicle, MAX_STATUS_BYTES):
            answer.set_result(GREEDY)
        elif (words := _unfit(status)) is not None:
            answer.set_result(Verdict(Outcome.BAD, words))
        else:
            self._start(self._report(vehicle, status, answer))
        return answer

    def alarm(self, vehicle: str, event: str, detail: str) -> None:
        if self._alarms.take(vehicle, 1, self.clock.boot_ns()) == 0.0:
            self._start(self._alarm(vehicle, event, detail))

    def _heed(self, vehicle: str, answer: Answer, verdict: Verdict) -> None:
        if verdict.outcome is Outcome.UNSETTLED:
            self.alarm(vehicle, "conflict_unsettled", verdict.words)
        answer(verdict)

    # What takes the store's time

    async def _check(self, session: Session) -> None:
        try:
            until_ns = await self._store.transact(admission.check, session.identity, self.clock.wall_ns())
        except NotAdmitted as refusal:
            self.counters.not_admitted += 1
            log.warning("not_admitted", vehicle=session.vehicle, reason=str(refusal))
            session.turn_away(ConnAckReasonCode.NOT_AUTHORIZED, str(refusal))
        except StoreError as error:
            log.error("check_failed", vehicle=session.vehicle, reason=str(error))
            session.turn_away(ConnAckReasonCode.SERVER_UNAVAILABLE, "the receiver's store is out of order")
        else:
            self._open(session, until_ns)

    def _open(self, session: Session, until_ns: int) -> None:
        if session.phase is not Phase.CHECKING:
            return
        if (former := self._current.pop(session.vehicle, None)) is not None:
            self.counters.taken_over += 1
            former.cut(DisconnectReasonCode.SESSION_TAKEN_OVER, "a newer connection of this vehicle took over")
        self._current[session.vehicle] = session
        self._seen_ns[session.vehicle] = self.clock.wall_ns()
        self.counters.sessions += 1
        log.info("vehicle_connected", vehicle=session.vehicle)
        session.welcome(until_ns)

    async def _note_seen(self) -> None:
        # Together: a fleet that comes back at once must not wait for a commit a vehicle.
        seen_ns, self._seen_ns = self._seen_ns, {}
        if not seen_ns:
            return
        try:
            await self._store.transact(admission.mark_seen, seen_ns)
        except StoreError as error:
            log.error("seen_lost", vehicles=len(seen_ns), reason=str(error))

    async def _report(self, vehicle: str, status: bytes, answer: asyncio.Future[Verdict]) -> None:
        try:
            await self._store.transact(admission.report, vehicle, status, self.clock.wall_ns())
        except StoreError as error:
            log.error("report_failed", vehicle=vehicle, reason=str(error))
            answer.set_result(BUSY)
        else:
            self.counters.reports += 1
            answer.set_result(STORED)

    async def _alarm(self, vehicle: str, event: str, detail: str) -> None:
        try:
            await self._store.transact(journal.append, self.clock.wall_ns(), event, vehicle, detail)
        except StoreError as error:
            log.error("alarm_lost", vehicle=vehicle, alarm=event, reason=str(error))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.create_task(work)


def _unfit(status: bytes) -> str | None:
    """Why it isn't a status: a JSON object of bounded size."""
    if len(status) > MAX_STATUS_BYTES:
        return f"{len(status)} bytes of status are more than {MAX_STATUS_BYTES}"
    try:
        msgspec.json.decode(status, type=dict[str, Any])
    except (ValueError, RecursionError) as error:  # msgspec's own errors, and UnicodeDecodeError
        return f"a status is a JSON object: {error}"
    return None
