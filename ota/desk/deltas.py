"""`delta`: what vehicles that have one release need of the next."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import typer

from ota.desk.arguments import AsJson, Repo, founded, on_the_disk_of, target_of
from ota.desk.console import progress, say, say_json
from ota.errors import RepositoryFault


def delta(
    old: Annotated[str, typer.Argument(metavar="OLD", help="A published target that vehicles have.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The published target that they are to have.")],
    repo: Repo,
    as_json: AsJson = False,
) -> None:
    """Make the deltas from one published release to another. Vehicles take them where they can, and check the result
    as they check a whole file; export takes them along."""
    founded(repo)
    # Loaded for this verb alone: who makes deltas computes with arrays.
    maker = _maker()
    before, after = target_of(old), target_of(new)
    with on_the_disk_of(repo):
        size = maker.bytes_to_read(repo, before, after)
        with progress("comparing", size, as_json) as advance:
            made = maker.make(repo, before, after, advance)
    if as_json:
        return say_json({"old": before, "new": after, "deltas": made})
    return say([maker.deltas_table(made)])


def _maker() -> Any:
    try:
        return importlib.import_module("ota.deltacli")
    except ModuleNotFoundError as error:
        raise RepositoryFault(f"This installation makes no deltas: {error}.") from error
