"""What an operator asks of rollouts, and is answered: values that the socket's ends share. Times are wall time, ns."""

from __future__ import annotations

from typing import Final

import msgspec

from receiver.rollouts.rules import Rules

ROLLOUTS_PATH: Final = "/rollouts"
REPOSITORY_PATH: Final = "/repository"
NO_DIRECTOR: Final = (
    "This receiver is no director. Name the repository and the folder with the director's keys: [receiver] updates and "
    "director_keys."
)


class StartRequest(msgspec.Struct, frozen=True):
    """`strata`: hardware by vehicle; empty: the whole fleet, by the hardware that each reports. `of`: only vehicles
    that had the release of this earlier rollout."""

    name: str
    target: str
    by: str
    rules: Rules
    strata: dict[str, str] = {}
    of: str = ""


class SignRequest(msgspec.Struct, frozen=True):
    """`act` is "approve", "resume" or "go-on"; `signature` over the statement of it, hex."""

    act: str
    by: str
    signature: str


class StopRequest(msgspec.Struct, frozen=True):
    """`act` is "pause" or "cancel"."""

    act: str
    by: str


class StratumLine(msgspec.Struct, frozen=True):
    """Vehicles of one hardware: of `size` it is the turn of `turn`, as far as evidence has come."""

    stratum: str
    size: int
    turn: int
    listed: int
    exposed: int
    fetched: int
    committed: int
    failed: int
    silent: int
    undecided: int


class RolloutLine(msgspec.Struct, frozen=True):
    """A rollout in short. `against`: evidence that more fail than may, halted at `halts_at`; `allowed`: failures with
    which the first gate lets it pass now, -1 for none yet."""

    name: str
    state: str
    target: str
    digest: str
    release: int
    proposed_by: str
    proposed_ns: int
    step: int
    percent: float
    opened_ns: int | None
    words: str
    against: float
    halts_at: float
    allowed: int
    quality: float
    pairs: int
    waits_for_director: int
    signed: dict[str, list[str]]
    strata: list[StratumLine]
    rules: Rules
    held_up: str = ""
    alarm: str = ""


class RoleLine(msgspec.Struct, frozen=True):
    """Until when vehicles believe a role's metadata; `words` where that isn't long any more, and what to do."""

    role: str
    ends_ns: int
    words: str


class Signed(msgspec.Struct, frozen=True):
    """Whether it happened; else it waits for another person."""

    happened: bool
    rollout: RolloutLine
