"""Law 7: the same drive gives the same digest on any load; one changed pixel, weight or configuration line another."""

from __future__ import annotations

import asyncio
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from mcap.reader import make_reader

from agent.config import AgentConfig
from ecu.clock import SECOND_NS, SteppingClock
from inference.package import find_package
from simulator.replay import Pace, ReplayResult, replay
from simulator.replaycli import DESK
from tests.drives import Picture, excerpt
from tests.verbs import said

MODEL = "drive-detect@1.0"
FRAMES = 20


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return excerpt(tmp_path_factory.mktemp("drive"), FRAMES)


def run(drive: Path, config: AgentConfig = DESK, model: str = MODEL) -> ReplayResult:
    return asyncio.run(replay(drive, config, model, lambda step: None))


@pytest.fixture(scope="module")
def first(drive: Path) -> ReplayResult:
    return run(drive)


def test_a_replay_sees_every_frame_and_makes_records(first: ReplayResult) -> None:
    assert first.frames.holds
    assert first.frames.captured == first.frames.processed == FRAMES
    assert first.records > 0
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", first.digest)


async def test_a_pace_is_kept_by_the_clock_alone() -> None:
    clock = SteppingClock(7)
    pace = Pace(clock, rate=2.0)
    waiting = asyncio.create_task(pace.keep(3 * SECOND_NS))
    await asyncio.sleep(0)
    clock.advance(7 + 3 * SECOND_NS // 2 - 1)
    await asyncio.sleep(0)
    assert not waiting.done()
    clock.advance(7 + 3 * SECOND_NS // 2)
    await waiting
    await Pace(clock, None).keep(10**15)


def test_a_rate_changes_nothing_but_the_pace(drive: Path, first: ReplayResult) -> None:
    paced = asyncio.run(replay(drive, DESK, MODEL, lambda step: None, rate=4.0))
    assert paced.digest == first.digest


def _spin() -> None:
    while True:
        pass


@pytest.fixture
def both_cores_busy() -> Iterator[None]:
    spinners = [multiprocessing.get_context("spawn").Process(target=_spin, daemon=True) for _ in range(2)]
    for spinner in spinners:
        spinner.start()
    yield
    for spinner in spinners:
        spinner.kill()
        spinner.join()


# A spinner takes all that it can get; the ordinary run has both cores busy anyway, and stops processes at random.
@pytest.mark.soak
@pytest.mark.usefixtures("both_cores_busy")
def test_the_digest_is_the_same_with_both_cores_busy(drive: Path, first: ReplayResult) -> None:
    assert run(drive).digest == first.digest


async def test_the_digest_is_the_same_when_processes_are_stopped_at_random(drive: Path, first: ReplayResult) -> None:
    rng, stops = Random(3), 0

    async def interrupt() -> None:
        nonlocal stops
        while True:
            await asyncio.sleep(rng.uniform(0.01, 0.08))
            children = [pid for pid in _children() if _runs(pid, ("inference.camera", "inference.worker"))]
            if children:
                pid = rng.choice(children)
                os.kill(pid, signal.SIGSTOP)
                await asyncio.sleep(rng.uniform(0.01, 0.08))
                os.kill(pid, signal.SIGCONT)
                stops += 1

    interrupting = asyncio.create_task(interrupt())
    result = await replay(drive, DESK, MODEL, lambda step: None)
    interrupting.cancel()
    assert stops > 0
    assert result.digest == first.digest


def _children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def _runs(pid: int, modules: tuple[str, ...]) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(module in command for module in modules)


def test_one_changed_pixel_gives_another_digest(tmp_path: Path, first: ReplayResult) -> None:
    def change(pictures: list[Picture]) -> None:
        pictures[7][300, 400, 1] ^= 1

    assert run(excerpt(tmp_path, FRAMES, change)).digest != first.digest


def test_one_changed_configuration_line_gives_another_digest(drive: Path, first: ReplayResult) -> None:
    capture = DESK.capture.model_copy(update={"low_confidence_cooldown_ms": 5_001})
    assert run(drive, DESK.model_copy(update={"capture": capture})).digest != first.digest


def test_one_changed_weight_gives_another_digest(drive: Path, tmp_path: Path, first: ReplayResult) -> None:
    """One bit of one INT8 weight, in a package whose hashes are right again: only the digest can tell."""
    folder = tmp_path / "changed"
    shutil.copytree(find_package(MODEL), folder)
    manifest = json.loads((folder / "model.json").read_text())
    for variant in manifest["variants"]:
        path = folder / variant["file"]
        model = bytearray(path.read_bytes())
        model[len(model) // 2] ^= 1
        path.write_bytes(model)
        variant["sha256"] = hashlib.sha256(model).hexdigest()
    (folder / "model.json").write_text(json.dumps(manifest))
    assert run(drive, model=str(folder)).digest != first.digest


@pytest.mark.parametrize("policy", ['consents = ["safety"]', 'consents = ["perception"]\ndeny = ["new_track"]'])
def test_no_box_is_written_of_what_no_record_may_tell(drive: Path, tmp_path: Path, policy: str) -> None:
    config, out = tmp_path / "outrider.toml", tmp_path / "a.mcap"
    config.write_text(f"[privacy]\n{policy}\n")
    code, _, words = said("replay", drive, "--model", MODEL, "--out", out, "--config", config)
    assert code == 0, words
    with out.open("rb") as stream:
        boxes = [
            json.loads(message.data)["points"]
            for schema, _, message in make_reader(stream).iter_messages()
            if schema is not None and schema.name == "foxglove.ImageAnnotations"
        ]
    assert boxes
    assert not any(boxes)


def test_the_command_ends_in_the_digest_and_writes_only_what_privacy_passed(
    drive: Path, tmp_path: Path, first: ReplayResult
) -> None:
    words = "replay", str(drive), "--model", MODEL, "--out"
    command = [sys.executable, "-m", "outrider", *words, str(tmp_path / "a.mcap")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    code, out, _ = said(*words, tmp_path / "b.mcap")
    assert code == 0
    assert {text.strip().splitlines()[-1] for text in (done.stdout, out)} == {f"digest {first.digest}"}
    assert (tmp_path / "a.mcap").read_bytes() == (tmp_path / "b.mcap").read_bytes()
    with (tmp_path / "a.mcap").open("rb") as stream:
        messages = [
            (schema.name, json.loads(message.data))
            for schema, _, message in make_reader(stream).iter_messages()
            if schema is not None
        ]
    kinds = {kind for kind, _ in messages}
    assert {"foxglove.ImageAnnotations", "foxglove.LocationFix"} <= kinds
    assert not any("Image" in kind and "Annotations" not in kind for kind in kinds)
    places = {(fix["latitude"], fix["longitude"]) for kind, fix in messages if kind == "foxglove.LocationFix"}
    assert len(places) == 1, "within a second the car stays in one coarse cell; exact positions would differ"
