"""The SDK's MQTT 5 client as one connection: what it would queue, repeat or take up again by itself it doesn't.

Its callbacks come in threads of its own; here they are told in the event loop's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from awscrt import exceptions, io, mqtt5

from telemetry.links.aws.proof import Door, SdkError
from telemetry.links.link import KEEP_ALIVE_S

NEVER_MS: Final = 24 * 3600 * 1000
"""The client would connect again by itself after this long; it is stopped long before."""
GOODBYE_S: Final = 2.0
MAX_RECEIVE_MAXIMUM: Final = 65_535
HTTPS_PORT: Final = 443
MQTT_BEHIND_HTTPS: Final = "x-amzn-mqtt-ca"
"""How AWS tells MQTT from HTTPS on that port (ALPN; AWS IoT's page on protocols)."""


@dataclass(frozen=True, slots=True, repr=False)
class Peer:
    """Whom to connect to, as whom; `tls` by `client_tls`."""

    host: str
    port: int
    client_id: str
    tls: Any


def client_tls(key_pem: bytes, certificate_pem: bytes, door: Door) -> Any:
    """What connections of this identity through `door` are made with. It takes the SDK 5 to 10 ms of the interpreter:
    a vehicle without a network, which tries again and again, makes it once."""
    options = io.TlsContextOptions.create_client_with_mtls(certificate_pem, key_pem)
    if door.ca_pem is not None:
        options.override_default_trust_store(door.ca_pem.encode())
    if door.port == HTTPS_PORT:
        options.alpn_list = [MQTT_BEHIND_HTTPS]
    return io.ClientTlsContext(options)


class Events(Protocol):
    """What happens on a connection. Codes are MQTT 5 reason codes; `failed` has none when no CONNACK came."""

    def connected(self, receive_maximum: int) -> None: ...

    def failed(self, code: int | None, words: str) -> None: ...

    def arrived(self, topic: str, payload: bytes) -> None: ...

    def lost(self, words: str) -> None: ...


class CrtConnection:
    """`start` once, `end` once."""

    def __init__(self, peer: Peer, timeout_s: float, paced: bool, events: Events) -> None:
        self._loop = asyncio.get_running_loop()
        self._events = events
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._client: Any = mqtt5.Client(self._options(peer, timeout_s, paced))

    def start(self) -> None:
        """`connected` or `failed` follows."""
        self._client.start()

    async def subscribe(self, topic: str) -> int:
        """The reason code of the SUBACK. Raises SdkError."""
        wanted = mqtt5.Subscription(topic, mqtt5.QoS.AT_LEAST_ONCE)
        suback = await answered(self.live().subscribe(mqtt5.SubscribePacket([wanted])))
        return int(suback.reason_codes[0])

    async def publish(self, topic: str, payload: bytes) -> tuple[int, str]:
        """Reason code and words of the PUBACK. Raises SdkError."""
        packet = mqtt5.PublishPacket(topic=topic, payload=payload, qos=mqtt5.QoS.AT_LEAST_ONCE)
        puback = (await answered(self.live().publish(packet))).puback
        code = int(puback.reason_code)
        return code, puback.reason_string or f"reason code {code:#x}"

    def live(self) -> Any:
        """The client, for the SDK's own service clients. Raises SdkError when it has stopped."""
        if self._client is None:
            raise SdkError("the connection is over")
        return self._client

    def abandon(self) -> None:
        """Ends it without waiting."""
        if self._client is not None:
            self._client.stop()

    async def end(self) -> None:
        """Says goodbye; returns when the client has stopped, or shortly after when it doesn't."""
        self.abandon()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self._stopped

    def _options(self, peer: Peer, timeout_s: float, paced: bool) -> Any:
        timeout_ms = int(timeout_s * 1000)
        flow = mqtt5.ExtendedValidationAndFlowControlOptions
        return mqtt5.ClientOptions(
            host_name=peer.host,
            port=peer.port,
            connect_options=mqtt5.ConnectPacket(client_id=peer.client_id, keep_alive_interval_sec=KEEP_ALIVE_S),
            socket_options=_socket_options(timeout_ms),
            tls_ctx=peer.tls,
            session_behavior=mqtt5.ClientSessionBehaviorType.CLEAN,
            extended_validation_and_flow_control_options=flow.AWS_IOT_CORE_DEFAULTS if paced else flow.NONE,
            offline_queue_behavior=mqtt5.ClientOperationQueueBehaviorType.FAIL_ALL_ON_DISCONNECT,
            min_reconnect_delay_ms=NEVER_MS,
            max_reconnect_delay_ms=NEVER_MS,
            ping_timeout_ms=min(timeout_ms, KEEP_ALIVE_S * 1000 - 1000),
            connack_timeout_ms=timeout_ms,
            ack_timeout_sec=max(1, round(timeout_s)),
            disable_metrics=True,
            on_publish_callback_fn=self._on_publish,
            on_lifecycle_event_stopped_fn=lambda _: self._tell(self._on_stopped),
            on_lifecycle_event_connection_success_fn=self._on_connected,
            on_lifecycle_event_connection_failure_fn=self._on_failure,
            on_lifecycle_event_disconnection_fn=self._on_lost,
        )

    # The SDK's threads

    def _on_connected(self, data: Any) -> None:
        maximum = data.negotiated_settings.receive_maximum_from_server
        self._tell(self._events.connected, maximum or MAX_RECEIVE_MAXIMUM)

    def _on_failure(self, data: Any) -> None:
        connack = data.connack_packet
        code = None if connack is None else int(connack.reason_code)
        said = connack.reason_string if connack is not None else None
        self._tell(self._events.failed, code, said or words_of(data.exception))

    def _on_lost(self, data: Any) -> None:
        packet = data.disconnect_packet
        said = (packet.reason_string or packet.reason_code.name) if packet is not None else None
        self._tell(self._events.lost, said or words_of(data.exception))

    def _on_publish(self, data: Any) -> None:
        packet = data.publish_packet
        self._tell(self._events.arrived, packet.topic, bytes(packet.payload or b""))

    def _on_stopped(self) -> None:
        # It holds our methods, where no collector looks, and we hold it: parted, both can go.
        self._client = None
        if not self._stopped.done():
            self._stopped.set_result(None)

    def _tell(self, tell: Callable[..., None], *what: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is gone, and with it whoever wanted to know
            self._loop.call_soon_threadsafe(tell, *what)


async def answered(promise: Any) -> Any:
    """The result of one of the SDK's futures. Raises SdkError."""
    try:
        # Shielded: the SDK settles its future whoever gave up, and complains where it was cancelled.
        return await asyncio.shield(asyncio.wrap_future(promise))
    except exceptions.AwsCrtError as error:
        raise SdkError(words_of(error)) from error


def words_of(error: Exception | None) -> str:
    if isinstance(error, exceptions.AwsCrtError):
        return f"{error.name}: {error.message}"
    return str(error) if error is not None else "the connection broke"


def _socket_options(timeout_ms: int) -> Any:
    options = io.SocketOptions()
    options.connect_timeout_ms = timeout_ms
    return options
