"""Updates from the receiver over HTTPS: one connection with the vehicle's certificate, kept as long as it lasts.

It blocks, each read within its time-out: give it a thread. What comes over it is believed by its signatures alone.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from typing import Final

from agent.https import TIMEOUT_S, VehicleLine
from ecu.clock import Clock
from ota.errors import FetchError, NotThere
from ota.source import PART_BYTES
from telemetry.links.link import LinkError

UPDATES_PATH: Final = "/v1/updates"


class ReceiverSource:
    """The paths of ota/layout.py at `host`. `context` proves this vehicle; the dates are judged by `clock`."""

    def __init__(
        self, host: str, port: int, context: ssl.SSLContext, clock: Clock, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._line = VehicleLine(host, port, context, clock, timeout_s)

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        response = self._asked(path, {"range": f"bytes={offset}-{offset + most - 1}"} if most else {})
        skip = 0 if response.status == http.client.PARTIAL_CONTENT else offset
        whole = False
        try:
            while most > 0 and (part := self._part(response)):
                passed, skip = part[skip:][:most], max(0, skip - len(part))
                most -= len(passed)
                yield passed
            whole = response.isclosed()
        finally:
            # A connection with the rest of an answer on it can't be asked again.
            if not whole:
                self._line.close()

    def close(self) -> None:
        # Closing alone wouldn't wake a thread that waits for bytes.
        self._line.interrupt()
        self._line.close()

    def _asked(self, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """The answer's head. Raises FetchError; NotThere for a file that isn't, or not that much of it."""
        try:
            response = self._line.ask("GET", f"{UPDATES_PATH}/{path}", headers)
            if response.status in (http.client.OK, http.client.PARTIAL_CONTENT):
                return response
            self._line.read(response, PART_BYTES)
        except LinkError as error:
            raise FetchError(f"{error} {path} is asked for again later.") from error
        if not response.isclosed():
            self._line.close()
        if response.status in (http.client.NOT_FOUND, http.client.REQUESTED_RANGE_NOT_SATISFIABLE):
            raise NotThere(f"{self._line.host} has no {path}, or not that much of it.")
        raise FetchError(f"{self._line.host} answered {response.status} for {path}. It is asked again later.")

    def _part(self, response: http.client.HTTPResponse) -> bytes:
        try:
            return self._line.read(response, PART_BYTES)
        except LinkError as error:
            raise FetchError(f"{error} The file is read on later.") from error
