"""`add` and `inspect`: a release goes in, and what there is comes out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.markup import escape

from ecu.errors import shown
from ota.desk.arguments import AsJson, KindName, Repo, founded, kind_of, on_the_disk_of, target_of, writing
from ota.desk.console import now, progress, say, say_json
from ota.desk.wheels import runtime_folder
from ota.errors import RepositoryFault
from ota.kinds import Kind
from ota.repository.billing import ENDING, MOST_BYTES, ModelFile, bill_of, demand_bill
from ota.repository.desk import Desk
from ota.repository.files import files_of
from ota.repository.given import read_facts
from ota.repository.notetables import release_tables
from ota.repository.releasenote import Release, ReleaseNote
from ota.repository.tables import drafts_table, note_tables
from ota.trust import ANY_HARDWARE

_MODEL_FILE: Final = "model.json"


def add(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="One folder of files; of a runtime it may be a wheel.")
    ],
    repo: Repo,
    kind: KindName,
    release: Annotated[int, typer.Option(help="Grows with every release of its kind; vehicles never go below theirs.")],
    name: Annotated[str | None, typer.Option(help="A model's is in its model.json.")] = None,
    version: Annotated[str | None, typer.Option(help="A model's is in its model.json.")] = None,
    hardware: Annotated[
        list[str] | None, typer.Option(help="May be repeated; 'any' when it isn't given.", metavar="HARDWARE")
    ] = None,
    facts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML: what else the release says of itself.")
    ] = None,
    parent: Annotated[
        str | None, typer.Option(metavar="TARGET", help="The published release that it was made from.")
    ] = None,
    sbom: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its bill of materials (CycloneDX JSON); made when not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Cut FOLDER into a bundle and put it into its kind's draft. Vehicles see nothing of it before it is published."""
    with contextlib.ExitStack() as until_added:
        its_kind = kind_of(kind)
        if its_kind is Kind.RUNTIME:
            folder = until_added.enter_context(runtime_folder(folder))
        _add(
            folder, repo, its_kind, release, name, version, tuple(hardware or (ANY_HARDWARE,)), facts, parent, sbom,
            as_json,
        )  # fmt: skip


def _add(
    folder: Path,
    repo: Path,
    its_kind: Kind,
    release: int,
    name: str | None,
    version: str | None,
    hardware: tuple[str, ...],
    facts: Path | None,
    parent: str | None,
    sbom: Path | None,
    as_json: bool,
) -> None:
    size = _bytes_of(folder)
    said = read_facts(facts) if facts is not None else {}
    brought = _bill(sbom) if sbom is not None else None
    model = _model(folder, name is None or version is None) if its_kind in (Kind.MODEL, Kind.STATE) else None
    if model is not None:
        name, version = name if name is not None else model.name, version if version is not None else model.version
    if name is None or version is None:
        raise RepositoryFault(f"A release of kind {its_kind} needs --name and --version.")
    desk = founded(repo)
    if parent is not None:
        said["lineage"] = said.get("lineage", {}) | {"parent": _parent(desk, repo, parent)}
    with writing(repo), progress("reading", 2 * size, as_json) as advance:
        manifest = desk.images.add(
            folder, its_kind, name, version, release, hardware, advance, said,
            lambda its: (f"{its.name}-{its.version}{ENDING}", brought or bill_of(its, model)),
        )  # fmt: skip
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
    """What is published, by whose keys, until when, and what vehicles are to have; of a TARGET, what is new in it."""
    desk = founded(repo)
    with on_the_disk_of(repo):
        if target is not None:
            news = desk.release_note(target_of(target))
            return say_json(_plain_note(news)) if as_json else say(release_tables(news))
        note = desk.note()
    if as_json:
        return say_json(
            {
                "roots": note.roots,
                "director": note.director,
                "roles": note.roles,
                "releases": [_plain(release) for release in note.releases],
                "drafts": note.drafts,
                "key_drafts": note.key_drafts,
                "vehicles": note.vehicles,
            }
        )
    return say(note_tables(note, now()))


def _model(folder: Path, is_needed: bool) -> ModelFile | None:
    """What the package's own manifest says; None where there is none. What isn't readable matters only when its name
    and version are needed."""
    path = folder / _MODEL_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=ModelFile) if path.is_file() else None
    except OSError as error:
        raise RepositoryFault(f"Can't read {shown(path)}: {error.strerror}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if not is_needed:
            return None
        raise RepositoryFault(
            f"{shown(path)} says no name and version ({shown(error)}). Give them with --name and --version."
        ) from error


def _parent(desk: Desk, repo: Path, target: str) -> str:
    with on_the_disk_of(repo):
        return desk.release(target_of(target)).digest


def _bill(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RepositoryFault(f"Can't read the bill of materials {shown(path)}: {error.strerror}.") from error
    if len(data) > MOST_BYTES:
        raise RepositoryFault(f"The bill of materials {shown(path)} has more than {MOST_BYTES} bytes.")
    demand_bill(data)
    return data


def _bytes_of(folder: Path) -> int:
    paths = files_of(folder)
    try:
        return sum(path.stat().st_size for path in paths.values())
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


def _plain_note(note: ReleaseNote) -> dict[str, Any]:
    before = note.before
    against = (
        None if before is None else {"target": before.target, "digest": before.digest, "is_parent": note.is_parent}
    )
    metrics = [
        {"name": its.metric.name, "than": its.than, "before": its.before and its.before.model_dump(mode="json")}
        for its in note.metrics
    ]
    news = {"before": against, "file_changes": note.files, "metric_changes": metrics, "vehicles": note.vehicles}
    return _plain(note.release) | news
