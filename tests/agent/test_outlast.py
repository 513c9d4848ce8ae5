"""Whoever waits to the end is cancelled then, and not before."""

from __future__ import annotations

import asyncio

import pytest

from agent.outlast import outlast


@pytest.mark.parametrize("times", [0, 1, 3])
async def test_it_waits_to_the_end_however_often_it_is_cancelled(times: int) -> None:
    over = asyncio.Event()
    waiting = asyncio.ensure_future(outlast(over.is_set, over.wait))
    for _ in range(times):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    over.set()
    await asyncio.wait({waiting})
    assert waiting.cancelled() == (times > 0)


async def test_what_is_over_isnt_waited_for() -> None:
    over = asyncio.Event()
    over.set()
    await outlast(over.is_set, asyncio.Event().wait)
