"""What the database says of rollouts, for an operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, case, func, select

from receiver.rollouts import books, evidence
from receiver.rollouts.answers import RolloutLine, StratumLine
from receiver.rollouts.decide import total, turns
from receiver.rollouts.outcome import Outcome
from receiver.rollouts.quality import Bet
from receiver.rollouts.rules import HALT_SHARES, Rules, ladder
from receiver.rollouts.states import Listed, State
from receiver.tables import rollout, rollout_signature, rollout_vehicle


def lines(connection: Connection, now_ns: int, name: str = "") -> list[RolloutLine]:
    """The newest first, or the one of that name."""
    which = select(rollout).where(rollout.c.name == name) if name else select(rollout)
    rows = connection.execute(which.order_by(rollout.c.proposed_ns.desc(), rollout.c.name)).all()
    return [_line(connection, row, now_ns) for row in rows]


def _line(connection: Connection, row: Row[Any], now_ns: int) -> RolloutLine:
    rules, bet = msgspec.json.decode(row.rules, type=Rules), msgspec.json.decode(row.bet, type=Bet)
    stands, is_begun = books.standing(connection, row, now_ns), row.state != State.PROPOSED
    opened, whole, may = ladder(rules)[row.step], total(stands), turns(rules, stands) if is_begun else {}
    return RolloutLine(
        name=row.name,
        state=row.state,
        target=row.target,
        digest=row.digest,
        release=row.release,
        proposed_by=row.proposed_by,
        proposed_ns=row.proposed_ns,
        step=row.step,
        percent=opened.percent,
        opened_ns=row.opened_ns,
        words=row.words,
        against=min(evidence.against(whole.counted, whole.failed, rules.fine, rules.bad), 1e300),
        halts_at=1 / (rules.false_halt * HALT_SHARES[0]),
        allowed=evidence.allowed(whole.counted, rules.bad, rules.let_through),
        quality=min(bet.evidence, 1e300),
        pairs=bet.pairs,
        waits_for_director=books.waiting(connection, row, now_ns),
        signed=_signed(connection, row.name),
        strata=_strata(connection, row, may),
        rules=rules,
        alarm=row.alarm or "",
    )


def _signed(connection: Connection, name: str) -> dict[str, list[str]]:
    its = select(rollout_signature).where(rollout_signature.c.rollout == name)
    signed: dict[str, list[str]] = {}
    for row in connection.execute(its.order_by(rollout_signature.c.signed_ns)):
        signed.setdefault(row.act, []).append(row.operator)
    return signed


def _strata(connection: Connection, row: Row[Any], may: Mapping[str, int]) -> list[StratumLine]:
    its = rollout_vehicle.c

    def count(holds: Any) -> Any:
        return func.sum(case((holds, 1), else_=0))

    counts = (
        func.count(), count(its.listed == Listed.LISTED), count(its.exposed_ns.is_not(None)),
        count(its.fetched_ns.is_not(None)),
        *(count(its.outcome == outcome) for outcome in
          (Outcome.COMMITTED, Outcome.FAILED, Outcome.SILENT, Outcome.UNDECIDED)),
    )  # fmt: skip
    meant = its.rollout == row.name, books.is_meant()
    found = select(its.stratum, *counts).where(*meant).group_by(its.stratum).order_by(its.stratum)
    return [
        StratumLine(one[0], int(one[1]), may.get(one[0], 0), *map(int, one[2:])) for one in connection.execute(found)
    ]
