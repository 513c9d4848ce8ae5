"""`publish` and `export`: what is signed becomes current, vehicles are to have it, and a stick brings it to them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ecu.disk import RealDisk, explained
from ecu.errors import shown
from ota.desk.arguments import AsJson, Keys, Repo, founded, on_the_disk_of, target_of, writing
from ota.desk.console import now, progress, say, say_json
from ota.desk.secrets import PinFile, key_folder
from ota.errors import RepositoryFault
from ota.repository.desk import Published
from ota.repository.export import paths_for, write_folder, write_zip
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


def export(
    repo: Repo,
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where the medium is mounted.")],
    vehicle: Annotated[list[str], typer.Option(metavar="VEHICLE", help="May be repeated.")],
    as_zip: Annotated[bool, typer.Option("--zip", help="One file outrider-updates.zip, and no folder.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put what these vehicles are to have on a medium: what is published, with the deltas to it that there are. A
    vehicle finds it in its [updates] media, and checks it as what comes over a network."""
    desk, disk = founded(repo), RealDisk(repo)
    with on_the_disk_of(repo):
        paths = paths_for(disk, desk, list(dict.fromkeys(vehicle)))
        size = sum(map(disk.size, paths))
    with on_the_disk_of(to), explained("write", to), progress("writing", size, as_json) as advance:
        where = (write_zip if as_zip else write_folder)(disk, paths, to, advance)
    if as_json:
        return say_json({"medium": str(where), "vehicles": vehicle, "files": len(paths), "bytes": size})
    return say([f"Wrote {len(paths)} files, {size:,} bytes, to {escape(shown(where))}."])
