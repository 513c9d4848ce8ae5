"""The operator's questions about rollouts over HTTP: receiver/operator.py has the socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ecu.errors import UsageFault
from receiver.rollouts.answers import REPOSITORY_PATH, ROLLOUTS_PATH, SignRequest, StartRequest, StopRequest
from receiver.rollouts.desk import RolloutDesk
from receiver.web import TooLarge, answer, body_of
from telemetry.links.pairing import BadMessage

Answering = Callable[[Request], Awaitable[Response]]
T = TypeVar("T")

_MOST_BYTES: Final = 16 << 20
"""A vehicle's line has 112 bytes at most."""


def routes(desk: RolloutDesk, spoken: Callable[[Answering], Answering]) -> list[Route]:
    """`spoken` makes answers of our errors."""

    async def start(request: Request) -> Response:
        return answer(await desk.start(await _asked(request, StartRequest)))

    async def sign(request: Request) -> Response:
        return answer(await desk.sign(request.path_params["name"], await _asked(request, SignRequest)))

    async def stop(request: Request) -> Response:
        return answer(await desk.stop(request.path_params["name"], await _asked(request, StopRequest)))

    async def statement(request: Request) -> Response:
        return answer(await desk.statement(request.path_params["name"], request.query_params.get("act", "")))

    async def lines(request: Request) -> Response:
        return answer(await desk.lines(request.query_params.get("name", "")))

    async def repository(request: Request) -> Response:
        return answer(await desk.repository())

    one = f"{ROLLOUTS_PATH}/{{name}}"
    return [
        Route(ROLLOUTS_PATH, spoken(start), methods=["POST"]),
        Route(ROLLOUTS_PATH, spoken(lines)),
        Route(REPOSITORY_PATH, spoken(repository)),
        Route(f"{one}/statement", spoken(statement)),
        Route(f"{one}/signature", spoken(sign), methods=["POST"]),
        Route(f"{one}/stop", spoken(stop), methods=["POST"]),
    ]


async def _asked(request: Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await body_of(request, _MOST_BYTES), type=kind)
    except (ValueError, RecursionError, TooLarge, BadMessage) as error:  # msgspec's own are ValueErrors
        raise UsageFault(f"That is no request about a rollout: {error}.") from error
