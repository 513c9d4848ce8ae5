"""What the signing desk has published, as each vehicle may see it: files of a folder, whole or from an offset on.

Nothing here is trusted by anybody: vehicles verify every byte. The director's folder is the one of the certificate's
vehicle, so that none can ask for another's.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO, Final

import structlog
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ecu.clock import Clock
from ecu.errors import UsageFault
from ota.layout import UPDATES_PATH, published
from receiver import admission
from receiver.admission import NotAdmitted
from receiver.counters import Counters
from receiver.pki import Stranger, identify
from receiver.store import Store, StoreError
from receiver.web import CLIENT_CERTIFICATE, answer
from telemetry.links.pairing import Refusal

log = structlog.get_logger()

_PART_BYTES: Final = 64 * 1024
_RANGE: Final = re.compile(r"bytes=(\d{1,19})-(\d{0,19})", re.ASCII)


class UpdateShelf:
    """`folder` holds `image/` and `director/`; None: this receiver has no updates. `on_served` hears which vehicle got
    what."""

    def __init__(
        self,
        folder: Path | None,
        store: Store,
        clock: Clock,
        counters: Counters,
        on_served: Callable[[str, str], None] | None = None,
    ) -> None:
        self._folder = folder
        self._store = store
        self._clock = clock
        self._counters = counters
        self._on_served = on_served

    def routes(self) -> list[Route]:
        return [Route(f"{UPDATES_PATH}/{{path:path}}", self._serve, methods=["GET"])]

    def roots(self) -> tuple[str, str]:
        """The director's and the image repository's first roots, for a pairing file; empty without updates.

        Raises UsageFault when there should be some and aren't.
        """
        if self._folder is None:
            return "", ""
        director, image = (self._folder / name / "metadata" / "1.root.json" for name in ("director", "image"))
        try:
            return director.read_text("utf-8"), image.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "its roots are damaged"
            raise UsageFault(
                f"[receiver] updates = {str(self._folder)!r} holds no published repository ({why}). Found one there "
                "(outrider ota init), or leave updates empty."
            ) from error

    async def _serve(self, request: Request) -> Response:
        try:
            who = identify(request.scope[CLIENT_CERTIFICATE])
            await self._store.transact(admission.check, who, self._clock.wall_ns())
        except (Stranger, NotAdmitted) as error:
            return answer(Refusal(str(error)), 403)
        except StoreError:
            return answer(Refusal("The receiver's store is out of order. Try later."), 503)
        relative = published(request.path_params["path"], who.vehicle)
        if self._folder is None or relative is None:
            return answer(Refusal("There is no such file."), 404)
        try:
            file = await asyncio.to_thread((self._folder / relative).open, "rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return answer(Refusal("There is no such file."), 404)
        except OSError as error:
            self._counters.updates_unreadable += 1
            log.error("update_unreadable", path=relative, reason=error.strerror)
            return answer(Refusal("The receiver can't read that file. Try later."), 503)
        part = part_of(request.headers.get("range", ""), os.fstat(file.fileno()).st_size)
        if part is None:
            file.close()
            return answer(Refusal("The file ends before."), 416)
        self._counters.updates_served += 1
        if self._on_served is not None:
            self._on_served(who.vehicle, request.path_params["path"])
        return _Opened(file, *part)


class _Opened(StreamingResponse):
    """A part of a file that was opened once: one that is replaced meanwhile is served as it was, whole."""

    def __init__(self, file: BinaryIO, first: int, end: int, is_part: bool) -> None:
        self._file = file
        headers = {"content-length": str(end - first)}
        if is_part:
            headers["content-range"] = f"bytes {first}-{end - 1}/{os.fstat(file.fileno()).st_size}"
        super().__init__(self._parts(first, end), 206 if is_part else 200, headers, "application/octet-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()

    async def _parts(self, first: int, end: int) -> AsyncIterator[bytes]:
        self._file.seek(first)
        while first < end and (part := await asyncio.to_thread(self._file.read, min(_PART_BYTES, end - first))):
            first += len(part)
            yield part


def part_of(asked: str, size: int) -> tuple[int, int, bool] | None:
    """(first, end, whether it is a part) of what a Range header asks for of so many bytes: all of them when it asks for
    none or is nothing that vehicles send (RFC 9110, section 14.2); None for a part beyond the end."""
    found = _RANGE.fullmatch(asked)
    if found is None or (found[2] and int(found[2]) < int(found[1])):
        return 0, size, False
    first, end = int(found[1]), int(found[2]) + 1 if found[2] else size
    return (first, min(end, size), True) if first < size else None
