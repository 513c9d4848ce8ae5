"""A runtime's whole way: released at the desk, fetched by the agent, tried by the launcher, kept; and one that can't
run given up for it. All processes are real.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.apiclient import AgentNotRunning, ask_status
from ecu.disk import RealDisk
from ecu.ownership import NAMES
from ecu.twin import TwinRecord
from ota.denied import Denied
from ota.kinds import Kind
from ota.manifest import BundleManifest, bundle_digest, encode_manifest
from ota.runtime import FACTS_NAME, installed, write_facts
from simulator.demo.demo import DRIVE
from simulator.demo.script import script
from simulator.demo.settings import write_settings
from simulator.demo.stage import VEHICLE, Places, Stage
from tests.end_to_end.world import until
from tests.ota.launcher.garage import LAUNCHER

HOUSE = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(
    "__pycache__", "models", "drives", "build", "evaluations", "training", "desk", "repository"
)
"""What only a model, a drive or a desk needs: nothing here looks at it."""
NAME_ALONE = {"receiver", "simulator"}
"""What no agent loads. It must be found all the same: a runtime is started only where its names are its own."""


def unpack(folder: Path) -> None:
    """What an agent needs of this very runtime to start."""
    for name in NAMES:
        if name in NAME_ALONE:
            (folder / name).mkdir(parents=True)
            shutil.copy(HOUSE / name / "__init__.py", folder / name)
        else:
            shutil.copytree(HOUSE / name, folder / name, ignore=LEFT_OUT)


class Town:
    """A receiver that serves releases, and one paired vehicle with its launcher."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self._stage = stage
        self._folder = folder
        self.state = stage.places.agent

    async def release(self, number: int, **spoilt: str) -> BundleManifest:
        """This very runtime, but for what `spoilt` says of its files, for the vehicle to have."""
        folder = self._folder / f"runtime-{number}"
        await asyncio.to_thread(unpack, folder)
        for path, text in spoilt.items():
            (folder / path.replace("__", "/")).with_suffix(".py").write_text(text)
        (folder / FACTS_NAME).write_bytes(write_facts(installed()))
        desk = self._stage.desk
        assert desk is not None
        manifest = await asyncio.to_thread(desk.release, folder, Kind.RUNTIME, "outrider", f"{number}.0", number)
        await asyncio.to_thread(desk.assign, [VEHICLE], [manifest])
        return manifest

    @contextlib.asynccontextmanager
    async def launched(self) -> AsyncIterator[None]:
        config = self._folder / "agent.toml"
        write_settings(config, {
            "updates": {"poll_s": 0.5, "prove_s": 1.0, "needs_parked": False, "power": "any"},
            "privacy": {"consents": ["operation"]},
        })  # fmt: skip
        agent = [sys.executable, "-m", "agent.process", "--state", str(self.state), "--config", str(config)]
        command = ["-I", "-S", str(LAUNCHER), "--state", str(self.state), "--backoff-s", "0.05", "--", *agent]
        environment = {**os.environ, "PYTHONPATH": str(HOUSE)}
        with (self._folder / "launcher.log").open("w") as log:
            process = await asyncio.create_subprocess_exec(sys.executable, *command, env=environment, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            await process.wait()

    def record(self) -> dict[str, Any]:
        home = RealDisk(self.state / "updates" / "runtime")
        record: dict[str, Any] = json.loads(TwinRecord(home, "boot").peek() or b"{}") if home.exists("boot.0") else {}
        return record

    def runs_from(self) -> str:
        """The slot of the agent that answers; "" while none does."""
        with contextlib.suppress(AgentNotRunning, OSError):
            pid = ask_status(self._stage.places.agent_socket)["pid"]
            words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            return next(word[len(b"OUTRIDER_SLOT=") :].decode() for word in words if word.startswith(b"OUTRIDER_SLOT="))
        return ""


@contextlib.asynccontextmanager
async def a_town() -> AsyncIterator[Town]:
    with tempfile.TemporaryDirectory(prefix="or-") as name:
        folder = Path(name)
        async with Stage(Places(folder / "s"), DRIVE, script(fast=True), os.environ) as stage:
            await stage.found_desk()
            await stage.start_receiver()
            await stage.pair(VEHICLE, stage.places.agent)
            yield Town(stage, folder)


@pytest.mark.timeout(180)
async def test_a_runtime_is_tried_by_the_launcher_and_kept_and_one_that_cannot_run_is_given_up_for_it() -> None:
    async with a_town() as town:
        await town.release(1)
        async with town.launched():
            await until(lambda: town.record().get("good") == "a")
            assert town.record()["state"] == "committed"
            assert town.runs_from() == "a"
            broken = await town.release(2, agent__daemon="import nothing_there")
            await until(lambda: town.record()["state"] == "rolled_back")
            await until(lambda: town.runs_from() == "a")
        record = town.record()
        assert (record["good"], record["trial"]) == ("a", None)
        assert "exit 1, exit 1, exit 1" in record["words"]
        assert bundle_digest(encode_manifest(broken)) in Denied(RealDisk(town.state / "updates"))
