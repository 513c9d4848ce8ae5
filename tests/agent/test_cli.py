"""`outrider agent run` as the process that it is."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.pairing import KEYS_FOLDER, Paired, pair
from ecu.clock import SystemClock
from ecu.disk import state_folder
from ecu.keys import FileKeyStore
from ecu.urgency import Urgency, may_prefer
from simulator.demo.demo import DRIVE
from telemetry.links.pairing import PairingFile
from tests.ecu.urgencies import threads_of, urgency_of
from tests.receiver.fleet import VEHICLE, a_receiver

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


def paired_in(state: Path, file: PairingFile) -> Paired:
    disk = state_folder(state)
    return pair(file, FileKeyStore.open(state / KEYS_FOLDER), disk, SystemClock())


async def test_at_ignition_off_nobody_waits_for_a_receiver_that_says_nothing(tmp_path: Path) -> None:
    # Mutation: the loop, or Python at its end, waits for the thread that still shakes hands, or asks a resolver.
    state, config = tmp_path / "state", tmp_path / "outrider.toml"
    config.write_text('[link]\nkind = "mqtt"\n[objects]\nenabled = false\n')
    async with a_receiver(tmp_path) as receiver:
        file = await receiver.operator.enrol(VEHICLE)
        paired = await asyncio.to_thread(paired_in, state, file)
    with socket.create_server((paired.host, paired.mqtt_port)) as silent:
        silent.setblocking(False)
        command = ("-m", "outrider", "agent", "run", "--state", str(state), "--config", str(config))
        process = await asyncio.create_subprocess_exec(sys.executable, *command, stderr=asyncio.subprocess.DEVNULL)
        async with asyncio.timeout(60):
            held, _ = await asyncio.get_running_loop().sock_accept(silent)
        with held:
            process.terminate()
            async with asyncio.timeout(8):
                assert await process.wait() == 0


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
