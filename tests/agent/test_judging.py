"""The judge's process as the agent uses it: its verdict, and what the lack of one means."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agent.children import Child
from agent.judging import ProcessJudge
from agent.updates import Opinion
from inference.errors import Party
from inference.evaluation import DEFAULT_EVALUATION
from inference.floor import GateFloor
from inference.messages import FromJudge, JudgedModel, JudgeFault, JudgeProgress, JudgeVerdict
from inference.package import find_package
from inference.verdict import Outcome, SpeedVerdict, Verdict
from ota.machine import Event
from tests.agent.puppets import Puppet
from tests.agent.virtualtime import in_virtual_time, settled

In = TypeVar("In")

FLOOR = GateFloor()
OLD, NEW = find_package("drive-detect@1.0"), find_package("drive-detect@2.0")


async def test_the_larger_model_is_not_worse_and_the_words_say_how_much() -> None:
    opinion = await ProcessJudge(os.environ, FLOOR).judge(OLD, NEW, DEFAULT_EVALUATION)
    assert opinion.event is Event.PASSED
    assert opinion.words.startswith("on road@1.0")
    assert "car" in opinion.words
    assert "CPU" in opinion.words


async def test_without_a_labelled_set_nothing_is_decided() -> None:
    judges = Judges(Puppet.hangs)
    said = await ProcessJudge({}, FLOOR, start=judges).judge(OLD, NEW, None)
    assert said == Opinion(Event.UNDECIDED, "there is no labelled set on this vehicle to judge it by")
    assert judges.born is None


async def test_a_candidate_that_cant_be_loaded_fails_but_a_broken_set_decides_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.json").write_text("{}")
    opinion = await ProcessJudge(os.environ, FLOOR).judge(OLD, broken, DEFAULT_EVALUATION)
    assert opinion.event is Event.FAILED
    assert "refused" in opinion.words
    opinion = await ProcessJudge(os.environ, FLOOR).judge(broken, NEW, DEFAULT_EVALUATION)
    assert opinion.event is Event.UNDECIDED
    shutil.copytree(DEFAULT_EVALUATION, tmp_path / "set")
    picture = next((tmp_path / "set").glob("*.jpg"))
    picture.write_bytes(picture.read_bytes()[:-1] + b"?")
    opinion = await ProcessJudge(os.environ, FLOOR).judge(OLD, NEW, tmp_path / "set")
    assert opinion.event is Event.UNDECIDED
    assert picture.name in opinion.words


async def test_a_judge_that_cant_be_started_has_proven_nothing() -> None:
    more_than_a_process_can_be_given = {"TOO_MUCH": "x" * (1 << 22)}
    opinion = await ProcessJudge(more_than_a_process_can_be_given, FLOOR).judge(OLD, NEW, DEFAULT_EVALUATION)
    assert opinion.event is Event.UNDECIDED
    assert "Can't start a process of inference.judge" in opinion.words


# --- judges that do what the test says ----------------------------------------------------------------


class Judges:
    """Starts judges that act so; `born` is the last of them."""

    def __init__(self, *acts: Callable[[Puppet], None]) -> None:
        self._acts = acts
        self.born: Puppet | None = None

    async def __call__(
        self,
        module: str,
        arguments: Sequence[str],
        accepts: Any,
        on_message: Callable[[Child[In], In], None],
        on_closed: Callable[[Child[In]], None],
        environment: Mapping[str, str],
    ) -> Child[In]:
        judge = self.born = Puppet(arguments, on_message, on_closed)
        for act in self._acts:
            asyncio.get_running_loop().call_soon(act, judge)
        return judge

    @property
    def is_gone(self) -> bool:
        return self.born is not None and self.born.is_reaped


def speaks(message: FromJudge) -> Callable[[Puppet], None]:
    return lambda judge: judge.says(message)


def verdict(outcome: Outcome) -> JudgeVerdict:
    model = JudgedModel("puppet", "1.0", "0" * 64, "plain")
    speed = SpeedVerdict(outcome, "", 1.0, 1.0, 1.0, 2.5, 1.0, 1.0)
    return JudgeVerdict(model, model, "road@1.0", "0" * 64, "none", Verdict(outcome, "in words", (), speed))


async def opinion(judges: Judges) -> Opinion:
    said = await ProcessJudge({}, FLOOR, start=judges).judge(Path("live"), Path("candidate"), Path("set"))
    assert judges.is_gone
    return said


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (verdict(Outcome.PASSED), Event.PASSED),
        (verdict(Outcome.FAILED), Event.FAILED),
        (verdict(Outcome.UNDECIDED), Event.UNDECIDED),
        (JudgeFault(Party.CANDIDATE, "in words"), Event.FAILED),
        (JudgeFault(Party.LIVE, "in words"), Event.UNDECIDED),
        (JudgeFault(Party.EVALUATION, "in words"), Event.UNDECIDED),
    ],
)
@in_virtual_time
async def test_a_judges_last_word_stands_and_its_process_ends(message: FromJudge, event: Event) -> None:
    said = await opinion(Judges(speaks(JudgeProgress(1, 2)), speaks(message), Puppet.dies))
    assert said.event is event
    assert "in words" in said.words


@in_virtual_time
async def test_what_a_judge_says_after_its_last_word_changes_nothing() -> None:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    last, later = verdict(Outcome.PASSED), JudgeFault(Party.CANDIDATE, "in words")
    assert (await opinion(Judges(speaks(last), speaks(later), Puppet.dies))).event is Event.PASSED
    assert faults == []


@in_virtual_time
async def test_a_judge_that_dies_has_proven_nothing() -> None:
    said = await opinion(Judges(speaks(JudgeProgress(1, 2)), Puppet.dies))
    assert said == Opinion(Event.UNDECIDED, "the judge's process ended without a word")


@in_virtual_time
async def test_a_judge_that_comes_to_no_end_has_proven_nothing() -> None:
    said = await opinion(Judges(speaks(JudgeProgress(1, 2)), Puppet.hangs))
    assert said == Opinion(Event.UNDECIDED, "the judge came to no end within 600 s")


@in_virtual_time
async def test_a_judge_that_nobody_waits_for_any_more_is_ended() -> None:
    judges = Judges(Puppet.hangs)
    judging = asyncio.create_task(opinion(judges))
    await settled()
    assert not judges.is_gone
    judging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await judging
    assert judges.is_gone
