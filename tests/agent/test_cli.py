"""`outrider agent run` as the process that it is."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ecu.urgency import Urgency, may_prefer
from simulator.demo.demo import DRIVE
from tests.ecu.urgencies import threads_of, urgency_of

MANY_THREADS = 3


@contextlib.asynccontextmanager
async def an_agent(folder: Path, *, lockstep: bool) -> AsyncIterator[int]:
    """Its process, at work on a drive that nobody is told of."""
    config = folder / "outrider.toml"
    config.write_text(
        f'[run]\nlockstep = {str(lockstep).lower()}\n[link]\nkind = "none"\n[camera]\nsource = "video:{DRIVE}?loop=1"\n'
    )
    command = ("-m", "outrider", "agent", "run", "--state", str(folder / "state"), "--config", str(config))
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(60):
            yield process.pid
    finally:
        process.terminate()
        await process.wait()


def helpers_of(pid: int) -> list[Urgency | None]:
    return [urgency_of(thread) for thread in threads_of(pid) if thread != pid]


@pytest.mark.skipif(not may_prefer(), reason="this user may not make processes more urgent (CAP_SYS_NICE)")
async def test_its_first_thread_goes_first_and_all_that_it_starts_step_behind_the_road(tmp_path: Path) -> None:
    async with an_agent(tmp_path, lockstep=False) as pid:
        while not (len(ranks := helpers_of(pid)) >= MANY_THREADS and set(ranks) == {Urgency.HELPER}):
            await asyncio.sleep(0.05)
        assert urgency_of(pid) is Urgency.SUPERVISOR


async def test_in_lockstep_nobody_goes_first(tmp_path: Path) -> None:
    async with an_agent(tmp_path, lockstep=True) as pid:
        while len(helpers_of(pid)) < MANY_THREADS:
            await asyncio.sleep(0.05)
        assert Urgency.SUPERVISOR is not urgency_of(pid)
        assert Urgency.HELPER not in helpers_of(pid)
