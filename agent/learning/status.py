"""What status and doctor are told of learning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from telemetry.federated.examples import ExampleCounts


@dataclass(frozen=True, slots=True)
class LearningStatus:
    """A reading for status and doctor. `plan` is the admitted one; `closed` names the gates that are shut, `refusal`
    says in words why else nothing is learned now, `fault` what flash or the trainer last did wrong; empty when there is
    nothing. `told` counts the updates of the last 30 days, `runs` what became of runs since the start."""

    plan: str | None
    closed: tuple[str, ...]
    refusal: str
    fault: str
    source: str
    source_fault: str
    is_learning: bool
    examples: Mapping[str, int]
    store: ExampleCounts | None
    unconfirmed: Mapping[str, int]
    runs: Mapping[str, int]
    told: int
    waiting: bool
    first_loss: float | None
    last_loss: float | None
    last_cpu_ns: int | None


def not_learning(source: str, fault: str) -> LearningStatus:
    """Of a vehicle whose learning can't be opened."""
    return LearningStatus(
        plan=None, closed=(), refusal="", fault=fault, source=source, source_fault="", is_learning=False, examples={},
        store=None, unconfirmed={}, runs={}, told=0, waiting=False, first_loss=None, last_loss=None, last_cpu_ns=None,
    )  # fmt: skip
