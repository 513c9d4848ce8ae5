"""The judge's process, started for one comparison and gone after it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agent.updates import Opinion
from ota.machine import Event


class ProcessJudge:
    """Starts `python -m inference.judge`. `environment` is what it inherits."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    async def judge(self, live: Path, candidate: Path, evaluation: Path | None) -> Opinion:
        if evaluation is None:
            return Opinion(Event.UNDECIDED, "there is no labelled set on this vehicle to judge it by")
        return Opinion(Event.UNDECIDED, "no judge")
