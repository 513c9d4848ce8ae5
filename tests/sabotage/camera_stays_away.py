"""A dead camera process is started again after half a minute only."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "processes killed mid-drive that came back"


@after("agent.perception.camera")
def its_restart_takes_long(camera: Any) -> None:
    class Slow(camera.Restarts):  # type: ignore[misc]
        async def pause(self, was_hung: bool = False) -> None:
            await asyncio.sleep(22.0)

    put(camera, "Restarts", Slow)
