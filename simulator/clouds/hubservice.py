"""A hub's service side: HTTPS, with shared access signatures, as far as our receiver uses it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import parse_qs, quote_plus

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ecu.clock import SECOND_NS, Clock
from receiver.listener import listen
from receiver.web import Site
from simulator.clouds.hub import HubDouble, NotOnline

POLICY: Final = "service"
_SCHEME: Final = "SharedAccessSignature "


class HubService:
    """Takes direct methods for the hub's devices from whoever has the policy's key."""

    def __init__(self, hub: HubDouble, key_base64: str, clock: Clock) -> None:
        self.calls: list[tuple[str, str]] = []  # device and method, as they came
        self.status = 0
        """When it isn't 0: what every call is answered, instead of being made."""
        self._hub = hub
        self._key = key_base64
        self._clock = clock

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/twins/{device}/methods", self._invoke, methods=["POST"])])

    async def _invoke(self, request: Request) -> Response:
        if not self._is_signed(request.headers.get("authorization", "")):
            return JSONResponse({"Message": "ErrorCode:IotHubUnauthorizedAccess"}, 401)
        if self.status:
            return JSONResponse({"Message": f"ErrorCode:{self.status}"}, self.status)
        asked, device = json.loads(await request.body()), request.path_params["device"]
        self.calls.append((device, asked["methodName"]))
        try:
            status, payload = await self._hub.invoke(
                device, asked["methodName"], asked["payload"], asked["responseTimeoutInSeconds"]
            )
        except NotOnline:
            return JSONResponse({"Message": "ErrorCode:DeviceNotOnline"}, 404)
        except TimeoutError:
            return JSONResponse({"Message": "ErrorCode:GatewayTimeout"}, 504)
        return JSONResponse({"status": status, "payload": payload})

    def _is_signed(self, token: str) -> bool:
        """As the hub's documentation computes it: learn.microsoft.com/azure/iot-hub/authenticate-authorize-sas."""
        told = {name: values[0] for name, values in parse_qs(token.removeprefix(_SCHEME)).items()}
        resource, ends = told.get("sr", ""), told.get("se", "")
        if resource != self._hub.host or told.get("skn") != POLICY or not ends.isdecimal():
            return False
        if int(ends) * SECOND_NS <= self._clock.wall_ns():
            return False
        signed = f"{quote_plus(resource)}\n{ends}".encode()
        expected = hmac.digest(base64.b64decode(self._key), signed, "sha256")
        return hmac.compare_digest(told.get("sig", "").encode(), base64.b64encode(expected))


@contextlib.asynccontextmanager
async def serving(service: HubService, hub: HubDouble) -> AsyncIterator[int]:
    """On the hub's own address; the port."""
    site = Site(service.app())
    listening = listen(hub.host, 0, "a double of a cloud")
    port = int(listening.getsockname()[1])
    server = await asyncio.get_running_loop().create_server(site.protocol, sock=listening, ssl=hub.server_context())
    try:
        yield port
    finally:
        server.close()
        await site.close()


def new_key(random: bytes) -> str:
    return base64.b64encode(random).decode()
