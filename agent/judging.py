"""The judge's process, started for one comparison and gone after it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final, assert_never

from agent.children import Child
from agent.perception.settings import StartsChildren
from agent.updates.judge import Opinion
from ecu.errors import EnvironmentFault
from inference.errors import Party
from inference.floor import GateFloor
from inference.messages import FromJudge, JudgeFault, JudgeProgress, JudgeVerdict
from inference.verdict import Outcome
from ota.machine import Event

WITHIN_S: Final = 600.0
"""A judge goes behind everything else; one that hasn't come to an end by then never will."""

_EVENTS: Final = {
    Outcome.PASSED: Event.PASSED,
    Outcome.FAILED: Event.FAILED,
    Outcome.UNDECIDED: Event.UNDECIDED,
}


class ProcessJudge:
    """Starts `python -m inference.judge`. `environment` is what it inherits, `floor` what this vehicle demands of it.

    A judge that can't be started, dies or takes too long has proven nothing against the candidate: UNDECIDED.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        floor: GateFloor,
        within_s: float = WITHIN_S,
        start: StartsChildren = Child.start,
    ) -> None:
        self._environment = environment
        self._floor = floor
        self._within_s = within_s
        self._start = start

    async def judge(
        self, live: Path, candidate: Path, evaluation: Path | None, cpu_at_most: float | None = None
    ) -> Opinion:
        if evaluation is None:
            return Opinion(Event.UNDECIDED, "there is no labelled set on this vehicle to judge it by")
        spoken: asyncio.Future[Opinion] = asyncio.get_running_loop().create_future()

        def told(child: Child[FromJudge], message: FromJudge) -> None:
            opinion = _opinion(message)
            if opinion is not None and not spoken.done():
                spoken.set_result(opinion)

        def closed(child: Child[FromJudge]) -> None:
            if not spoken.done():
                spoken.set_result(Opinion(Event.UNDECIDED, "the judge's process ended without a word"))

        arguments = ["--live", str(live), "--candidate", str(candidate), "--evaluation", str(evaluation)]
        arguments += ["--floor", floor_within(self._floor, cpu_at_most).model_dump_json()]
        try:
            child = await self._start("inference.judge", arguments, FromJudge, told, closed, self._environment)
        except EnvironmentFault as fault:
            return Opinion(Event.UNDECIDED, str(fault))
        try:
            async with asyncio.timeout(self._within_s):
                return await spoken
        except TimeoutError:
            return Opinion(Event.UNDECIDED, f"the judge came to no end within {self._within_s:.0f} s")
        finally:
            await child.end()


def floor_within(floor: GateFloor, cpu_at_most: float | None) -> GateFloor:
    """A release may promise more than is demanded, and is held to it; never less."""
    if cpu_at_most is None or cpu_at_most >= floor.cpu_ratio_at_most:
        return floor
    return floor.model_copy(update={"cpu_ratio_at_most": cpu_at_most})


def _opinion(message: FromJudge) -> Opinion | None:
    match message:
        case JudgeProgress():
            return None
        case JudgeVerdict(verdict=verdict, evaluation=evaluation):
            return Opinion(_EVENTS[verdict.outcome], f"on {evaluation}: {verdict.words}")
        case JudgeFault(Party.CANDIDATE, reason):
            return Opinion(Event.FAILED, reason)
        case JudgeFault(_, reason):
            return Opinion(Event.UNDECIDED, reason)
        case _:
            assert_never(message)
