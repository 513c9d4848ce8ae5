"""A double of Event Grid: pushes a hub's telemetry to a subscriber over HTTPS, in batches, again until it is taken.

Schema and validation handshake: learn.microsoft.com/azure/event-grid/event-schema-iot-hub and
learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import http.client
import itertools
import json
import ssl
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from simulator.clouds.hub import Telemetry

EVENTS_A_PUSH: Final = 16
PUSHES_AT_ONCE: Final = 4
TIMEOUT_S: Final = 30.0
AGAIN_S: Final = 1.0
WAITING_KEPT: Final = 10_000
_MOMENT: Final = "2026-01-01T00:00:00.000Z"


class NotValidated(Exception):
    """The subscriber didn't answer the handshake as one must."""


@dataclass(frozen=True, slots=True)
class Subscriber:
    """Where events go: `path` holds the code that proves who pushes."""

    host: str
    port: int
    path: str
    context: ssl.SSLContext


class EventGrid:
    """Nothing is pushed before `subscribe`, and nothing is lost after it while this lives."""

    def __init__(self) -> None:
        self.pushes = 0
        self.failures = 0
        self.subscriber: Subscriber | None = None
        self._waiting: deque[dict[str, Any]] = deque(maxlen=WAITING_KEPT)
        self._pushing: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(PUSHES_AT_ONCE, thread_name_prefix="eventgrid")
        self._names = itertools.count(1)

    async def subscribe(self, subscriber: Subscriber) -> None:
        """Raises NotValidated unless the subscriber proves that it wants them."""
        code = f"double-{next(self._names)}"
        event = _event("Microsoft.EventGrid.SubscriptionValidationEvent", {"validationCode": code})
        status, answer = await self._post(subscriber, "SubscriptionValidation", [event])
        if status != 200 or json.loads(answer).get("validationResponse") != code:
            raise NotValidated(f"The subscriber answered {status}: {answer!r}")
        self.subscriber = subscriber
        self._stir()

    def take(self, told: Telemetry) -> None:
        self._waiting.append(_event("Microsoft.Devices.DeviceTelemetry", event_data(told)))
        self._stir()

    async def settled(self) -> None:
        """Returns when everything that was taken has been pushed."""
        while self._pushing:
            await asyncio.wait(self._pushing)

    async def close(self) -> None:
        for task in self._pushing:
            task.cancel()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    def _stir(self) -> None:
        if self.subscriber is not None and self._waiting and len(self._pushing) < PUSHES_AT_ONCE:
            push = asyncio.get_running_loop().create_task(self._push(self.subscriber))
            self._pushing.add(push)
            push.add_done_callback(self._pushed)

    def _pushed(self, push: asyncio.Task[None]) -> None:
        self._pushing.discard(push)
        if not push.cancelled():
            self._stir()

    async def _push(self, subscriber: Subscriber) -> None:
        batch = [self._waiting.popleft() for _ in range(min(EVENTS_A_PUSH, len(self._waiting)))]
        while batch:
            try:
                status, _ = await self._post(subscriber, "Notification", batch)
            except (OSError, http.client.HTTPException):
                status = 0
            self.pushes += 1
            if status == 200:
                return
            self.failures += 1
            await asyncio.sleep(AGAIN_S)

    async def _post(self, subscriber: Subscriber, kind: str, events: list[dict[str, Any]]) -> tuple[int, bytes]:
        post = functools.partial(_post, subscriber, kind, json.dumps(events).encode())
        return await asyncio.get_running_loop().run_in_executor(self._threads, post)


def event_data(told: Telemetry) -> Mapping[str, Any]:
    """Base64, since no content type says that it is JSON."""
    return {
        "properties": dict(told.properties),
        "systemProperties": {
            "iothub-connection-device-id": told.device,
            "iothub-connection-auth-method": '{"scope":"device","type":"x509Certificate","issuer":"iothub"}',
            "iothub-enqueuedtime": _MOMENT,
            "iothub-message-source": "Telemetry",
        },
        "body": base64.b64encode(told.body).decode(),
    }


def _event(kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": "double",
        "topic": "/SUBSCRIPTIONS/double",
        "subject": "devices",
        "eventType": kind,
        "eventTime": _MOMENT,
        "data": data,
        "dataVersion": "",
        "metadataVersion": "1",
    }


def _post(subscriber: Subscriber, kind: str, body: bytes) -> tuple[int, bytes]:
    line = http.client.HTTPSConnection(subscriber.host, subscriber.port, timeout=TIMEOUT_S, context=subscriber.context)
    try:
        headers = {"content-type": "application/json", "aeg-event-type": kind}
        line.request("POST", subscriber.path, body, headers)
        response = line.getresponse()
        return response.status, response.read()
    finally:
        line.close()
