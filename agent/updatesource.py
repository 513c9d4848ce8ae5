"""Updates from the receiver over HTTPS: one connection with the vehicle's certificate, kept as long as it lasts.

It blocks, each read within its time-out: give it a thread. What comes over it is believed by its signatures alone.
"""

from __future__ import annotations

import copy
import http.client
import re
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from agent.https import TIMEOUT_S, VehicleLine
from ecu.clock import Clock
from ota.errors import FetchError, HeldBack, NotThere
from ota.layout import UPDATES_PATH
from ota.manifest import BLOCK_BYTES
from ota.source import PART_BYTES
from telemetry.links.link import LinkError

if TYPE_CHECKING:
    # Rescue mode has a source and no uplink.
    from telemetry.uplink.downloads import Downloads

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-\d{1,19}/(?:\d{1,19}|\*)", re.ASCII)


SLICE_BYTES: Final = BLOCK_BYTES
"""Asked for at once: a network or a day that lets no more come ends a download where a block of a release does."""


class ReceiverSource:
    """The paths of ota/layout.py at `host`. `context` proves this vehicle; the dates are judged by `clock`.
    `downloads` says what may come, and counts it: small things as P0 goes, what comes by `bulk()` when it is let.
    Raises HeldBack otherwise, too."""

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext,
        clock: Clock,
        timeout_s: float = TIMEOUT_S,
        downloads: Downloads | None = None,
    ) -> None:
        self._line = VehicleLine(host, port, context, clock, timeout_s, toll=downloads)
        self._downloads = downloads
        self._is_bulk = False

    def bulk(self) -> ReceiverSource:
        """The same over the same connection, for what takes room."""
        source = copy.copy(self)
        source._is_bulk = True
        return source

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        begin, end = offset, offset + most
        while True:
            size = min(end - offset, SLICE_BYTES)
            self._demand_let(size)
            try:
                response = self._asked(path, {"range": f"bytes={offset}-{offset + size - 1}"} if size else {})
            except NotThere:
                if offset > begin:
                    return  # it ended just there
                raise
            came = 0
            for part in self._parts(response, path, offset, size, end):
                came += len(part)
                yield part
            offset += came
            if came < size or offset >= end:
                return

    def _parts(
        self, response: http.client.HTTPResponse, path: str, offset: int, size: int, end: int
    ) -> Iterator[bytes]:
        """Of the answer to one question; who answers with the whole file isn't asked for the rest of it again."""
        if not _is_as_asked(response, offset):
            self._line.close()
            raise FetchError(f"{self._line.host} answered with other bytes of {path} than was asked for, or packed.")
        is_part = response.status == http.client.PARTIAL_CONTENT
        most, skip, let = (size, 0, size) if is_part else (end - offset, offset, size)
        try:
            while most > 0 and (part := self._part(response)):
                passed, skip = part[skip:][:most], max(0, skip - len(part))
                most -= len(passed)
                yield passed
                if (let := let - len(part)) <= 0 < most:
                    self._demand_let(SLICE_BYTES)
                    let += SLICE_BYTES
        finally:
            self._line.leave(response)

    def _demand_let(self, size: int) -> None:
        """Raises HeldBack."""
        if self._downloads is None:
            return
        held = self._downloads.held() if self._is_bulk else self._downloads.held_small()
        if held is not None:
            raise HeldBack(held.words, held.until_ns)
        self._downloads.begin(size)

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
