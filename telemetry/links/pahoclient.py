"""paho-mqtt's two majors behind one face. Nothing else in this project knows that there are two.

Version 1.6.1, which azure-iot-device pins, hides the reason in a PUBACK and dies of a TLS alert; version 2 has other
callbacks. Both connect again by themselves unless told not to.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, Protocol

import paho.mqtt.client as paho

CALLBACKS: Final = getattr(paho, "CallbackAPIVersion", None)


class Events(Protocol):
    """What happens on a connection, told in the event loop's thread. Codes are MQTT 5 reason codes."""

    def connected(self, code: int, words: str) -> None: ...

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


class _Client(paho.Client):  # type: ignore[misc]
    """Tells reasons on both majors."""

    reason = 0

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
def _as_connection_error() -> Any:
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        raise ConnectionError(str(error)) from error


class PahoConnection:
    """One connection's life: `open` (blocking), its network thread, `end` (blocking). Never a second one."""

    def __init__(self, vehicle: str, dialer: TlsDialer, in_flight: int, events: Events) -> None:
        self._loop = asyncio.get_running_loop()
        self._events = events
        self._words = ""
        version = [CALLBACKS.VERSION1] if CALLBACKS else []
        self._client = _Client(*version, client_id=vehicle, protocol=paho.MQTTv5, reconnect_on_failure=False)
        self._client.max_inflight_messages_set(in_flight)
        self._client.tls_set_context(dialer)
        self._listen(self._client)
