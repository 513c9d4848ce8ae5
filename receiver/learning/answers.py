"""What an operator asks of learning, and is answered: values that the socket's ends share. Times are wall time, ns."""

from __future__ import annotations

from typing import Final

import msgspec

PLANS_PATH: Final = "/learning/plans"
CLOSE_PATH: Final = "/learning/close"
STATUS_PATH: Final = "/learning/status"


class BeginRequest(msgspec.Struct, frozen=True):
    """`plan` is plan.json's text; the folders are on the receiver's computer, from its root."""

    plan: str
    package: str
    crops: str


class PlanLine(msgspec.Struct, frozen=True):
    """A plan in short: the newest base, how many aggregates made it, and vehicles that wait for the next."""

    plan: str
    package: str
    begun_ns: int
    base: str
    number: int
    waiting: int


class AttemptLine(msgspec.Struct, frozen=True):
    """A buffer that was closed. `outcome` is empty while it is worked on; `candidate` is the package's folder, empty
    where there is none; `vehicles` whose updates it took. `verdict` is verdict.json's content."""

    attempt: int
    version: str
    began_ns: int
    ended_ns: int | None
    outcome: str
    words: str
    candidate: str
    vehicles: list[str]
    verdict: msgspec.Raw


class PlanStatus(msgspec.Struct, frozen=True):
    """`counts`: updates by what became of them; `vehicles`: the same of each vehicle. `waits`: whose update is in the
    buffer. `held_up` says why an attempt has no verdict, where something is in its way."""

    line: PlanLine
    buffer: int
    counts: dict[str, int]
    vehicles: dict[str, dict[str, int]]
    waits: list[str]
    held_up: str
    attempts: list[AttemptLine]


class LearningStatus(msgspec.Struct, frozen=True):
    """`unknown` counts, by vehicle, what names no plan of this receiver's; `queued` blocks nobody has judged yet."""

    plans: list[PlanStatus]
    unknown: dict[str, dict[str, int]]
    queued: int


class Claimed(msgspec.Struct, frozen=True):
    """The buffer was closed; its verdict follows."""

    plan: str
    attempt: int
