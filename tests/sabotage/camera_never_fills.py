"""A camera's successor is there at once, and delivers no frame for half a minute."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "processes killed mid-drive that came back"
EMPTY_FOR_S = 22.0


@after("inference.camera")
def successors_deliver_nothing(camera: Any) -> None:
    def run(self: Any) -> None:
        if self._next_id > 0:
            time.sleep(max(0.0, EMPTY_FOR_S - _since_the_first()))
        honest(self)

    honest = put(camera.Camera, "run", run)


def _since_the_first() -> float:
    mark = Path(tempfile.gettempdir()) / "first-successor"
    if not mark.exists():
        mark.touch()
    return time.time() - mark.stat().st_mtime
