"""Device telemetry as Event Grid pushes it: from an IoT hub over HTTPS into the same ingest as everything else.

Who sent a message only the hub knows: its system property `iothub-connection-device-id`, set from the certificate that
the device connected with. So the push itself must prove that it comes from our hub: by a secret in the address that
the subscription calls (learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ecu.clock import Clock
from receiver import admission
from receiver.behind import DECISION, STRANGER
from receiver.counters import Counters
from receiver.hub import HubDesk
from receiver.inbox import Verdict
from receiver.store import Store, StoreError
from receiver.web import TooLarge, answer, body_of
from telemetry.links.azure.messages import lane_of
from telemetry.links.pairing import BadMessage, is_vehicle_id
from telemetry.links.pairing import Refusal as Words
from telemetry.records import Lane
from telemetry.wire import BadBlock, Decision, Refusal, block_name, unpack_block

EVENTS_PATH: Final = "/v1/hub/events"
MAX_PUSH_BYTES: Final = 1536 * 1024
"""Event Grid sends at most 1 MiB at once."""
_VALIDATION: Final = "Microsoft.EventGrid.SubscriptionValidationEvent"
_TELEMETRY: Final = "Microsoft.Devices.DeviceTelemetry"
_DEVICE: Final = "iothub-connection-device-id"

log = structlog.get_logger()

Submit = Callable[[str, Lane, bytes], "asyncio.Future[Verdict]"]


class _Data(msgspec.Struct, frozen=True):
    body: Any = None
    properties: dict[str, Any] = {}
    systemProperties: dict[str, Any] = {}
    validationCode: str = ""


class _Event(msgspec.Struct, frozen=True):
    eventType: str
    data: msgspec.Raw  # read event by event: one that is odd must not take its batch with it


_events = msgspec.json.Decoder(list[_Event])
_data = msgspec.json.Decoder(_Data)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a device, as the hub vouches for it."""

    vehicle: str
    lane: Lane | None
    block: bytes

    def refused(self, decision: Decision, words: str) -> Refusal:
        return Refusal(block_name(self.block), decision, words)


def message_of(event: _Event) -> Message:
    """Raises BadMessage for what no vehicle of ours sends."""
    data = _read(event)
    vehicle = data.systemProperties.get(_DEVICE)
    if not isinstance(vehicle, str) or not is_vehicle_id(vehicle):
        raise BadMessage("the hub names no device that could be a vehicle")
    if not isinstance(data.body, str):
        raise BadMessage(f"{vehicle} sent a body that isn't bytes: is a content type set?")
    try:
        block = base64.b64decode(data.body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadMessage(f"the body of {vehicle} isn't base64: {error}") from error
    return Message(vehicle, lane_of(data.properties), block)


def _read(event: _Event) -> _Data:
    try:
        return _data.decode(event.data)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"a {event.eventType} event can't be read: {error}") from error


class EventGridPush:
    """The endpoint. `submit` commits a block and says what became of it."""

    def __init__(
        self, secret: str, store: Store, clock: Clock, counters: Counters, submit: Submit, desk: HubDesk
    ) -> None:
        self._secret = secret.encode()
        self._store = store
        self._clock = clock
        self._counters = counters
        self._submit = submit
        self._desk = desk
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def stop(self) -> None:
        """What is being pushed is to be pushed again: nobody commits any more."""
        if not self._stopped.done():
            self._stopped.set_result(None)

    def routes(self) -> list[Route]:
        return [Route(EVENTS_PATH, self._pushed, methods=["POST"])]

    async def _pushed(self, request: Request) -> Response:
        # Compared as bytes: a secret that isn't ASCII must be wrong, not an error.
        if not hmac.compare_digest(request.query_params.get("code", "").encode(), self._secret):
            self._counters.hub_pushes_refused += 1
            return answer(Words("This address isn't for you: its code is wrong."), 401)
        try:
            events = _events.decode(await body_of(request, MAX_PUSH_BYTES))
            for event in events:
                if event.eventType == _VALIDATION:
                    return answer({"validationResponse": _read(event).validationCode})
        except TooLarge as error:
            return answer(Words(str(error)), 413)
        except (BadMessage, ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors
            self._counters.hub_events_ignored += 1
            return answer(Words(f"This is no batch of Event Grid events: {error}"), 400)
        return await self._taken([event for event in events if event.eventType == _TELEMETRY])

    async def _taken(self, pushed: list[_Event]) -> Response:
        """200 when each message is stored or its vehicle told why not; 503 brings the whole batch again."""
        messages = [message for event in pushed if (message := self._understood(event)) is not None]
        sound = [message for message in messages if not self._is_refused(message)]
        work = asyncio.ensure_future(self._settle(sound))
        await asyncio.wait({work, self._stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            return answer(Words("The receiver is stopping. Try later."), 503)
        try:
            work.result()
        except StoreError as error:
            log.error("hub_push_failed", messages=len(sound), reason=str(error))
            return answer(Words("The receiver's store is out of order. Try later."), 503)
        return answer({"messages": len(messages)})

    def _is_refused(self, message: Message) -> bool:
        """What no vehicle could send is refused at once: for that nobody needs the store."""
        self._counters.hub_messages += 1
        if (fault := fault_of(message)) is not None:
            self._counters.blocks_bad += 1
            self._desk.refuse(message.vehicle, message.refused(Decision.REFUSED, fault))
        return fault is not None

    async def _settle(self, messages: list[Message]) -> None:
        welcome = await self._store.transact(admission.welcome, {m.vehicle for m in messages}, self._clock.wall_ns())
        for message in messages:
            if not welcome.get(message.vehicle, False):
                self._turn_away(message, known=message.vehicle in welcome)
        await asyncio.gather(*(self._store_one(message) for message in messages if welcome.get(message.vehicle, False)))

    def _turn_away(self, message: Message, known: bool) -> None:
        """A name that nobody enrolled is no reason to call the hub."""
        self._counters.not_admitted += 1
        log.warning("not_admitted", vehicle=message.vehicle, known=known)
        if known:
            self._desk.refuse(message.vehicle, message.refused(Decision.UNAUTHORIZED, STRANGER))

    async def _store_one(self, message: Message) -> None:
        assert message.lane is not None, "ruled out by fault_of"
        self._desk.heard(message.vehicle)
        verdict = await self._submit(message.vehicle, message.lane, message.block)
        if not verdict.is_stored:
            self._desk.refuse(message.vehicle, message.refused(DECISION[verdict.outcome], verdict.words))

    def _understood(self, event: _Event) -> Message | None:
        try:
            return message_of(event)
        except BadMessage as error:
            self._counters.hub_events_ignored += 1
            log.warning("hub_event_ignored", reason=str(error))
            return None


def fault_of(message: Message) -> str | None:
    """Why it is no block of its lane, if it isn't."""
    if message.lane is None:
        return "the message names no lane"
    try:
        header, _ = unpack_block(message.block)
    except BadBlock as error:
        return str(error)
    return None if header.lane is message.lane else f"a block of {header.lane.name} came as {message.lane.name}"
