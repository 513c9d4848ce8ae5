"""Laws of Stream: bounded, in order, over when its connection is, and nobody left waiting."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.links.link import Unreachable
from telemetry.links.stream import Stream, ended


@given(st.lists(st.integers(), max_size=30), st.integers(1, 10))
def test_it_keeps_the_newest_in_order_and_counts_the_rest(items: list[int], limit: int) -> None:
    async def read() -> list[int]:
        stream: Stream[int] = Stream(limit)
        for item in items:
            stream.put(item)
        stream.end("over")
        found = [await anext(stream) for _ in range(min(limit, len(items)))]
        with pytest.raises(Unreachable, match="over"):
            await anext(stream)
        assert stream.dropped == len(items) - len(found)
        return found

    assert asyncio.run(read()) == items[-limit:]


async def test_an_end_wakes_every_reader_and_keeps_its_first_reason() -> None:
    stream: Stream[int] = Stream(1)
    readers = [asyncio.ensure_future(anext(stream)) for _ in range(3)]
    await asyncio.sleep(0)
    stream.end("first")
    stream.end("second")
    for reader in readers:
        with pytest.raises(Unreachable, match="first"):
            await reader
    with pytest.raises(Unreachable, match="nobody"):
        await anext(ended("nobody"))
