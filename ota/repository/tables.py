"""What a repository says, as tables for a terminal: a release note that anybody can read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from ecu.errors import shown
from ota.repository.desk import Note, Published, Release
from ota.repository.director import Assignment
from ota.repository.images import Draft

_ID_CHARACTERS: Final = 16


def note_tables(note: Note, now: datetime) -> Iterator[RenderableType]:
    """What is published, by whom, until when; what waits; what each vehicle is to have."""
    yield f"director root sha256:{note.roots.director}\nimage root    sha256:{note.roots.image}"
    roles = Table("role", "version", "signatures", "by keys", "expires", title="Roles")
    for its in (note.director, *note.roles):
        signatures = f"{len(its.signed_by)} of {its.threshold}"
        roles.add_row(escape(its.role), str(its.version), signatures, key_ids(its.signed_by), until(its.expires, now))
    yield roles
    releases = Table("target", "release", "hardware", "files", "bytes", "by keys", title="Releases")
    releases.columns[0].overflow = "fold"
    for one in note.releases:
        its_manifest = one.manifest
        releases.add_row(
            escape(one.target),
            str(its_manifest.release),
            ", ".join(map(escape, its_manifest.hardware)),
            str(len(its_manifest.files)),
            f"{its_manifest.size:,}",
            key_ids(one.signed_by),
        )
    yield releases
    if note.drafts:
        yield drafts_table(note.drafts)
    yield vehicles_table("What each vehicle is to have", note.vehicles, now)


def drafts_table(drafts: Iterable[Draft]) -> Table:
    """Whoever signs reads the manifests' digests here: they are what the signature is for."""
    table = Table("kind", "signatures", "changes", "release", "SHA-256 of the manifest", "expires", title="Drafts")
    for column in table.columns:
        column.overflow = "fold"
    for draft in drafts:
        signatures = f"{len(draft.standing.signed_by)} of {draft.standing.threshold}"
        what = "" if draft.changes else "only its expiry"
        table.add_row(draft.kind, signatures, what, "", "", f"{draft.standing.expires:%Y-%m-%d}")
        for change in draft.changes:
            digest = change.sha256 or "[red]taken out[/red]"
            table.add_row("", "", escape(shown(change.target)), str(change.release), digest)
    return table


def vehicles_table(title: str, assignments: Sequence[Assignment], now: datetime) -> Table:
    table = Table("vehicle", "is to have", "version", "expires", title=title)
    table.columns[1].overflow = "fold"
    for its in assignments:
        what = "\n".join(map(escape, map(shown, its.targets))) or "nothing"
        table.add_row(escape(its.vehicle), what, str(its.version), until(its.expires, now))
    return table


def release_tables(release: Release) -> Iterator[RenderableType]:
    """One release: its facts, then its files."""
    manifest = release.manifest
    facts = Table("", "", show_header=False, box=None)
    facts.columns[1].overflow = "fold"
    for name, value in (
        ("target", release.target),
        ("kind", manifest.kind),
        ("name", manifest.name),
        ("version", manifest.version),
        ("release", str(manifest.release)),
        ("hardware", ", ".join(manifest.hardware)),
        ("digest", f"sha256:{release.digest}"),
        ("signed by", key_ids(release.signed_by)),
    ):
        facts.add_row(f"[bold]{name}[/bold]", escape(value))
    yield facts
    files = Table("file", "bytes", "blocks", "SHA-256", title=f"{len(manifest.files)} files, {manifest.size:,} bytes")
    files.columns[3].overflow = "fold"
    for entry in manifest.files:
        files.add_row(escape(entry.path), f"{entry.size:,}", str(len(entry.blocks)), entry.sha256)
    yield files


def published_tables(published: Published, now: datetime) -> Iterator[RenderableType]:
    kinds = ", ".join(published.kinds)
    yield f"Published the drafts of {kinds}." if kinds else "No draft became current; snapshot and timestamp are new."
    if published.assigned:
        yield vehicles_table("Assigned", published.assigned, now)
    if published.renewed:
        yield vehicles_table("As before, for longer", published.renewed, now)
    if published.ending:
        table = Table("role", "expires", title="Ends soon")
        for its in published.ending:
            table.add_row(escape(its.role), until(its.expires, now))
        yield table
        yield (
            "[yellow]Vehicles refuse what hangs on these when they have expired. A kind: outrider ota sign --role KIND "
            "--renew. A root, and targets: those who hold the root keys.[/]"
        )
    if published.left:
        yield "[yellow]The director's keys aren't in --keys, so these assignments end when they did before.[/]"
        yield vehicles_table("As before, and no longer", published.left, now)


def key_ids(ids: Sequence[str]) -> str:
    return ", ".join(escape(shown(one[:_ID_CHARACTERS])) for one in ids) or "nobody"


def until(expires: datetime, now: datetime) -> str:
    """The day; in red when it is past: vehicles take that for a frozen repository."""
    day = f"{expires:%Y-%m-%d %H:%M}Z"
    return f"[red]{day} expired[/red]" if expires <= now else day
