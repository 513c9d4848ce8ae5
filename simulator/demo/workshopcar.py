"""A vehicle in the workshop: an agent of its own, killed and started again, and what it says of updates."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from agent.apiclient import AgentNotRunning, ask_status
from ecu.process import PARENT_VARIABLE
from inference.package import find_package
from simulator.demo.flash import boot_record, fingerprint, is_whole, slot_files
from simulator.demo.observer import LINE_LIMIT, RECONNECT_S
from simulator.demo.settings import Sections, write_settings
from simulator.demo.stage import StageFault

FACTORY_MODEL: Final = "drive-detect@1.0"
SHADOW_FRAMES: Final = 5
PROVE_FRAMES: Final = 10
POLL_S: Final = 0.4
HANG_MS: Final = 8000
TOLD_WITHIN_S: Final = 90.0
_LOOK_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Word:
    """One `update` event: `what` is a state that was reached, or "refused"; `digest` is the release's."""

    what: str
    unit: str
    digest: str
    words: str


@dataclass(frozen=True, slots=True)
class Booted:
    """What an agent runs after a start: as it says; the fingerprint of the very files that its live worker was given;
    whether they are those that the boot record calls good, whole by their hashes."""

    model: str
    fingerprint: str
    is_the_good_slot: bool


@dataclass(frozen=True, slots=True)
class Setting:
    """What a vehicle in the workshop finds around it. Patient ones let every other process go first."""

    drive: Path
    environment: Mapping[str, str]
    logs: Path
    patient: bool


class WorkshopCar:
    """In `state`, paired already. Use as an async context: leaving it ends its agent."""

    def __init__(self, state: Path, setting: Setting, sections: Sections | None = None) -> None:
        """`sections` of its settings stand in for those that every such vehicle has."""
        self.state = state
        self._sections = sections or {}
        self.words: list[Word] = []
        self.seen_live: set[str] = set()
        self._setting = setting
        self._config = state.parent / f"{state.name}.toml"
        self._log = setting.logs / f"{state.name}.log"
        self._process: asyncio.subprocess.Process | None = None
        self._news = asyncio.Event()

    @property
    def models(self) -> Path:
        """The folder of its models' slots."""
        return self.state / "updates" / "model"

    async def __aenter__(self) -> WorkshopCar:
        write_settings(self._config, {**self._settings(), **self._sections})
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        await self.kill()

    # --- starts and ends --------------------------------------------------------------------------

    async def start(self) -> None:
        """Returns at once; it answers a little later."""
        environment = {**self._setting.environment, PARENT_VARIABLE: str(os.getpid())}
        patiently = ("simulator.demo.patiently",) if self._setting.patient else ()
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *patiently, "outrider", "agent", "run", "--state", str(self.state), "--config",
                str(self._config), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                start_new_session=True,
            )  # fmt: skip

    async def kill(self) -> None:
        """SIGKILL, and waits until the kernel has taken it away."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    # --- what it says -----------------------------------------------------------------------------

    async def told(self, digest: str, *what: str) -> Word:
        """The first word about the release that is one of `what`. Raises StageFault."""

        def found() -> Word | None:
            heard = (word for word in self.words if word.digest == digest and word.what in what)
            return next(heard, None)

        await self._until(lambda: found() is not None, f"to say {' or '.join(what)}")
        word = found()
        assert word is not None
        return word

    async def booted(self) -> Booted:
        """Once a worker is live."""

        found: tuple[str, Path] | None = None

        def is_live() -> bool:
            nonlocal found
            perception = self._status().get("perception") or {}
            folder = _package_of(pid) if (pid := perception.get("live_pid")) is not None else None
            found = (str(perception["model"]), folder) if folder is not None else None
            return found is not None

        await self._until(is_live, "to look at frames")
        assert found is not None
        model, folder = found
        return Booted(model, fingerprint(folder), self._is_the_good_slot(folder))

    def states_in_use(self) -> str | None:
        """Fingerprint of the package by which its live worker tells states; None while there is no such worker."""
        pid = (self._status().get("perception") or {}).get("live_pid")
        folder = _package_of(pid, "--states") if pid is not None else None
        return fingerprint(folder) if folder is not None else None

    def _is_the_good_slot(self, folder: Path) -> bool:
        record = boot_record(self.models)
        good = record["good"]
        if good == "factory":
            return folder == find_package(FACTORY_MODEL)
        digest = record["slots"].get(good, {}).get("digest", "")
        return folder == slot_files(self.models, good) and is_whole(self.models, good, digest)

    async def until_live(self, version: str) -> None:
        """Its live model is the one under trial, of that version; or nothing is under trial any more."""

        def is_live() -> bool:
            trial = (self._status().get("perception") or {"trial": {"model": ""}})["trial"]
            return trial is None or (bool(trial.get("is_live")) and version in str(trial["model"]))

        await self._until(is_live, f"to run {version} live")

    def _status(self) -> Mapping[str, Any]:
        try:
            status: Mapping[str, Any] = ask_status(self.state / "agent.sock")
        except AgentNotRunning:
            return {}
        return status

    async def _until(self, reached: Any, what: str) -> None:
        try:
            async with asyncio.timeout(TOLD_WITHIN_S):
                while not await asyncio.to_thread(reached):
                    self._demand_alive()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_LOOK_S):
                            await self._news.wait()
                    self._news.clear()
        except TimeoutError:
            raise StageFault(
                f"Waited {TOLD_WITHIN_S:.0f} s for {self.state.name} {what}. {self._last_words()}"
            ) from None

    def _demand_alive(self) -> None:
        if self._process is not None and self._process.returncode is not None:
            raise StageFault(f"The agent of {self.state.name} ended. {self._last_words()}")

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines() if self._log.exists() else []
        return f"It said: {' / '.join(lines[-3:]) if lines else 'nothing'}"

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                async for kind, event in _events(self.state / "agent.sock"):
                    self._take(kind, event)
            await asyncio.sleep(RECONNECT_S)

    def _take(self, kind: str, event: Any) -> None:
        if kind == "update":
            self.words.append(Word(event["what"], event["unit"], event["digest"], event["words"]))
            self._news.set()
        elif kind == "status" and event["perception"] is not None:
            self.seen_live.add(str(event["perception"]["model"]))

    def _settings(self) -> Sections:
        return {
            "camera": {"source": f"video:{self._setting.drive}?loop=1"},
            # On a busy computer a slow release must be found slow, not hung.
            "perception": {"model": FACTORY_MODEL, "hang_ms": HANG_MS},
            "objects": {"enabled": False},
            "updates": {"poll_s": POLL_S, "shadow_frames": SHADOW_FRAMES, "prove_frames": PROVE_FRAMES},
        }


async def _events(socket: Path) -> AsyncIterator[tuple[str, Any]]:
    """(kind, value) of each event until the agent ends. Raises OSError while none is there."""
    reader, writer = await asyncio.open_unix_connection(socket, limit=LINE_LIMIT)
    try:
        writer.write(b"GET /events HTTP/1.1\r\n\r\n")
        kind = ""
        # Without its end a line is the torn last word of an agent that was killed.
        while (line := await reader.readline()).endswith(b"\n"):
            if line.startswith(b"event: "):
                kind = line[7:].strip().decode()
            elif line.startswith(b"data: ") and kind in ("update", "status"):
                yield kind, msgspec.json.decode(line[6:])
    finally:
        writer.close()


def _package_of(worker: int, option: str = "--package") -> Path | None:
    """The folder that a worker's process was given: what it runs, whatever anybody says. None when it is gone."""
    try:
        arguments = Path(f"/proc/{worker}/cmdline").read_bytes().decode().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # One that has ended and isn't buried yet has no arguments.
    return Path(arguments[arguments.index(option) + 1]) if option in arguments else None
