"""What happens next in a rollout: a pure function of what is known. It may be asked after every report.

Both directions look at vehicles in the order in which they got the release, whatever order their reports come in. One
that hasn't reported counts as well when evidence against the release is weighed, and as failed when it is for: fast
failures prove nothing too early, and silence lets nothing through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from receiver.rollouts import evidence
from receiver.rollouts.cohorts import shared_out, wanted
from receiver.rollouts.rules import HALT_SHARES, Rules, ladder


@dataclass(frozen=True, slots=True)
class Tally:
    """One stratum. `exposed` had the release, or were there to get it; of these `committed` and `failed` (silent ones
    too) are judged, and `undecided` told that nothing can be said; the rest is pending. `absent` have had their turn
    for as long as a wave soaks, and weren't there yet."""

    size: int
    exposed: int = 0
    committed: int = 0
    failed: int = 0
    undecided: int = 0
    absent: int = 0

    @property
    def pending(self) -> int:
        return self.exposed - self.committed - self.failed - self.undecided

    @property
    def counted(self) -> int:
        """All that say something about the release, or will."""
        return self.exposed - self.undecided


@dataclass(frozen=True, slots=True)
class Standing:
    """A rollout that is under way: its step, for how long that has been open, and each stratum. `quality`: evidence
    that the release is worse; `go_on`: two people let it go on from this step without the evidence."""

    step: int
    open_s: float
    strata: Mapping[str, Tally]
    quality: float = 1.0
    go_on: bool = False


class Move(StrEnum):
    """What to do."""

    WAIT = "wait"
    OPEN = "open"  # the next step
    HOLD = "hold"  # no more vehicles, until people say so
    HALT = "halt"  # for good: those that haven't it don't get it
    FINISH = "finish"


@dataclass(frozen=True, slots=True)
class Decision:
    """`step` is the one to open."""

    move: Move
    words: str
    step: int = 0


def decide(rules: Rules, standing: Standing) -> Decision:
    """What the rules ask for now."""
    if (words := why_halt(rules, standing)) is not None:
        return Decision(Move.HALT, words)
    if standing.open_s < rules.soak_s:
        return Decision(Move.WAIT, "it soaks")
    steps = ladder(rules)
    assigned = sum(wanted(steps[standing.step], tally.size) for tally in standing.strata.values())
    whole = total(standing)
    if standing.step == len(steps) - 1:
        return _at_the_end(rules, standing, whole, assigned)
    is_patient = standing.open_s < rules.patience_s
    if whole.committed + whole.failed < rules.sample * assigned and is_patient:
        return Decision(Move.WAIT, f"{whole.committed + whole.failed} of {assigned} are judged, too few")
    following = standing.step + 1
    while following < len(steps) and steps[following].grown:
        following += 1
    if standing.go_on or may_pass(rules, standing.step, whole):
        return Decision(Move.OPEN, f"{whole.failed} of {whole.counted} failed or are pending", following)
    return _without_evidence(standing, steps[standing.step + 1].grown, whole, is_patient and whole.exposed < assigned)


def turns(rules: Rules, standing: Standing) -> dict[str, int]:
    """How many vehicles of each stratum may have it now. Within a wave each that keeps it lets more follow; one that
    failed, or may yet, doesn't; who doesn't come, or can say nothing, holds up nobody."""
    step, whole = ladder(rules)[standing.step], total(standing)
    due = {name: wanted(step, tally.size) for name, tally in standing.strata.items()}
    room = rules.at_once + int(rules.growth * whole.committed) + whole.undecided + whole.absent
    return shared_out(due, room)


def why_halt(rules: Rules, standing: Standing) -> str | None:
    """The evidence against the release, where it is enough; None where it isn't."""
    fleet, strata, quality = (rules.false_halt * share for share in HALT_SHARES)
    whole = total(standing)
    # With no failure there is no evidence, and there are strata in which there is none for long.
    if whole.failed and evidence.against(whole.counted, whole.failed, rules.fine, rules.bad) * fleet >= 1:
        return f"{whole.failed} of {whole.counted} vehicles failed: more than {rules.fine:.2%} of them do"
    each = strata / len(standing.strata)
    for name, its in standing.strata.items():
        if its.failed and evidence.against(its.counted, its.failed, rules.fine, rules.bad) * each >= 1:
            return f"{its.failed} of {its.counted} vehicles of {name} failed: more than {rules.fine:.2%} of them do"
    if standing.quality * quality >= 1:
        return f"quality is worse with the release than without, by more than {rules.quality_margin:g}"
    return None


def may_pass(rules: Rules, step: int, whole: Tally) -> bool:
    """Whether the evidence for the release is enough to go on from this step."""
    failed = whole.failed + whole.pending
    if ladder(rules)[step].percent <= rules.first_percent:
        return failed <= evidence.allowed(whole.counted, rules.bad, rules.let_through)
    return evidence.proves_fine(whole.counted, failed, rules.fine, rules.bad, rules.let_through)


def total(standing: Standing) -> Tally:
    """Of all strata."""
    size = exposed = committed = failed = undecided = absent = 0
    for its in standing.strata.values():
        size += its.size
        exposed += its.exposed
        committed += its.committed
        failed += its.failed
        undecided += its.undecided
        absent += its.absent
    return Tally(size, exposed, committed, failed, undecided, absent)


def _without_evidence(standing: Standing, may_grow: bool, whole: Tally, are_expected: bool) -> Decision:
    if whole.pending:
        return Decision(Move.WAIT, f"{whole.pending} have it and haven't reported")
    words = f"{whole.failed} of {whole.counted} failed"
    if may_grow:
        return Decision(Move.OPEN, f"{words}: too few to tell, the first wave grows", standing.step + 1)
    if are_expected:
        return Decision(Move.WAIT, f"{words}: not enough to go on, and more are to come")
    return Decision(Move.HOLD, f"{words}: that is no proof that it is fine")


def _at_the_end(rules: Rules, standing: Standing, whole: Tally, assigned: int) -> Decision:
    if whole.pending or (whole.exposed < assigned and standing.open_s < rules.patience_s):
        return Decision(Move.WAIT, f"{whole.committed + whole.failed} of {assigned} are judged")
    words = f"{whole.committed} have it, {whole.failed} failed, {assigned - whole.exposed} never came"
    return Decision(Move.FINISH, words)
