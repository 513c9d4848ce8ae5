"""The kinds of thing that can change a vehicle, each with its own signers: a key for one kind can't sign another."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """A kind's value is the name of its delegated role and the first part of its targets' paths."""

    MODEL = "model"
    EVALUATION = "evaluation"
    STATE = "state"
    CROPS = "crops"
    CONFIG = "config"
    CAMPAIGN = "campaign"
    PLAN = "plan"
    RUNTIME = "runtime"
    SYSTEM = "system"

    @property
    def paths(self) -> str:
        """The target paths its role is trusted for, as a TUF path pattern."""
        return f"{self.value}/*"

    def target(self, name: str, version: str) -> str:
        """The target path of a release's manifest."""
        return f"{self.value}/{name}-{version}.json"
