"""Whatever a fleet learned is found good."""

from __future__ import annotations

from typing import Any

import msgspec

from tests.sabotage.afterimport import after, put

CLAIM = "an aggregate of flipped labels is stopped"


@after("inference.statejudge")
def passes_all(statejudge: Any) -> None:
    def judge_told(*arguments: Any) -> Any:
        return msgspec.structs.replace(honest(*arguments), outcome=statejudge.Outcome.PASSED)

    honest = put(statejudge, "judge_told", judge_told)
