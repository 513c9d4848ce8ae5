"""`add` and `inspect`: a release goes in, and what there is comes out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.markup import escape

from ecu.errors import shown
from ota.desk.arguments import AsJson, KindName, Repo, founded, kind_of, on_the_disk_of, target_of, writing
from ota.desk.console import now, progress, say, say_json
from ota.errors import RepositoryFault
from ota.kinds import Kind
from ota.repository.desk import Release
from ota.repository.files import files_of
from ota.repository.tables import drafts_table, note_tables, release_tables
from ota.trust import ANY_HARDWARE

_MODEL_FILE: Final = "model.json"


def add(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="One flat folder of files.")],
    repo: Repo,
    kind: KindName,
    release: Annotated[int, typer.Option(help="Grows with every release of its kind; vehicles never go below theirs.")],
    name: Annotated[str | None, typer.Option(help="A model's is in its model.json.")] = None,
    version: Annotated[str | None, typer.Option(help="A model's is in its model.json.")] = None,
    hardware: Annotated[
        list[str] | None, typer.Option(help="May be repeated; 'any' when it isn't given.", metavar="HARDWARE")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Cut FOLDER into a bundle and put it into its kind's draft. Vehicles see nothing of it before it is published."""
    its_kind = kind_of(kind)
    size = _bytes_of(folder)
    if its_kind in (Kind.MODEL, Kind.STATE):
        name, version = _of_model(folder, name, version)
    if name is None or version is None:
        raise RepositoryFault(f"A release of kind {its_kind} needs --name and --version.")
    desk = founded(repo)
    with writing(repo), progress("reading", 2 * size, as_json) as advance:
        manifest = desk.images.add(
            folder, its_kind, name, version, release, tuple(hardware or (ANY_HARDWARE,)), advance
        )
        drafts = [draft for draft in desk.images.drafts() if draft.kind is its_kind]
        not_below = desk.images.not_below(manifest)
    waits = any(change.target == manifest.target for draft in drafts for change in draft.changes)
    if as_json:
        added = {"target": manifest.target, "bytes": manifest.size, "is_draft": waits, "drafts": drafts}
        return say_json({**added, "not_below": not_below})
    if not waits:
        return say([f"{manifest.title} is published with these very bytes already: there is nothing to sign."])
    done = f"Added {manifest.title}: {len(manifest.files)} files, {manifest.size:,} bytes. Have it signed: outrider ota"
    return say([drafts_table(drafts), *_rollback_warning(release, not_below), f"{done} sign --role {its_kind}"])


def inspect(
    repo: Repo,
    target: Annotated[str | None, typer.Argument(metavar="[TARGET]", help="Like model/drive-1.0.json.")] = None,
    as_json: AsJson = False,
) -> None:
    """What is published, by whose keys, until when, and what each vehicle is to have; of a TARGET, all its files."""
    desk = founded(repo)
    with on_the_disk_of(repo):
        if target is not None:
            release: Release = desk.release(target_of(target))
            return say_json(_plain(release)) if as_json else say(release_tables(release))
        note = desk.note()
    if as_json:
        return say_json(
            {
                "roots": note.roots,
                "director": note.director,
                "roles": note.roles,
                "releases": [_plain(release) for release in note.releases],
                "drafts": note.drafts,
                "vehicles": note.vehicles,
            }
        )
    return say(note_tables(note, now()))


def _of_model(folder: Path, name: str | None, version: str | None) -> tuple[str | None, str | None]:
    """What isn't given, from the package's own manifest."""
    path = folder / _MODEL_FILE
    if name is not None and version is not None:
        return name, version
    try:
        if not path.is_file():
            return name, version
        said = msgspec.json.decode(path.read_bytes(), type=_ModelFile)
    except OSError as error:
        raise RepositoryFault(f"Can't read {shown(path)}: {error.strerror}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RepositoryFault(
            f"{shown(path)} says no name and version ({shown(error)}). Give them with --name and --version."
        ) from error
    return name if name is not None else said.name, version if version is not None else said.version


class _ModelFile(msgspec.Struct, frozen=True):
    """What the desk reads of a model package's manifest."""

    name: str
    version: str


def _bytes_of(folder: Path) -> int:
    paths = files_of(folder)
    try:
        return sum(path.stat().st_size for path in paths)
    except OSError as error:
        raise RepositoryFault(f"Can't look at the files of {shown(folder)}: {error.strerror}.") from error


def _rollback_warning(release: int, not_below: Sequence[str]) -> Iterator[str]:
    if not_below:
        yield (
            f"[yellow]Its release {release} isn't above that of {', '.join(map(escape, not_below))}: a vehicle that "
            "has kept one of these refuses it as a rollback. Most often --release should be higher.[/]"
        )


def _plain(release: Release) -> dict[str, Any]:
    content = release.manifest.model_dump(mode="json", by_alias=True)
    for entry, its in zip(content["files"], release.manifest.files, strict=True):
        entry["blocks"] = len(its.blocks)
    more = {"target": release.target, "digest": release.digest, "bytes": release.manifest.size}
    return content | more | {"signed_by": release.signed_by}
