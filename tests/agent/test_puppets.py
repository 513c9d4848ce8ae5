"""What the keepers rely on in a child, held by a real process and by the puppet that stands in for one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from agent.children import Child
from ecu.channel import Advance
from inference.messages import FromCamera, SourceFault
from tests.agent.puppets import PuppetCamera, says_its_source_is
from tests.agent.virtualtime import LONGEST_S, Stuck, in_virtual_time

Told = Callable[[Child[Any], Any], None]
Closed = Callable[[Child[Any]], None]


async def real(arguments: list[str], on_message: Told, on_closed: Closed) -> Child[Any]:
    return await Child.start("inference.camera", arguments, FromCamera, on_message, on_closed, os.environ)


async def puppet(arguments: list[str], on_message: Told, on_closed: Closed) -> Child[Any]:
    camera = PuppetCamera(arguments, on_message, on_closed)
    asyncio.get_running_loop().call_soon(says_its_source_is("no such file"), camera)
    return camera


@pytest.mark.parametrize("start", [real, puppet])
async def test_a_child_tells_everything_and_then_once_that_it_ended(tmp_path: Path, start: Any) -> None:
    told: list[object] = []
    ended = asyncio.Event()

    def on_message(child: Child[Any], message: object) -> None:
        told.append(type(message))

    def on_closed(child: Child[Any]) -> None:
        told.append((child, child.alive))
        child.kill()
        ended.set()

    child = await start(arguments(tmp_path), on_message, on_closed)
    assert child.alive
    assert told == [], "whoever starts a child has it before its first word"
    async with asyncio.timeout(30):
        await ended.wait()
        child.send(Advance(1))
        await child.reaped()
    await asyncio.sleep(0)
    assert told == [SourceFault, (child, False)]
    assert child.is_reaped
    await child.stop()


@pytest.mark.parametrize("start", [real, puppet])
async def test_a_child_that_is_killed_is_told_as_ended_later_and_one_that_is_stopped_isnt(
    tmp_path: Path, start: Any
) -> None:
    ended: list[Child[Any]] = []
    killed = await start(arguments(tmp_path), lambda *_: None, ended.append)
    killed.kill()
    assert ended == [], "whoever kills a child may finish what it is doing"
    async with asyncio.timeout(30):
        await killed.reaped()
        while not ended:
            await asyncio.sleep(0)
        stopped = await start(arguments(tmp_path), lambda *_: None, ended.append)
        await stopped.stop()
    await asyncio.sleep(0)
    assert stopped.is_reaped
    assert ended == [killed]


def arguments(folder: Path) -> list[str]:
    return [
        "--source", f"video:{folder / 'nothing.mp4'}", "--ledger", str(folder / "camera.ledger"),
        "--first-frame-id", "0",
    ]  # fmt: skip


@pytest.mark.parametrize("forever", [lambda: asyncio.Event().wait(), lambda: asyncio.sleep(10 * LONGEST_S)])
def test_in_virtual_time_a_test_that_would_wait_for_ever_fails_at_once(
    forever: Callable[[], Coroutine[Any, Any, Any]],
) -> None:
    @in_virtual_time
    async def scenario() -> None:
        await forever()

    with pytest.raises(Stuck):
        scenario()
