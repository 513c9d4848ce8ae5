"""Whoever waits for a process of the demo can give it up."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from simulator.demo.script import script
from simulator.demo.stage import Places, Stage, first_line


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


async def test_a_process_that_failed_the_drive_is_shown_with_its_last_words(tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.logs.mkdir(parents=True)
    stage = Stage(places, tmp_path / "drive.mp4", script(fast=True), {})
    assert stage.condition("agent") == "The agent isn't there. It said: nothing"
    (places.logs / "agent.log").write_text("one\ntwo\nthree\nwhat went wrong\n")
    stage._processes["agent"] = await asyncio.create_subprocess_exec("false")
    await stage._processes["agent"].wait()
    assert stage.condition("agent") == "The agent ended with 1. It said: two / three / what went wrong"
    stage._processes["agent"] = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
    assert stage.condition("agent").startswith("The agent runs. It said: two")
    await stage.kill("agent")
