"""The operator's questions about learning over HTTP: receiver/operator.py has the socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ecu.errors import UsageFault
from receiver.learning.answers import CLOSE_PATH, PLANS_PATH, STATUS_PATH, BeginRequest
from receiver.learning.desk import LearningDesk
from receiver.web import TooLarge, answer, body_of
from telemetry.federated.plan import MAX_PLAN_BYTES
from telemetry.links.pairing import BadMessage

Answering = Callable[[Request], Awaitable[Response]]


def routes(desk: LearningDesk, spoken: Callable[[Answering], Answering]) -> list[Route]:
    """`spoken` makes answers of our errors."""

    async def begin(request: Request) -> Response:
        try:
            asked = msgspec.json.decode(await body_of(request, 2 * MAX_PLAN_BYTES), type=BeginRequest)
        except (ValueError, RecursionError, TooLarge, BadMessage) as error:  # msgspec's own are ValueErrors
            raise UsageFault(f"That is no request to begin a plan: {error}.") from error
        return answer(await desk.begin(asked))

    async def close(request: Request) -> Response:
        return answer(await desk.close(request.query_params.get("plan", "")))

    async def plans(request: Request) -> Response:
        return answer(await desk.plans())

    async def status(request: Request) -> Response:
        return answer(await desk.status())

    return [
        Route(PLANS_PATH, spoken(begin), methods=["POST"]),
        Route(PLANS_PATH, spoken(plans)),
        Route(CLOSE_PATH, spoken(close), methods=["POST"]),
        Route(STATUS_PATH, spoken(status)),
    ]
