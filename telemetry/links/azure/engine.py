"""azure-iot-device, loaded here alone: its pipeline driven by callbacks, each of which becomes an answer in the event
loop.

Its clients wait for those callbacks without end (a malformed reply, a lost acknowledgement) and hand what comes in to
several threads at once, which turns its order around. The pipeline under them does neither. Two things of it are
changed: its transport takes our TLS, and asks for no session. Retries, reconnection and connecting by itself are off.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from azure.iot.device import Message, MethodResponse
from azure.iot.device.common import transport_exceptions
from azure.iot.device.common.mqtt_transport import MQTTTransport
from azure.iot.device.common.pipeline import pipeline_exceptions, pipeline_stages_mqtt
from azure.iot.device.exceptions import ServiceError
from azure.iot.device.iothub.pipeline import IoTHubPipelineConfig
from azure.iot.device.iothub.pipeline import MQTTPipeline as HubPipeline
from azure.iot.device.iothub.pipeline import constant as features
from azure.iot.device.provisioning.pipeline import MQTTPipeline as DpsPipeline
from azure.iot.device.provisioning.pipeline.config import ProvisioningPipelineConfig

from telemetry.links.azure.messages import MAX_MESSAGE_BYTES
from telemetry.links.azure.tls import HubDialer
from telemetry.links.link import KEEP_ALIVE_S, LinkError, Refused, Throttled, Unauthorized, Unreachable
from telemetry.links.tls import explained

PORT: Final = 8883
GOODBYE_S: Final = 1.0
THROTTLED_S: Final = 10.0
_QUIET: Final = {"auto_connect": False, "connection_retry": False, "keep_alive": KEEP_ALIVE_S}
_FEATURES: Final = (features.METHODS, features.TWIN, features.TWIN_PATCHES)

# It tells everything that it passes on as an error, with a traceback, and so would print what we already decide on.
for _name in ("azure.iot.device", "paho"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class _Credentials:
    """Stands where the SDK expects the paths of a certificate and a key."""

    dialer: HubDialer


class _Transport(MQTTTransport):  # type: ignore[misc]
    """Of every pipeline in this process; one with other credentials than ours has it as it was."""

    def _create_ssl_context(self) -> Any:
        ours = isinstance(self._x509_cert, _Credentials)
        return self._x509_cert.dialer if ours else super()._create_ssl_context()

    def _create_mqtt_client(self) -> Any:
        client = super()._create_mqtt_client()
        client._clean_session = True
        return client

    def shutdown(self) -> None:
        super().shutdown()
        # Its thread is gone, and with it the need of the pair of sockets that wakes it.
        self._mqtt_client._reset_sockets()


pipeline_stages_mqtt.MQTTTransport = _Transport


class Events(Protocol):
    """What happens on a connection, told in the event loop's thread."""

    def called(self, method: str, payload: object, request_id: str) -> None: ...

    def desired(self, patch: object) -> None: ...

    def lost(self, words: str) -> None: ...


class _Pipeline:
    """One pipeline's life: every call is one of the SDK's, answered by its callback. Never connected a second time."""

    def __init__(self, host: str, dialer: HubDialer) -> None:
        self._loop = asyncio.get_running_loop()
        self._host = host
        self._dialer = dialer
        self._pipeline: Any = None
        self._is_over = False

    async def open(self, make: Callable[[_Credentials], Any]) -> None:
        """TCP, TLS and CONNECT. Raises what a Link's `connect` may."""
        # In a thread: it waits for the SDK's own, which another connection may still hold.
        await asyncio.to_thread(self._make, make)
        await self.call(self._pipeline.connect)

    async def call(self, act: Callable[..., None], *arguments: Any) -> Any:
        """What the SDK's callback says: its result, or one of our errors."""
        answer: asyncio.Future[Any] = self._loop.create_future()

        def done(error: Exception | None = None, **result: Any) -> None:
            failed = decision(error, self._host) if error is not None else None
            self._tell(_settle, answer, failed, next(iter(result.values()), None))

        try:
            await asyncio.to_thread(act, *arguments, callback=done)
        except pipeline_exceptions.PipelineException as error:  # it was ended meanwhile
            raise decision(error, self._host) from error
        return await answer

    async def end(self) -> None:
        """Says goodbye, and cuts the wire under a peer that doesn't listen."""
        with contextlib.suppress(LinkError, TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self.call(self._pipeline.shutdown)
        self._dialer.cut()

    def abandon(self) -> None:
        """At once, for one that hangs: the wire is cut, which ends what the SDK's thread waits for."""
        self._is_over = True
        self._dialer.cut()
        if self._pipeline is not None:
            self._loop.run_in_executor(None, _shut_down, self._pipeline)

    def _make(self, make: Callable[[_Credentials], Any]) -> None:
        self._pipeline = made = make(_Credentials(self._dialer))
        if self._is_over:
            _shut_down(made)

    def _tell(self, tell: Callable[..., None], *what: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is gone, and with it whoever wanted to know
            self._loop.call_soon_threadsafe(tell, *what)


class HubConnection(_Pipeline):
    """A device's connection to its hub."""

    def __init__(self, host: str, device: str, dialer: HubDialer, events: Events) -> None:
        super().__init__(host, dialer)
        self._device = device
        self._events = events

    async def connect(self) -> None:
        """Returns when the hub also tells us what comes down."""
        await self.open(self._made)
        await asyncio.gather(*(self.call(self._pipeline.enable_feature, feature) for feature in _FEATURES))

    async def send(self, block: bytes, properties: Mapping[str, str]) -> None:
        """Returns at the hub's PUBACK."""
        message = Message(block)
        message.custom_properties.update(properties)
        if (size := message.get_size()) > MAX_MESSAGE_BYTES:
            raise Refused(f"A message of {size} bytes is more than the hub's {MAX_MESSAGE_BYTES}.")
        await self.call(self._pipeline.send_message, message)

    async def report(self, reported: Mapping[str, Any]) -> None:
        await self.call(self._pipeline.patch_twin_reported_properties, reported)

    async def answer(self, request_id: str, status: int) -> None:
        """To a direct method."""
        await self.call(self._pipeline.send_method_response, MethodResponse(request_id, status, {}))

    def _made(self, credentials: _Credentials) -> Any:
        config = IoTHubPipelineConfig(
            hostname=self._host, device_id=self._device, x509=credentials, ensure_desired_properties=False, **_QUIET
        )
        pipeline, events = HubPipeline(config), self._events
        pipeline.on_method_request_received = lambda told: self._tell(
            events.called, told.name, told.payload, told.request_id
        )
        pipeline.on_twin_patch_received = lambda patch: self._tell(events.desired, patch)
        pipeline.on_disconnected = lambda: self._tell(
            events.lost, f"{self._host} ended the connection, or the network broke"
        )
        return pipeline


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where DPS sends a device."""

    hub: str
    device: str


class DpsConnection(_Pipeline):
    """A connection to the Device Provisioning Service, for one registration."""

    async def register(self, scope: str, registration: str) -> Assignment:
        """Raises as a Link's `connect` does, and Refused when DPS assigns no hub."""

        def made(credentials: _Credentials) -> Any:
            config = ProvisioningPipelineConfig(
                hostname=self._host, registration_id=registration, id_scope=scope, x509=credentials, **_QUIET
            )
            return DpsPipeline(config)

        await self.open(made)
        await self.call(self._pipeline.enable_responses)
        state = (await self.call(self._pipeline.register, None)).registration_state
        if state is None or not state.assigned_hub or not state.device_id:
            raise Refused(f"{self._host} assigned {registration} to no hub. Look at its enrolment group's hubs.")
        return Assignment(state.assigned_hub, state.device_id)


def decision(error: Exception, host: str) -> LinkError:
    """What the SDK's error means to a link, and what to do."""
    root = error.__cause__
    if isinstance(root, LinkError):  # our own check of the peer
        return root
    if isinstance(root, OSError):
        return _explained(root, host)
    match error:
        case transport_exceptions.UnauthorizedError():
            return Unauthorized(
                f"{host} doesn't let this vehicle in: it is unknown or disabled there, or its certificate isn't one of "
                "the registered authority's. Enrol and pair the vehicle again, or enable it at the hub."
            )
        case ServiceError():
            return _of_status(str(error), host)
        case pipeline_exceptions.OperationTimeout():
            return Unreachable(f"{host} took too long to answer. Check the network.")
        case _:
            return Unreachable(f"The connection to {host} broke ({error or type(error).__name__}). Connect again.")


def _explained(root: OSError, host: str) -> LinkError:
    try:
        with explained(host, PORT):
            raise root
    except LinkError as told:
        return told


def _of_status(words: str, host: str) -> LinkError:
    """The service's status code is all that the SDK keeps of its answer, as the last word of a sentence."""
    last = words.rpartition(" ")[2]
    status = int(last) if last.isdecimal() else 500
    if status == 429:
        return Throttled(f"{host} throttles: {words}.", THROTTLED_S)
    if status in (401, 403):
        return Unauthorized(f"{host} doesn't let this vehicle do that: {words}. Enrol and pair it again.")
    if status < 500:
        return Refused(f"{host} will never take this: {words}.")
    return Unreachable(f"{host} is out of order: {words}. Try later.")


def _settle(answer: asyncio.Future[Any], error: LinkError | None, result: Any) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)
        answer.exception()  # looked at: whoever waited may have given up


def _shut_down(pipeline: Any) -> None:
    with contextlib.suppress(pipeline_exceptions.PipelineException):
        pipeline.shutdown(callback=lambda **_: None)
