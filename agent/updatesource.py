"""Updates from the receiver over HTTPS: one connection with the vehicle's certificate, kept as long as it lasts.

It blocks, each read within its time-out: give it a thread. What comes over it is believed by its signatures alone.
"""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

from agent.https import TIMEOUT_S, VehicleLine
from ecu.clock import Clock
from ota.errors import FetchError, NotThere
from ota.layout import UPDATES_PATH
from ota.source import PART_BYTES
from telemetry.links.link import LinkError

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-\d{1,19}/(?:\d{1,19}|\*)", re.ASCII)


class ReceiverSource:
    """The paths of ota/layout.py at `host`. `context` proves this vehicle; the dates are judged by `clock`."""

    def __init__(
        self, host: str, port: int, context: ssl.SSLContext, clock: Clock, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._line = VehicleLine(host, port, context, clock, timeout_s)

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        response = self._asked(path, {"range": f"bytes={offset}-{offset + most - 1}"} if most else {})
        if not _is_as_asked(response, offset):
            self._line.close()
            raise FetchError(f"{self._line.host} answered with other bytes of {path} than was asked for, or packed.")
        skip = 0 if response.status == http.client.PARTIAL_CONTENT else offset
        try:
            while most > 0 and (part := self._part(response)):
                passed, skip = part[skip:][:most], max(0, skip - len(part))
                most -= len(passed)
                yield passed
        finally:
            self._line.leave(response)

    def close(self) -> None:
        self._line.end()

    def _asked(self, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """The answer's head. Raises FetchError; NotThere for a file that isn't, or not that much of it."""
        try:
            # Whatever a signed name holds: what can't be a path is no file there.
            response = self._line.ask("GET", quote(f"{UPDATES_PATH}/{path}", errors="replace"), headers)
            if response.status in (http.client.OK, http.client.PARTIAL_CONTENT):
                return response
            self._line.read(response, PART_BYTES)
        except LinkError as error:
            raise FetchError(f"{error} {path} is asked for again later.") from error
        self._line.leave(response)
        if response.status in (http.client.NOT_FOUND, http.client.REQUESTED_RANGE_NOT_SATISFIABLE):
            raise NotThere(f"{self._line.host} has no {path}, or not that much of it.")
        raise FetchError(f"{self._line.host} answered {response.status} for {path}. It is asked again later.")

    def _part(self, response: http.client.HTTPResponse) -> bytes:
        try:
            return self._line.read(response, PART_BYTES)
        except LinkError as error:
            raise FetchError(f"{error} The file is read on later.") from error


def _is_as_asked(response: http.client.HTTPResponse, offset: int) -> bool:
    """Plain bytes, and of a part those from `offset` on (RFC 9110, sections 8.4 and 14.4)."""
    if response.getheader("content-encoding", "identity") != "identity":
        return False
    if response.status != http.client.PARTIAL_CONTENT:
        return True
    begins = _CONTENT_RANGE.fullmatch(response.getheader("content-range", ""))
    return begins is not None and int(begins[1]) == offset
