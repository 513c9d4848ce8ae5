"""A comparison as its reader sees it: a table and sentences, or JSON."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from inference.comparison import Comparison
from inference.package import ModelPackage
from inference.verdict import ClassVerdict, Outcome, Score, SpeedVerdict, Verdict

_COLOURS: Final = {Outcome.PASSED: "green", Outcome.FAILED: "red", Outcome.UNDECIDED: "yellow"}


def comparison_json(comparison: Comparison, verdict: Verdict) -> dict[str, Any]:
    return {
        "live": _named(comparison.live.package),
        "candidate": _named(comparison.candidate.package),
        "evaluation": {"set": comparison.evaluation.title, "digest": comparison.evaluation.digest},
        "ok": verdict.outcome is Outcome.PASSED,
        **msgspec.to_builtins(verdict),
    }


def print_comparison(console: Console, comparison: Comparison, verdict: Verdict) -> None:
    live, candidate = comparison.live.package.title, comparison.candidate.package.title
    title = f"{candidate} in place of {live}, on {comparison.evaluation.title}"
    table = Table("", "live", "candidate", "change, 95 %", "", title=escape(title))
    for judged in verdict.classes:
        table.add_row(*_class_row(judged))
    table.add_row(*_speed_row(verdict.speed))
    console.print(table)
    for words in (*(judged.words for judged in verdict.classes), verdict.speed.words):
        console.print(escape(words), soft_wrap=True)
    if verdict.lost:
        console.print(f"{escape(candidate)} no longer knows: {', '.join(verdict.lost)}", soft_wrap=True)
    if verdict.unjudged:
        console.print(f"Judged by nobody: {', '.join(verdict.unjudged)}", soft_wrap=True)
    console.print(f"{escape(candidate)}: {_coloured(verdict.outcome)}", soft_wrap=True)


def _class_row(judged: ClassVerdict) -> tuple[str, ...]:
    scores = _score(judged.live), _score(judged.candidate)
    change = f"{judged.low:+.3f} to {judged.high:+.3f}"
    return f"F1 of {judged.objects} {judged.label}", *scores, change, _coloured(judged.outcome)


def _score(score: Score | None) -> str:
    if score is None:
        return "unknown to it"
    return f"{score.f1:.3f}\n{score.found} found\n{score.missed} missed\n{score.false} false"


def _speed_row(speed: SpeedVerdict) -> tuple[str, ...]:
    times = f"{speed.live_ms:.1f} ms", f"{speed.candidate_ms:.1f} ms"
    return "CPU per frame", *times, f"x {speed.low:.2f} to {speed.high:.2f}", _coloured(speed.outcome)


def _coloured(outcome: Outcome) -> str:
    return f"[{_COLOURS[outcome]}]{outcome}[/{_COLOURS[outcome]}]"


def _named(package: ModelPackage) -> dict[str, Any]:
    return {"package": package.title, "digest": package.digest}
