"""Objects to the receiver over HTTPS (docs/formats/objects.md): one connection with the vehicle's certificate.

It blocks, each wait within its time-out: give it a thread. Only the receiver's own word makes an object stored.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from typing import Final

from agent.https import TIMEOUT_S, VehicleLine
from ecu.clock import Clock
from telemetry.links.link import Refused, Throttled, Unauthorized, Unreachable
from telemetry.links.pairing import MAX_MESSAGE_BYTES, BadMessage, Refusal, read_message
from telemetry.objects.link import Mismatch
from telemetry.objects.wire import HAVE_HEADER, OBJECTS_PATH, STATE_HEADER, ByteRange, Have, read_have

RETRY_AFTER_S: Final = 60.0
NO_OBJECTS_AFTER_S: Final = 3600.0
"""A receiver without this way may have it after its next release."""
_UNWELCOME: Final = (http.client.UNAUTHORIZED, http.client.FORBIDDEN)


class HttpsObjectLink:
    """An ObjectLink to `host`. `context` proves this vehicle; the dates are judged by `clock`."""

    def __init__(
        self, host: str, port: int, context: ssl.SSLContext, clock: Clock, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._line = VehicleLine(host, port, context, clock, timeout_s, is_bulk=True)

    def look(self, sha256: str) -> Have:
        return self._ask("HEAD", sha256)

    def send(self, sha256: str, part: ByteRange, data: bytes) -> Have:
        headers = {"content-range": str(part), "content-type": "application/octet-stream"}
        return self._ask("PUT", sha256, headers, data)

    def interrupt(self) -> None:
        self._line.interrupt()

    def close(self) -> None:
        self._line.close()

    def _ask(
        self, method: str, sha256: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Have:
        response = self._line.ask(method, f"{OBJECTS_PATH}/{sha256}", headers or {}, body)
        answer = self._line.read(response, MAX_MESSAGE_BYTES)
        self._line.leave(response)
        if response.status in _UNWELCOME:
            # Who isn't welcome comes back with the certificate that the vehicle has then: a connection keeps its first.
            self._line.close()
        told = {name.lower(): value for name, value in response.getheaders()}
        return understood(response.status, told, answer, self._line.host)


def understood(status: int, headers: Mapping[str, str], answer: bytes, host: str) -> Have:
    """What an answer means; names in `headers` are lower case. Raises a LinkError unless it says what it has."""
    match status:
        case http.client.OK | http.client.ACCEPTED | http.client.CONFLICT:
            have = read_have(headers.get(HAVE_HEADER, ""), headers.get(STATE_HEADER, ""))
            if have is None:
                raise Unreachable(f"{host} answered {status} and didn't say what it has. Is it a receiver?")
            return have
        case http.client.UNPROCESSABLE_ENTITY:
            raise Mismatch(_words(status, answer, host))
        case _ if status in _UNWELCOME:
            raise Unauthorized(_words(status, answer, host))
        case http.client.NOT_FOUND | http.client.METHOD_NOT_ALLOWED:
            raise Throttled(f"{host} takes no objects. It is asked again in an hour.", NO_OBJECTS_AFTER_S)
        case http.client.REQUEST_TIMEOUT | http.client.TOO_MANY_REQUESTS | http.client.INSUFFICIENT_STORAGE:
            raise Throttled(_words(status, answer, host), _wait_s(headers))
        case _ if 400 <= status < 500:
            raise Refused(_words(status, answer, host))
        case _:
            raise Unreachable(_words(status, answer, host))


def _wait_s(headers: Mapping[str, str]) -> float:
    wait_s = headers.get("retry-after", "")
    return float(wait_s) if wait_s.isascii() and wait_s.isdecimal() and len(wait_s) < 10 else RETRY_AFTER_S


def _words(status: int, answer: bytes, host: str) -> str:
    try:
        return read_message(answer, Refusal).error
    except BadMessage:
        return f"{host} answered {status} without a word of why."
