"""The spool writes only while the link is up."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "kept on flash through the cut link, stored after it"

_up = asyncio.Event()


@after("telemetry.uplink.status")
def the_link_is_watched(status: Any) -> None:
    def enter(self: Any, state: Any, *rest: Any) -> None:
        honest(self, state, *rest)
        if state in (status.UplinkState.CONNECTED, status.UplinkState.THROTTLED):
            _up.set()
        else:
            _up.clear()

    honest = put(status.Board, "enter", enter)


@after("telemetry.spool.keeper")
def nothing_is_written_without_it(keeper: Any) -> None:
    async def commit(self: Any, everything: bool) -> None:
        if everything or _up.is_set():
            await honest(self, everything)
        else:
            await asyncio.sleep(0.005)

    honest = put(keeper.SpoolKeeper, "_commit", commit)
