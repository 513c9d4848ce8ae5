"""The judge's process as the agent uses it: its verdict, and what the lack of one means."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest

from agent.judging import ProcessJudge
from inference.evaluation import DEFAULT_EVALUATION
from inference.package import find_package
from ota.machine import Event

OLD, NEW = find_package("drive-detect@1.0"), find_package("drive-detect@2.0")


def judge_pids() -> list[int]:
    """Judges that this process has started and that live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if stat.read_text().rpartition(")")[2].split()[1] != str(os.getpid()):
                continue
            if b"inference.judge" in (stat.parent / "cmdline").read_bytes():
                found.append(int(stat.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


async def test_the_larger_model_is_not_worse_and_the_words_say_how_much() -> None:
    opinion = await ProcessJudge(os.environ).judge(OLD, NEW, DEFAULT_EVALUATION)
    assert opinion.event is Event.PASSED
    assert opinion.words.startswith("on road@1.0")
    assert "car" in opinion.words
    assert "CPU" in opinion.words


async def test_without_a_labelled_set_nothing_is_decided() -> None:
    opinion = await ProcessJudge(os.environ).judge(OLD, NEW, None)
    assert opinion.event is Event.UNDECIDED


async def test_a_candidate_that_cant_be_loaded_fails_but_a_broken_set_decides_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.json").write_text("{}")
    opinion = await ProcessJudge(os.environ).judge(OLD, broken, DEFAULT_EVALUATION)
    assert opinion.event is Event.FAILED
    assert "refused" in opinion.words
    opinion = await ProcessJudge(os.environ).judge(broken, NEW, DEFAULT_EVALUATION)
    assert opinion.event is Event.UNDECIDED
    shutil.copytree(DEFAULT_EVALUATION, tmp_path / "set")
    picture = next((tmp_path / "set").glob("*.jpg"))
    picture.write_bytes(picture.read_bytes()[:-1] + b"?")
    opinion = await ProcessJudge(os.environ).judge(OLD, NEW, tmp_path / "set")
    assert opinion.event is Event.UNDECIDED
    assert picture.name in opinion.words


async def test_a_judge_that_dies_or_takes_too_long_has_proven_nothing() -> None:
    judging = asyncio.create_task(ProcessJudge(os.environ).judge(OLD, NEW, DEFAULT_EVALUATION))
    async with asyncio.timeout(30):
        while not (pids := judge_pids()):
            await asyncio.sleep(0.01)
    os.kill(pids[0], signal.SIGKILL)
    opinion = await judging
    assert (opinion.event, opinion.words) == (Event.UNDECIDED, "the judge's process ended without a word")
    opinion = await ProcessJudge(os.environ, within_s=0.01).judge(OLD, NEW, DEFAULT_EVALUATION)
    assert opinion.event is Event.UNDECIDED
    assert "came to no end" in opinion.words
    assert judge_pids() == []


async def test_a_judge_that_cant_be_started_has_proven_nothing() -> None:
    more_than_a_process_can_be_given = {"TOO_MUCH": "x" * (1 << 22)}
    opinion = await ProcessJudge(more_than_a_process_can_be_given).judge(OLD, NEW, DEFAULT_EVALUATION)
    assert opinion.event is Event.UNDECIDED
    assert "Can't start a process of inference.judge" in opinion.words


async def test_a_judge_that_nobody_waits_for_any_more_is_ended() -> None:
    judging = asyncio.create_task(ProcessJudge(os.environ).judge(OLD, NEW, DEFAULT_EVALUATION))
    async with asyncio.timeout(30):
        while not judge_pids():
            await asyncio.sleep(0.01)
    judging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await judging
    async with asyncio.timeout(30):
        while judge_pids():
            await asyncio.sleep(0.01)
