"""The replay digest is the same for every drive."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after

CLAIM = "replay gives the same digest twice"


@after("agent.digest")
def it_covers_nothing(digest: Any) -> None:
    digest.ReplayDigest._add = lambda self, part: None
