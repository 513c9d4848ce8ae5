"""A camera's successor is there at once, and delivers no frame for half a minute."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "processes killed mid-drive that came back"
EMPTY_FOR_S = 25.0


@after("inference.sources")
def successors_deliver_nothing(sources: Any) -> None:
    # A camera may make no file once it has opened its source, so its mark is made now.
    until_s = _first_successor_s() + EMPTY_FOR_S if _is_a_successor() else 0.0

    def grab(self: Any) -> Any:
        time.sleep(max(0.0, until_s - time.time()))
        return honest(self)

    honest = put(sources.VideoSource, "grab", grab)


def _is_a_successor() -> bool:
    return "--first-frame-id" in sys.argv and int(sys.argv[sys.argv.index("--first-frame-id") + 1]) > 0


def _first_successor_s() -> float:
    mark = Path(tempfile.gettempdir()) / "first-successor"
    if not mark.exists():
        mark.touch()
    return mark.stat().st_mtime
