"""What the signing desk has published, as each vehicle may see it: files of a folder, whole or from an offset on.

Nothing here is trusted by anybody: vehicles verify every byte. The director's folder is the one of the certificate's
vehicle, so that none can ask for another's.
"""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

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


class UpdateShelf:
    """`folder` holds `image/` and `director/`; None: this receiver has no updates."""

    def __init__(self, folder: Path | None, store: Store, clock: Clock, counters: Counters) -> None:
        self._folder = folder
        self._store = store
        self._clock = clock
        self._counters = counters

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
            return director.read_text(), image.read_text()
        except OSError as error:
            raise UsageFault(
                f"[receiver] updates = {str(self._folder)!r} holds no published repository ({error.strerror}). Found "
                "one there (outrider ota init), or leave updates empty."
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
        if self._folder is None or relative is None or not (self._folder / relative).is_file():
            return answer(Refusal("There is no such file."), 404)
        self._counters.updates_served += 1
        return FileResponse(self._folder / relative, media_type="application/octet-stream")
