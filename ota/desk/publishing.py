"""`publish`: what is signed becomes current, and vehicles are to have it."""

from __future__ import annotations

from typing import Annotated

import typer

from ota.desk.arguments import AsJson, Keys, Repo, founded, target_of, writing
from ota.desk.console import now, say, say_json
from ota.desk.secrets import PinFile, key_folder
from ota.errors import RepositoryFault
from ota.repository.desk import Published
from ota.repository.tables import published_tables


def publish(
    repo: Repo,
    keys: Keys,
    vehicle: Annotated[list[str] | None, typer.Option(metavar="VEHICLE", help="May be repeated.")] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TARGET", help="Like model/drive-1.0.json. May be repeated: every vehicle is to have each."
        ),
    ] = None,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="The vehicles are to have nothing (more).")] = False,
    leave_drafts: Annotated[bool, typer.Option("--leave-drafts", help="Don't publish them, signed or not.")] = False,
    pin_file: PinFile = None,
    as_json: AsJson = False,
) -> None:
    """Make signed drafts current and let all that is published last longer; with --vehicle and --target, from now on
    each of these vehicles is to have these releases and no others."""
    vehicles, targets = vehicle or [], [target_of(name) for name in target or []]
    if bool(vehicles) != (bool(targets) or withdraw) or (targets and withdraw):
        raise RepositoryFault(
            "An assignment needs --vehicle, and either --target or --withdraw, each as often as wanted."
        )
    desk = founded(repo)
    with writing(repo):
        published: Published = desk.publish(key_folder(keys, pin_file), vehicles, targets, with_drafts=not leave_drafts)
    return say_json(published) if as_json else say(published_tables(published, now()))
