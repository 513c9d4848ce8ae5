"""Waiting to the end, whoever is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def outlast(is_over: Callable[[], bool], wait: Callable[[], Awaitable[object]]) -> None:
    """Waits until it is over, however often whoever waits is cancelled; only then is that raised.

    For what ends soon by itself, as a killed process does: a loop that ends before it has reaped one leaves it behind.
    """
    cancelled: asyncio.CancelledError | None = None
    while not is_over():
        try:
            await wait()
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
