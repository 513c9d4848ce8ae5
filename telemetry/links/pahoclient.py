"""paho-mqtt's two majors behind one face. Nothing else in this project knows that there are two.

Version 1.6.1, which azure-iot-device pins, hides the reason in a PUBACK and dies of a TLS alert; version 2 has other
callbacks. Both connect again by themselves unless told not to.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import paho.mqtt.client as paho

from ecu.urgency import step_back

CALLBACKS: Final = getattr(paho, "CallbackAPIVersion", None)
GOODBYE_S: Final = 1.0
_MOST_LENGTH_BYTES: Final = 4
MAX_RECEIVE_MAXIMUM: Final = 65_535


class Events(Protocol):
    """What happens on a connection, told in the event loop's thread. Codes are MQTT 5 reason codes."""

    def connected(self, code: int, words: str, receive_maximum: int) -> None: ...

    def subscribed(self, codes: list[int]) -> None: ...

    def acknowledged(self, packet_id: int, code: int, words: str) -> None: ...

    def arrived(self, topic: str, payload: bytes) -> None: ...

    def lost(self, words: str) -> None: ...


class TlsDialer:
    """What paho asks of an SSLContext. The handshake is done here, so that a failed one leaves no socket behind and a
    `check` of the peer comes before the first byte of MQTT."""

    check_hostname = True

    def __init__(self, context: ssl.SSLContext, timeout_s: float, check: Callable[[ssl.SSLSocket], None]) -> None:
        self._context = context
        self._timeout_s = timeout_s
        self._check = check

    def wrap_socket(self, plain: socket.socket, server_hostname: str, do_handshake_on_connect: bool) -> ssl.SSLSocket:
        plain.settimeout(self._timeout_s)
        # Acknowledgements are small and waited for: Nagle's delay would meet the peer's delayed ACK.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secured = self._context.wrap_socket(plain, server_hostname=server_hostname, do_handshake_on_connect=False)
        try:
            secured.do_handshake()
            self._check(secured)
        except BaseException:
            secured.close()
            raise
        return secured


def without_properties(packet: bytes | bytearray, qos: int) -> bytes | bytearray:
    """A PUBLISH's body (MQTT 5, section 3.3.2) with no properties; as it came, when they reach beyond its end."""
    begin = 2 + int.from_bytes(packet[:2], "big") + (2 if qos else 0)
    length = 0
    for place, byte in enumerate(packet[begin : begin + _MOST_LENGTH_BYTES]):
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            end = begin + place + 1 + length
            return packet if end > len(packet) else packet[:begin] + b"\0" + packet[end:]
    return packet


class _Client(paho.Client):  # type: ignore[misc]
    """Tells reasons on both majors, and when its thread has ended, whatever ended it."""

    reason = 0

    def __init__(self, *version: Any, ended: Callable[[str], None], **settings: Any) -> None:
        super().__init__(*version, **settings)
        self._ended = ended

    def _thread_main(self) -> None:
        # Neither major tells anybody when a packet that it can't read raises in its thread.
        words = "its thread ended"
        # A vehicle without a network starts one after the other, and each shakes hands.
        step_back()
        try:
            super()._thread_main()
        except Exception as error:  # noqa: BLE001  whatever it is, it is the end of this one connection
            words = f"what the peer sent can't be read: {error!r}"
        finally:
            self._ended(words)

    def _handle_publish(self) -> Any:
        # Nobody here reads a message's properties, and paho ends the connection for one with U+FEFF in it, which MQTT
        # 5 allows (1.5.4-3) and brokers hand on: any vehicle could cut off the receiver. So paho never sees them.
        packet = self._in_packet
        packet["packet"] = without_properties(packet["packet"], packet["command"] & 0x06)
        return super()._handle_publish()

    if CALLBACKS is None:  # 1.6.1 has been frozen since 2021: its insides don't move any more

        def _handle_pubackcomp(self, command: str) -> Any:
            packet = self._in_packet
            told = command == "PUBACK" and packet["remaining_length"] > 2
            self.reason = packet["packet"][2] if told else 0
            return super()._handle_pubackcomp(command)

        def _sock_recv(self, count: int) -> bytes:
            with _as_connection_error():
                received: bytes = super()._sock_recv(count)
            return received

        def _sock_send(self, data: bytes) -> int:
            with _as_connection_error():
                sent: int = super()._sock_send(data)
            return sent


@contextlib.contextmanager
def _as_connection_error() -> Iterator[None]:
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        raise ConnectionError(str(error)) from error


class PahoConnection:
    """One connection's life: `open` (blocking), its network thread, `end` (blocking, once). Never a second one."""

    def __init__(self, vehicle: str, dialer: TlsDialer, in_flight: int, events: Events) -> None:
        self._loop = asyncio.get_running_loop()
        self._events = events
        self._error = ""
        self._at_rest = threading.Lock()
        self._over = threading.Event()
        version = [CALLBACKS.VERSION2] if CALLBACKS else []
        settings: dict[str, Any] = {"client_id": vehicle, "protocol": paho.MQTTv5, "reconnect_on_failure": False}
        self._client: Any = _Client(*version, ended=self._on_end, **settings)
        self._client.max_inflight_messages_set(in_flight)
        self._client.tls_set_context(dialer)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish if CALLBACKS else self._on_publish_of_old
        self._client.on_log = self._on_log

    def open(self, host: str, port: int, keep_alive_s: int) -> None:
        """TCP, TLS and CONNECT; `Events.connected` follows, or `lost`. Raises OSError."""
        with self._at_rest:
            self._client.connect(host, port, keep_alive_s, clean_start=True)
            self._client.loop_start()

    def subscribe(self, topic: str) -> None:
        self._client.subscribe(topic, qos=1)

    def publish(self, topic: str, payload: bytes) -> int:
        """The packet id that `acknowledged` will name; with QoS 1."""
        packet_id: int = self._client.publish(topic, payload, qos=1).mid
        return packet_id

    def end(self) -> None:
        """Says goodbye; cuts the wire under a peer that doesn't listen; returns when the thread is gone."""
        with self._at_rest:
            wire = self._client.socket()
            if wire is not None:
                self._client.disconnect()
                self._cut(wire)
            self._client.loop_stop()
            # The client holds our methods and we hold it: parted, it closes what it has at once.
            self._client = None

    def _cut(self, wire: ssl.SSLSocket) -> None:
        if not self._over.wait(GOODBYE_S):
            with contextlib.suppress(OSError):
                # Below TLS: the network thread may be within it.
                socket.socket.shutdown(wire, socket.SHUT_RDWR)

    # paho's network thread

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        receive_maximum = getattr(properties, "ReceiveMaximum", MAX_RECEIVE_MAXIMUM)
        self._tell(self._events.connected, _code(reason), _words(reason, properties), receive_maximum)

    def _on_disconnect(self, client: Any, data: Any, *told: Any) -> None:
        # 1.6.1: reason, and properties if it was a packet; 2: flags, reason, properties.
        reason, properties = told[-2:] if len(told) > 1 else (told[0], None)
        self._on_end(_words(reason, properties))

    def _on_end(self, words: str) -> None:
        if not self._over.is_set():
            self._over.set()
            self._tell(self._events.lost, self._error or words)

    def _on_subscribe(self, client: Any, data: Any, packet_id: int, reasons: Any, properties: Any) -> None:
        self._tell(self._events.subscribed, [_code(reason) for reason in reasons])

    def _on_publish(self, client: Any, data: Any, packet_id: int, reason: Any, properties: Any) -> None:
        self._tell(self._events.acknowledged, packet_id, _code(reason), _words(reason, properties))

    def _on_publish_of_old(self, client: Any, data: Any, packet_id: int) -> None:
        self._tell(self._events.acknowledged, packet_id, client.reason, f"reason code {client.reason}")

    def _on_message(self, client: Any, data: Any, message: Any) -> None:
        self._tell(self._events.arrived, message.topic, message.payload)

    def _on_log(self, client: Any, data: Any, level: int, text: str) -> None:
        # The only place where paho says why a connection broke.
        if level == paho.MQTT_LOG_ERR:
            self._error = text

    def _tell(self, tell: Callable[..., None], *what: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is gone, and with it whoever wanted to know
            self._loop.call_soon_threadsafe(tell, *what)


def _code(reason: Any) -> int:
    return int(getattr(reason, "value", reason))


def _words(reason: Any, properties: Any) -> str:
    return str(getattr(properties, "ReasonString", None) or reason)
