"""Rollouts in the database. Each function is one transaction's; what it decides on is read in it, so that a kill
between two changes nothing of what comes of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, and_, case, func, insert, or_, select, update

from ecu.clock import SECOND_NS
from ecu.errors import shown
from receiver import journal, versions
from receiver.rollouts.approval import PEOPLE, RolloutRefused, Statement, digest_of
from receiver.rollouts.cohorts import places
from receiver.rollouts.decide import Decision, Move, Standing, Tally, decide, why_halt
from receiver.rollouts.decide import turns as decided_turns
from receiver.rollouts.outcome import JUDGED_BAD, Outcome
from receiver.rollouts.quality import Bet
from receiver.rollouts.rules import Rules
from receiver.rollouts.states import ENDED, LISTING, LIVE, OVER, TRANSITIONS, Event, Listed, State
from receiver.tables import rollout, rollout_signature, rollout_vehicle, vehicle
from receiver.times import Moment

WATCHED_NS: Final = 30 * 86_400 * SECOND_NS
"""For so long after its end reports on a release are still looked at."""


@dataclass(frozen=True, slots=True)
class Release:
    """What is rolled out. `digest` is its manifest's SHA-256; `hardware` what its manifest is for."""

    target: str
    digest: str
    release: int
    hardware: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return self.target.partition("/")[0]


def propose(
    connection: Connection, name: str, release: Release, rules: Rules, strata: Mapping[str, str], by: str, now_ns: int
) -> None:
    """Nobody gets anything of it before two people approved. Raises RolloutRefused."""
    if connection.execute(select(rollout.c.name).where(rollout.c.name == name)).first() is not None:
        raise RolloutRefused(f"There was a rollout {name} before. Give the new one a name of its own.")
    if not strata:
        raise RolloutRefused("A rollout needs vehicles, and this fleet has none that lack this release.")
    _demand_free(connection, release.kind, strata)
    row = {"name": name, "state": State.PROPOSED, "target": release.target, "digest": release.digest}
    text = {"rules": msgspec.json.encode(rules).decode(), "bet": msgspec.json.encode(Bet()).decode()}
    more = {"release": release.release, "proposed_by": by, "proposed_ns": now_ns, "step": 0, "changes": 0, "go_on": 0}
    more |= {"hardware": msgspec.json.encode(release.hardware).decode()}
    connection.execute(insert(rollout).values(row | text | more | {"words": "waits for two people's approval"}))
    turns = [
        {"rollout": name, "vehicle": one.vehicle, "stratum": one.stratum, "rank": one.rank, "listed": Listed.NOT_YET}
        for one in places(name, strata)
    ]
    connection.execute(insert(rollout_vehicle), turns)
    words = f"{name}: {release.target} (release {release.release}, {release.digest[:12]}) to {len(strata)} vehicles"
    journal.append(connection, now_ns, "rollout_proposed", "", f"{words}, by {by}")


def _demand_free(connection: Connection, kind: str, vehicles: Collection[str]) -> None:
    others = select(rollout_vehicle.c.rollout, rollout_vehicle.c.vehicle).join(
        rollout, rollout.c.name == rollout_vehicle.c.rollout
    )
    live = rollout.c.state.in_((State.PROPOSED, *LIVE)), rollout.c.target.startswith(f"{kind}/", autoescape=True)
    for row in connection.execute(others.where(*live)):
        if row.vehicle in vehicles:
            raise RolloutRefused(
                f"{row.vehicle} takes part in {row.rollout}, which is of the same kind and isn't over. Cancel that, or "
                "wait for its end."
            )


def statement(connection: Connection, name: str, act: str) -> Statement:
    """What whoever does this signs, as it stands now. Raises RolloutRefused."""
    row = one(connection, name)
    return Statement(name, act, row.step, row.changes, row.target, row.digest, digest_of(row.rules))


def sign(
    connection: Connection, said: Statement, operator: str, key_of: Mapping[str, bytes], signature: bytes, now_ns: int
) -> bool:
    """Keeps a signature that was verified; whether enough people have signed, and so it happened. `key_of` has the
    keys of those who signed before, too. Raises RolloutRefused where the act isn't possible, or something changed."""
    name, event = said.rollout, Event.APPROVED if said.act == "approve" else Event(said.act)
    _demand_possible(one(connection, name), event)
    if statement(connection, name, said.act) != said:
        raise RolloutRefused(f"Rollout {name} has changed meanwhile. Look at its status, and sign again.")
    before = signers(connection, said)
    if operator not in before:
        row = {"rollout": name, "act": said.act, "changes": said.changes, "operator": operator}
        connection.execute(insert(rollout_signature).values(row | {"signature": signature, "signed_ns": now_ns}))
        journal.append(
            connection, now_ns, "rollout_signed", "", f"{name}: {said.act} at step {said.step} by {operator}"
        )
    people = sorted({*before, operator} & set(key_of))
    if len({key_of[who] for who in people}) < (1 if event is Event.RESUME else PEOPLE):
        return False
    change(connection, name, event, f"{said.act} by {', '.join(people)}", now_ns)
    return True


def signers(connection: Connection, said: Statement) -> list[str]:
    """Who has signed this very statement."""
    wanted = {"rollout": said.rollout, "act": said.act, "changes": said.changes}
    its = [rollout_signature.c[name] == value for name, value in wanted.items()]
    return [str(who) for who in connection.execute(select(rollout_signature.c.operator).where(*its)).scalars()]


def change(connection: Connection, name: str, event: Event, words: str, now_ns: int, step: int = 0) -> State:
    """The next state, and why. Raises RolloutRefused where the table has none."""
    row = one(connection, name)
    _demand_possible(row, event)
    state = TRANSITIONS[State(row.state), event]
    values: dict[str, Any] = {"state": state, "words": words, "changes": row.changes + 1}
    if event in (Event.APPROVED, Event.OPEN):
        values |= {"step": step, "opened_ns": now_ns, "go_on": 0}
    if state in ENDED:
        values |= {"done_ns": now_ns}
    if event is Event.GO_ON:
        values |= {"go_on": 1}
    connection.execute(update(rollout).where(rollout.c.name == name).values(values))
    if state in OVER:
        its = rollout_vehicle.c
        never = its.rollout == name, its.listed == Listed.NOT_YET, its.before.is_(None)
        connection.execute(update(rollout_vehicle).where(*never).values(listed=Listed.NO_LONGER))
    opened = f", step {step}" if "step" in values else ""
    journal.append(connection, now_ns, f"rollout_{event.replace('-', '_')}", "", f"{name}{opened}: {words}")
    return state


def _demand_possible(row: Row[Any], event: Event) -> None:
    if (State(row.state), event) not in TRANSITIONS:
        can = ", ".join(name for (state, name) in TRANSITIONS if state == row.state) or "nothing more"
        raise RolloutRefused(f"Rollout {row.name} is {row.state}: {event} isn't possible. Possible is {can}.")


def one(connection: Connection, name: str) -> Row[Any]:
    """Raises RolloutRefused for one that isn't there."""
    row = connection.execute(select(rollout).where(rollout.c.name == name)).one_or_none()
    if row is None:
        raise RolloutRefused(f"There is no rollout {shown(name[:48])!r}. `outrider receiver rollout status` has all.")
    return row


def live(connection: Connection) -> list[str]:
    rows = connection.execute(select(rollout.c.name).where(rollout.c.state.in_(LIVE)).order_by(rollout.c.name))
    return [str(name) for name in rows.scalars()]


def watched(connection: Connection, now_ns: int) -> list[str]:
    """Those that are done, and haven't been for long."""
    late = rollout.c.state == State.DONE, rollout.c.done_ns > now_ns - WATCHED_NS
    return [str(name) for name in connection.execute(select(rollout.c.name).where(*late)).scalars()]


def standing(connection: Connection, row: Row[Any], now_ns: int) -> Standing:
    """As the database has it."""
    open_s = max(0.0, (now_ns - row.opened_ns) / SECOND_NS) if row.opened_ns is not None else 0.0
    bet, rules = msgspec.json.decode(row.bet, type=Bet), msgspec.json.decode(row.rules, type=Rules)
    strata = tallies(connection, row.name, now_ns - int(rules.soak_s * SECOND_NS))
    return Standing(row.step, open_s, strata, bet.evidence, bool(row.go_on))


def tallies(connection: Connection, name: str, absent_ns: int) -> dict[str, Tally]:
    """`absent_ns`: whose turn came by then, and who wasn't there since, is absent."""
    its = rollout_vehicle.c
    isnt_there = its.listed == Listed.LISTED, its.exposed_ns.is_(None), its.listed_ns <= absent_ns

    def count(holds: Any) -> Any:
        return func.sum(case((holds, 1), else_=0))

    rows = connection.execute(
        select(
            its.stratum, func.count(), count(its.exposed_ns.is_not(None)), count(its.outcome == Outcome.COMMITTED),
            count(its.outcome.in_(JUDGED_BAD)), count(its.outcome == Outcome.UNDECIDED), count(and_(*isnt_there)),
        ).where(its.rollout == name, is_meant()).group_by(its.stratum).order_by(its.stratum)
    )  # fmt: skip
    return {row[0]: Tally(*map(int, row[1:])) for row in rows}


def step(connection: Connection, name: str, now_ns: int) -> Decision | None:
    """Decides, and writes down what was decided; None where nothing changed. Deciding twice changes nothing twice."""
    row = one(connection, name)
    if row.state not in LIVE:
        return None
    decision = decide(msgspec.json.decode(row.rules, type=Rules), standing(connection, row, now_ns))
    if decision.move is Move.WAIT or (State(row.state), Event(decision.move)) not in TRANSITIONS:
        return None
    change(connection, name, Event(decision.move), decision.words, now_ns, decision.step)
    return decision


def step_all(connection: Connection, now_ns: int) -> tuple[list[tuple[str, Decision]], list[tuple[str, str]]]:
    """What was decided now, of all that are under way; and the alarms of those that are done."""
    decisions = [(name, its) for name in live(connection) if (its := step(connection, name, now_ns)) is not None]
    late = watched(connection, now_ns)
    return decisions, [(name, words) for name in late if (words := watch(connection, name, now_ns)) is not None]


def watch(connection: Connection, name: str, now_ns: int) -> str | None:
    """Of one that is done: what its vehicles tell against it by now, once; None for nothing, or nothing new. People
    decide what comes of it."""
    row = one(connection, name)
    if row.state != State.DONE or row.alarm:
        return None
    words = why_halt(msgspec.json.decode(row.rules, type=Rules), standing(connection, row, now_ns))
    if words is not None:
        connection.execute(update(rollout).where(rollout.c.name == name).values(alarm=words))
        journal.append(connection, now_ns, "rollout_alarm", "", f"{name} is done, and {words}")
    return words


# --- what vehicles did ----------------------------------------------------------------------------


def expose(connection: Connection, fetched_ns: Mapping[tuple[str, str], int], now_ns: int) -> list[str]:
    """Vehicles that asked for a release's manifest, by (vehicle, digest), whatever has become of its rollout since; and
    all that were there while it was listed for them. Returns the rollouts in which that counts."""
    its = rollout_vehicle.c
    for (name, digest), at_ns in fetched_ns.items():
        mine = its.vehicle == name, its.before.is_not(None), its.fetched_ns.is_(None)
        of_it = select(rollout.c.name).where(rollout.c.digest == digest)
        values = {"fetched_ns": at_ns, "exposed_ns": func.coalesce(its.exposed_ns, at_ns)}
        connection.execute(update(rollout_vehicle).where(*mine, its.rollout.in_(of_it)).values(values))
    counting = [*live(connection), *watched(connection, now_ns)]
    undone = select(rollout.c.name).where(rollout.c.state.in_(OVER))
    seen = select(vehicle.c.seen_ns).where(vehicle.c.id == its.vehicle).scalar_subquery()
    waits = its.listed == Listed.LISTED, its.exposed_ns.is_(None), seen > its.listed_ns
    theirs = its.rollout.in_(counting) | its.rollout.in_(undone)
    connection.execute(update(rollout_vehicle).where(theirs, *waits).values(exposed_ns=seen))
    return counting


@dataclass(frozen=True, slots=True)
class Said:
    """What a vehicle's report comes to, and when it was captured; `lost`: it had kept the release."""

    outcome: Outcome
    words: str
    at: Moment
    lost: bool = False


def settle(connection: Connection, name: str, digest: str, said: Said, now_ns: int) -> bool:
    """A vehicle's outcome: the first that says something stays, but for who kept it and then lost it. Whether it is
    news."""
    # By `before`: a kill may have come between the director's signature and the note of it.
    its = rollout_vehicle.c
    of_it = its.rollout.in_(select(rollout.c.name).where(rollout.c.digest == digest))
    open_ = its.outcome.is_(None) | its.outcome.in_((Outcome.UNDECIDED, *([Outcome.COMMITTED] if said.lost else [])))
    values = {"outcome": said.outcome, "ended_ns": now_ns, "words": said.words}
    values |= {"exposed_ns": func.coalesce(its.exposed_ns, now_ns)}
    if said.outcome is Outcome.COMMITTED:
        values |= {"kept": msgspec.json.encode(said.at).decode()}
    which = its.vehicle == name, its.before.is_not(None), of_it, open_
    return connection.execute(update(rollout_vehicle).where(*which).values(values)).rowcount > 0


def silence(connection: Connection, name: str, now_ns: int) -> int:
    """Those that had it for too long without a word have failed; how many. Whoever keeps it by its newest manifest
    hasn't."""
    row, its = one(connection, name), rollout_vehicle.c
    longest_ns = int(msgspec.json.decode(row.rules, type=Rules).silence_s * SECOND_NS)
    silent = its.rollout == name, its.outcome.is_(None), its.exposed_ns <= now_ns - longest_ns
    names = [str(who) for who in connection.execute(select(its.vehicle).where(*silent)).scalars()]
    keeping = [who for who in names if versions.has_committed(connection, who, row.digest)]
    _say_nothing(connection, name, keeping, now_ns)
    values = {"outcome": Outcome.SILENT, "ended_ns": now_ns, "words": "it said nothing for too long"}
    return connection.execute(update(rollout_vehicle).where(*silent).values(values)).rowcount


def _say_nothing(connection: Connection, name: str, vehicles: Sequence[str], now_ns: int) -> None:
    """What they do says nothing of the release: they have it, and whatever brought it to them wasn't told here."""
    its = rollout_vehicle.c
    which = its.rollout == name, its.vehicle.in_(vehicles), its.outcome.is_(None)
    values = {"outcome": Outcome.UNDECIDED, "ended_ns": now_ns, "words": "it has it, and didn't tell how"}
    values |= {"exposed_ns": func.coalesce(its.exposed_ns, now_ns)}
    if vehicles:
        connection.execute(update(rollout_vehicle).where(*which).values(values))


# --- what the director is to list -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Turn:
    """A vehicle whose listing isn't what it should be. `before` is None where it wasn't looked at yet; `had` it: it may
    run it, or try it now; `restored`: what was before is listed again, and it had the release all the same."""

    rollout: str
    vehicle: str
    release: Release
    wanted: bool
    before: str | None
    had: bool
    restored: bool = False


def turns(connection: Connection, most: int, now_ns: int) -> list[Turn]:
    """The next of them, first of all those that are to have it no longer. Whoever is owed that by one rollout has no
    turn in another before: what is listed then isn't what it had."""
    found, wanted = list[Turn](), list[Turn]()
    for row in connection.execute(select(rollout).where(rollout.c.state.in_(OVER))):
        found += _page(connection, row, most - len(found), False, _to_undo())
    for row in connection.execute(select(rollout).where(rollout.c.state.in_(LISTING)).order_by(rollout.c.name)):
        found += _page(connection, row, most - len(found), False, *_misplaced())
        for due in _due(connection, row, now_ns):
            wanted += _page(connection, row, most - len(wanted), True, *due)
    owed = _owed(connection, {turn.vehicle for turn in wanted})
    return [*found, *(turn for turn in wanted if turn.vehicle not in owed)][:most]


def _owed(connection: Connection, vehicles: Collection[str]) -> set[str]:
    """Those of them that are still to have a release no longer."""
    its = rollout_vehicle.c
    joined = select(its.vehicle).join(rollout, rollout.c.name == its.rollout).where(its.vehicle.in_(vehicles))
    undoing = and_(rollout.c.state.in_(OVER), _to_undo()) | and_(rollout.c.state.in_(LISTING), *_misplaced())
    return set(connection.execute(joined.where(undoing)).scalars()) if vehicles else set()


def waiting(connection: Connection, row: Row[Any], now_ns: int) -> int:
    """Vehicles of it whose listing isn't yet what it should be."""
    its = rollout_vehicle.c
    if row.state in OVER:
        which = _to_undo()
    elif row.state in LISTING:
        which = or_(and_(*_misplaced()), *(and_(*due) for due in _due(connection, row, now_ns)))
    else:
        return 0
    count = select(func.count()).select_from(rollout_vehicle).where(its.rollout == row.name, which)
    return int(connection.execute(count).scalar_one())


def _due(connection: Connection, row: Row[Any], now_ns: int) -> list[tuple[Any, ...]]:
    """Whose turn it is, and who isn't listed yet: by stratum."""
    its = rollout_vehicle.c
    if row.state == State.DONE:
        return [(its.listed == Listed.NOT_YET, is_meant())]
    rules = msgspec.json.decode(row.rules, type=Rules)
    may = decided_turns(rules, standing(connection, row, now_ns))
    return [
        (its.listed == Listed.NOT_YET, is_meant(), its.stratum == name, its.rank < count) for name, count in may.items()
    ]


def _to_undo() -> Any:
    """Of a row of one that is over: the director lists it still, or what was before for one that had it after all."""
    # By `before`: also where a kill came between the director's signature and the note of it.
    its = rollout_vehicle.c
    late = and_(its.listed == Listed.RESTORED, its.exposed_ns.is_not(None), is_meant())
    return and_(its.listed.in_((Listed.NOT_YET, Listed.LISTED)), its.before.is_not(None)) | late


def _misplaced() -> tuple[Any, ...]:
    its = rollout_vehicle.c
    return its.listed.in_((Listed.NOT_YET, Listed.LISTED)), its.outcome == Outcome.MISPLACED


def is_meant() -> Any:
    """Of a row: the release is for its vehicle's hardware, as far as is known."""
    return rollout_vehicle.c.outcome.is_(None) | (rollout_vehicle.c.outcome != Outcome.MISPLACED)


def holders(connection: Connection, name: str) -> list[str]:
    """Who had the release of that rollout."""
    its = rollout_vehicle.c.rollout == name, rollout_vehicle.c.exposed_ns.is_not(None), is_meant()
    return [str(one) for one in connection.execute(select(rollout_vehicle.c.vehicle).where(*its)).scalars()]


def _page(connection: Connection, row: Row[Any], most: int, is_wanted: bool, *which: Any) -> list[Turn]:
    its = rollout_vehicle.c
    release = Release(row.target, row.digest, row.release)
    page = select(rollout_vehicle).where(its.rollout == row.name, *which).order_by(its.rank, its.vehicle).limit(most)
    return [
        Turn(row.name, one.vehicle, release, is_wanted, one.before, _had(one), one.listed == Listed.RESTORED)
        for one in connection.execute(page)
    ]


def _had(row: Row[Any]) -> bool:
    # Whose listing was never noted may have it: nobody knows since when it was listed.
    return row.outcome != Outcome.MISPLACED and (row.exposed_ns is not None or row.listed == Listed.NOT_YET)


def remember(connection: Connection, known: Sequence[Turn], now_ns: int) -> None:
    """What the director listed before, written down before it changes. A turn of somebody who has the release already
    tells nothing of it."""
    for turn in known:
        new = update(rollout_vehicle).where(*_is(turn), rollout_vehicle.c.before.is_(None)).values(before=turn.before)
        is_first = connection.execute(new).rowcount > 0
        if is_first and versions.has_committed(connection, turn.vehicle, turn.release.digest):
            _say_nothing(connection, turn.rollout, [turn.vehicle], now_ns)
        if is_first:
            _supersede(connection, turn)


def _supersede(connection: Connection, turn: Turn) -> None:
    """A turn that an earlier rollout of the kind, done by now, still owed this vehicle is none any more."""
    kind = rollout.c.target.startswith(f"{turn.release.kind}/", autoescape=True)
    earlier = select(rollout.c.name).where(rollout.c.state == State.DONE, rollout.c.name != turn.rollout, kind)
    its = rollout_vehicle.c
    owed = its.vehicle == turn.vehicle, its.listed == Listed.NOT_YET, its.rollout.in_(earlier)
    connection.execute(update(rollout_vehicle).where(*owed).values(listed=Listed.NO_LONGER))


def listed(connection: Connection, done: Sequence[Turn], now_ns: int) -> None:
    """The director's metadata says so, durably."""
    for turn in done:
        ended = Listed.NO_LONGER if turn.had else Listed.RESTORED
        values = {"listed": Listed.LISTED, "listed_ns": now_ns} if turn.wanted else {"listed": ended}
        connection.execute(update(rollout_vehicle).where(*_is(turn)).values(values))


def _is(turn: Turn) -> tuple[Any, ...]:
    return _at(turn.rollout, turn.vehicle)


def _at(name: str, vehicle_name: str) -> tuple[Any, ...]:
    return rollout_vehicle.c.rollout == name, rollout_vehicle.c.vehicle == vehicle_name
