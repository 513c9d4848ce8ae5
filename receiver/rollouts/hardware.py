"""Which hardware a vehicle is: what its newest signed version manifest says. Whoever never sent one is of a stratum of
its own; it moves when it does, while it hasn't had its turn."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, delete, false, select, update

from receiver import admission, versions
from receiver.rollouts import books
from receiver.rollouts.approval import RolloutRefused
from receiver.rollouts.books import Release
from receiver.rollouts.cohorts import places
from receiver.rollouts.outcome import Outcome
from receiver.tables import rollout_vehicle, vehicle_version

UNKNOWN: Final = "unknown"


def chosen(connection: Connection, asked: Mapping[str, str], release: Release) -> dict[str, str]:
    """The vehicles that a release is to go to, and their strata: those that were asked for, or the whole fleet, without
    those that are of other hardware and those that have it. Raises RolloutRefused."""
    known, fleet = versions.hardware(connection), admission.members(connection)
    if strangers := sorted(set(asked) - set(fleet)):
        raise RolloutRefused(f"{', '.join(strangers[:20])} aren't of this fleet. Enrol them first, or leave them out.")
    named = dict(asked) or dict.fromkeys(fleet, UNKNOWN)
    strata = {name: known.get(name) or stratum for name, stratum in named.items()}
    others = sorted(name for name in strata if not fits(known.get(name, ""), release.hardware))
    if others and asked:
        raise RolloutRefused(
            f"{release.target} is for {', '.join(release.hardware)}, and {', '.join(others[:20])} are of other "
            "hardware by their own manifests. Leave them out."
        )
    # Nothing comes of it there: whoever has it tells nothing more of it, and is no control either.
    left_out = {*others, *versions.holders(connection, release.digest)}
    return {name: stratum for name, stratum in strata.items() if name not in left_out}


def fits(hardware: str, wanted: Collection[str]) -> bool:
    """As far as is known."""
    return not hardware or not wanted or hardware in wanted


def rehome(connection: Connection, name: str) -> int:
    """Takes over what vehicles of this rollout have said of their hardware since; how many that concerned. Whoever had
    its turn stays in its stratum: reports mustn't sort vehicles by what came of them."""
    wanted = msgspec.json.decode(books.one(connection, name).hardware or "[]", type=list[str])
    its, said = rollout_vehicle.c, vehicle_version.c
    differs = its.rollout == name, said.hardware != its.stratum, said.hardware != "", books.is_meant()
    joined = select(rollout_vehicle, said.hardware).join(vehicle_version, said.vehicle == its.vehicle)
    # Of those that had their turn only they matter that the release isn't for.
    matters = its.before.is_(None) | (said.hardware.not_in(wanted) if wanted else false())
    moved, strata = 0, set[str]()
    for row in connection.execute(joined.where(*differs, matters)).all():
        if not fits(row.hardware, wanted):
            strata |= {row.stratum}
            moved += _put_out(connection, row)
        else:
            strata |= {row.stratum, row.hardware}
            moved += 1
            connection.execute(update(rollout_vehicle).where(*_is(row)).values(stratum=row.hardware))
    for stratum in strata:
        _rank(connection, name, stratum)
    return moved


def _put_out(connection: Connection, row: Row[Any]) -> int:
    if row.before is None:
        return connection.execute(delete(rollout_vehicle).where(*_is(row))).rowcount
    values = {"outcome": Outcome.MISPLACED, "words": f"it is {row.hardware}"}
    return connection.execute(update(rollout_vehicle).where(*_is(row)).values(values)).rowcount


def _rank(connection: Connection, name: str, stratum: str) -> None:
    """Turns anew: those that have had theirs first, all others in the order of their hashes."""
    its = rollout_vehicle.c
    rows = connection.execute(
        select(rollout_vehicle).where(its.rollout == name, its.stratum == stratum, books.is_meant())
    )
    known = {row.vehicle: row for row in rows}
    hashed = [place.vehicle for place in places(name, dict.fromkeys(known, stratum))]
    for rank, vehicle in enumerate(sorted(hashed, key=lambda one: known[one].before is None)):
        if known[vehicle].rank != rank:
            connection.execute(update(rollout_vehicle).where(*_is(known[vehicle])).values(rank=rank))


def _is(row: Row[Any]) -> tuple[Any, ...]:
    return rollout_vehicle.c.rollout == row.rollout, rollout_vehicle.c.vehicle == row.vehicle
