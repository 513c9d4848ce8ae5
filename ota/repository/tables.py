"""What a repository says, as tables for a terminal: a release note that anybody can read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from ecu.errors import shown
from ota.manifest import bundle_digest, encode_manifest
from ota.repository.desk import Note, Published
from ota.repository.director import Assignment
from ota.repository.metadata import digest_of
from ota.repository.notetables import release_tables
from ota.repository.releasenote import Release, note_of
from ota.repository.rotation import KeysDraft
from ota.repository.targets import Draft
from ota.repository.travel import Waiting, releases_of

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
    for draft in note.key_drafts:
        yield from keys_draft_tables(draft, now)
    if note.drafts:
        yield drafts_table(note.drafts)
    yield vehicles_table("What each vehicle is to have", note.vehicles, now)


def drafts_table(drafts: Sequence[Draft]) -> Table:
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
    # Below, where there is room for all of it: it is what a signature is for, and whoever signs elsewhere is told it.
    table.caption = "\n".join(f"{draft.kind}: digest {draft.digest}" for draft in drafts)
    table.caption_justify = "left"
    return table


def keys_draft_tables(draft: KeysDraft, now: datetime) -> Iterator[RenderableType]:
    """Whose keys a root or the delegations change, and who has signed that."""
    signed = "; ".join(f"{its.count} of {its.threshold} by {its.of}" for its in draft.signatures)
    table = Table("role", "", "key", "have to sign", title=f"Draft of {draft.role}, version {draft.version}")
    table.columns[2].overflow = "fold"
    for change in draft.changes:
        counts = [str(change.threshold_before)] * (change.threshold_before != change.threshold_after)
        number = " -> ".join([*counts, str(change.threshold_after)])
        table.add_row(escape(shown(change.role)), "", "", f"{number} of {len(change.after)}")
        for key_id in (*change.before, *(its for its in change.after if its not in change.before)):
            sign = "[red]goes[/]" if key_id not in change.after else "[green]comes[/]" * (key_id not in change.before)
            table.add_row("", sign or "stays", escape(shown(key_id)), "")
    if not draft.changes:
        table.add_row("only its expiry", "", "", "")
    yield table
    yield f"Signed: {signed}. Expires {until(draft.expires, now)}. Digest {draft.digest}"


def travelling_tables(waits: Waiting, draft: Draft | KeysDraft, now: datetime) -> Iterator[RenderableType]:
    """A draft that came from elsewhere, for whoever is to sign it."""
    if isinstance(draft, KeysDraft):
        yield from keys_draft_tables(draft, now)
        before = waits.before
        yield f"Against version {before.signed.version}, digest {digest_of(before)}: is it the one that you know?"
        return
    yield drafts_table([draft])
    for manifest in releases_of(waits):
        digest = bundle_digest(encode_manifest(manifest))
        release = Release(manifest.target, manifest, digest, draft.standing.signed_by)
        yield from release_tables(note_of(release, (), ()))


def vehicles_table(title: str, assignments: Sequence[Assignment], now: datetime) -> Table:
    table = Table("vehicle", "is to have", "version", "expires", title=title)
    table.columns[1].overflow = "fold"
    for its in assignments:
        what = "\n".join(map(escape, map(shown, its.targets))) or "nothing"
        table.add_row(escape(its.vehicle), what, str(its.version), until(its.expires, now))
    return table


def published_tables(published: Published, now: datetime) -> Iterator[RenderableType]:
    kinds = ", ".join(published.kinds)
    if published.rotated:
        yield f"Published with other keys, or for longer: {', '.join(published.rotated)}."
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
            "--renew. A root: outrider ota rotate image-root, or director-root. Targets: outrider ota rotate KIND.[/]"
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
