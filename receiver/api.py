"""The vehicles' HTTPS API: pairing, renewal, welcome, signed time, health, updates, objects: docs/formats."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ecu.clock import Clock
from receiver import admission, checkpoints
from receiver.admission import NotAdmitted, TooOften
from receiver.counters import Counters
from receiver.objects import ObjectDesk
from receiver.pki import Authority, BadRequest, Certificate, Stranger, identify
from receiver.quota import Quota
from receiver.store import Store, StoreError
from receiver.updates import UpdateShelf
from receiver.web import CLIENT_CERTIFICATE, TooLarge, answer, body_of
from telemetry.links.checkpoints import CHECKPOINT_PATH, CheckpointRequest
from telemetry.links.pairing import (
    MAX_MESSAGE_BYTES,
    PAIR_PATH,
    RENEW_PATH,
    TIME_PATH,
    WELCOME_PATH,
    BadMessage,
    Issued,
    PairRequest,
    Refusal,
    RenewRequest,
    TimeAnswer,
    Welcome,
    is_nonce,
    read_message,
    time_message,
)

log = structlog.get_logger()

HEALTH_PATH: Final = "/v1/health"

_STATUS: Final[dict[type[Exception], int]] = {
    BadMessage: 400,
    BadRequest: 400,
    NotAdmitted: 403,
    Stranger: 403,
    TooLarge: 413,
    TooOften: 429,
    StoreError: 503,
}

Answering = Callable[[Request], Awaitable[Response]]


class Api:
    """Each answer's decision is made elsewhere; here it becomes HTTP. `quota` is of refusals, by vehicle or address."""

    def __init__(
        self,
        store: Store,
        authority: Authority,
        clock: Clock,
        quota: Quota,
        counters: Counters,
        shelf: UpdateShelf,
        desk: ObjectDesk,
        more: Sequence[BaseRoute] = (),
    ) -> None:
        self._store = store
        self._authority = authority
        self._clock = clock
        self._quota = quota
        self._counters = counters
        self._shelf = shelf
        self._desk = desk
        self._more = more

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route(PAIR_PATH, self._guarded(self._pair), methods=["POST"]),
                Route(RENEW_PATH, self._guarded(self._renew), methods=["POST"]),
                Route(WELCOME_PATH, self._guarded(self._welcome)),
                Route(CHECKPOINT_PATH, self._guarded(self._checkpoint), methods=["POST"]),
                Route(TIME_PATH, self._time),
                Route(HEALTH_PATH, self._health),
                *self._shelf.routes(),
                *self._desk.routes(),
                *self._more,
            ]
        )

    async def _pair(self, request: Request) -> Response:
        asked = read_message(await body_of(request, MAX_MESSAGE_BYTES), PairRequest)
        issued = await self._store.transact(
            admission.pair, self._authority, asked.token, asked.csr.encode(), self._clock.wall_ns()
        )
        self._counters.paired += 1
        log.info("paired", vehicle=issued.vehicle)
        return _issued(issued)

    async def _renew(self, request: Request) -> Response:
        who = identify(request.scope[CLIENT_CERTIFICATE])
        asked = read_message(await body_of(request, MAX_MESSAGE_BYTES), RenewRequest)
        issued = await self._store.transact(
            admission.renew, self._authority, who, asked.csr.encode(), self._clock.wall_ns()
        )
        self._counters.renewed += 1
        log.info("renewed", vehicle=issued.vehicle)
        return _issued(issued)

    async def _welcome(self, request: Request) -> Response:
        who = identify(request.scope[CLIENT_CERTIFICATE])
        await self._store.transact(admission.check, who, self._clock.wall_ns())
        return answer(Welcome(who.vehicle))

    async def _checkpoint(self, request: Request) -> Response:
        who = identify(request.scope[CLIENT_CERTIFICATE])
        asked = read_message(await body_of(request, MAX_MESSAGE_BYTES), CheckpointRequest)
        answered = await self._store.transact(checkpoints.exchange, self._authority, who, asked, self._clock.wall_ns())
        self._counters.audit_checkpoints += 1
        return answer(answered)

    async def _time(self, request: Request) -> Response:
        nonce = request.query_params.get("nonce", "")
        if not is_nonce(nonce):
            return answer(Refusal("A nonce has 16 to 32 bytes, in hex."), 400)
        wall_ns = self._clock.wall_ns()
        return answer(TimeAnswer(wall_ns, nonce, self._authority.sign(time_message(nonce, wall_ns)).hex()))

    async def _health(self, request: Request) -> Response:
        return answer({"ok": True})

    def _guarded(self, handle: Answering) -> Answering:
        """Refusals become words, and cost whoever asked of its share.

        What is right is granted whatever was refused before: a carrier has many vehicles behind one address.
        """

        async def guarded(request: Request) -> Response:
            try:
                return await handle(request)
            except tuple(_STATUS) as error:
                return self._refuse(error, _who_asks(request))

        return guarded

    def _refuse(self, error: Exception, who: str) -> Response:
        log.warning("pairing_refused", who=who, reason=str(error))
        if (status := _STATUS[type(error)]) >= 500:
            return answer(Refusal("The receiver's store is out of order. Try later."), status)
        if (wait_s := self._quota.take(who, 1, self._clock.boot_ns())) > 0.0:
            self._counters.pairing_throttled += 1
            return _wait(f"Too many requests of {who} were refused. Wait.", wait_s)
        self._counters.pairing_refused += 1
        if isinstance(error, TooOften):
            return _wait(str(error), error.wait_s)
        return answer(Refusal(str(error)), status)


def _who_asks(request: Request) -> str:
    """The vehicle whose certificate TLS has verified, else the address."""
    try:
        return identify(request.scope[CLIENT_CERTIFICATE]).vehicle
    except Stranger:
        return request.client.host if request.client else ""


def _wait(words: str, wait_s: float) -> Response:
    return answer(Refusal(words), 429, {"retry-after": str(int(wait_s) + 1)})


def _issued(certificate: Certificate) -> Response:
    return answer(Issued(certificate.vehicle, certificate.pem.decode()))
