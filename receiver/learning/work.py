"""The heavy part, pure and in another process: aggregate, build a candidate, and judge it against the live package."""

from __future__ import annotations

from pathlib import Path

import msgspec

from inference.errors import InferenceError
from inference.verdict import Outcome
from receiver.learning.order import (
    Judgement,
    Lineage,
    Made,
    NotBegun,
    Order,
    Rule,
    Surface,
    Told,
    Unfit,
    Vector,
    Workbench,
    raw,
    updates_digest,
)
from telemetry.federated.line import Aggregated, Line, close_buffer
from telemetry.federated.plan import Plan


def look(plan: Plan, package: str, crops: str, bench: Workbench) -> Surface:
    """The package that the plan may begin with. Raises NotBegun, with all that differs."""
    try:
        surface = bench.look(Path(package), Path(crops))
    except InferenceError as refusal:
        raise NotBegun(f"Plan {plan.name} can't be begun: {refusal}") from refusal
    pairs = {
        "base": (plan.base, surface.base),
        "graph": (plan.graph, surface.graph),
        "layout": (plan.layout, surface.layout),
        "parameters": (str(plan.parameters), str(len(surface.parameters) // 4)),
    }
    wrong = [f"its {key} is {asked[:12]}, that of {surface.title} {has[:12]}" for key, (asked, has) in pairs.items()
             if asked != has]  # fmt: skip
    if wrong:
        raise NotBegun(f"Plan {plan.name} isn't for the package in {package}: {'; '.join(wrong)}. Name the other one.")
    return surface


def make(order: Order, rule: Rule, bench: Workbench) -> Made:
    """Raises Unfit where the package or the crops aren't what they were: whatever else is refused speaks against the
    aggregate."""
    _demand_as_begun(order, bench)
    after, told = close_buffer(order.line(), rule.of(order.plan))
    files, judgement = _judged(order, after, told, bench)
    verdict = _told(order, told, judgement)
    kept = files if judgement.outcome is Outcome.PASSED else {}
    return Made(raw(after.parameters), raw(after.velocity), told.made, verdict, kept)


def _demand_as_begun(order: Order, bench: Workbench) -> None:
    plan = order.plan
    try:
        surface = bench.look(Path(order.package), Path(order.crops))
    except InferenceError as refusal:
        raise Unfit(f"Plan {plan.name} is held up: {refusal}") from refusal
    if (surface.base, surface.graph, surface.layout) != (plan.base, plan.graph, plan.layout):
        raise Unfit(
            f"Plan {plan.name} is held up: {order.package} holds another package than it began with. Put it back there."
        )


def _judged(order: Order, after: Line, told: Aggregated, bench: Workbench) -> tuple[dict[str, bytes], Judgement]:
    live, crops = Path(order.package), Path(order.crops)
    try:
        files = _built(order, after.parameters, told, bench)
        return files, bench.judge(live, files, crops)
    except InferenceError as refusal:
        return {}, Judgement(Outcome.FAILED, f"no package can be made of it: {refusal}")


def _built(order: Order, parameters: Vector, told: Aggregated, bench: Workbench) -> dict[str, bytes]:
    learned = Lineage(order.plan.name, told.base, told.number, len(told.updates), updates_digest(order))
    return bench.build(Path(order.package), parameters, order.version, Path(order.crops), learned)


def _told(order: Order, told: Aggregated, judgement: Judgement) -> Told:
    return Told(
        plan=order.plan.name,
        attempt=order.attempt,
        number=told.number,
        model=order.plan.model,
        version=order.version,
        base=told.base,
        made=told.made,
        outcome=judgement.outcome,
        words=judgement.words,
        updates=dict(told.updates),
        judge=msgspec.Raw(judgement.figures),
    )
