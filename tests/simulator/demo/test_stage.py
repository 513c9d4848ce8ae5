"""Whoever waits for a process of the demo can give it up."""

from __future__ import annotations

import asyncio
import os

import pytest

from simulator.demo.stage import first_line


@pytest.mark.timeout(20)
async def test_a_line_that_never_comes_can_be_given_up() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb", 0), os.fdopen(reading, "rb", 0) as pipe, pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await first_line(pipe)


@pytest.mark.parametrize(("said", "line"), [(b"{}\nmore", b"{}\n"), (b"", b"")])
async def test_the_first_line_is_what_was_said_before_the_end(said: bytes, line: bytes) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0) as pipe:
        with os.fdopen(writing, "wb", 0) as end:
            end.write(said)
        assert await first_line(pipe) == line
