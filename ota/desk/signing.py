"""`sign` and `rotate`: what waits for signatures, here and on its way to those who give them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType

from ecu.disk import RealDisk, replace_file
from ecu.errors import shown
from ota.desk.arguments import AsJson, Repo, founded, on_the_disk_of, role_of, writing
from ota.desk.console import now, say, say_json
from ota.desk.secrets import PinFile, key_folder
from ota.errors import RepositoryFault
from ota.kinds import Kind
from ota.repository import travel
from ota.repository.desk import Desk
from ota.repository.keys import KeyFolder, read_public, root_keys
from ota.repository.rotation import ROTATED, KeysDraft, Wanted, key_id_like
from ota.repository.tables import drafts_table, keys_draft_tables, travelling_tables
from ota.repository.targets import Draft, kind_draft
from ota.repository.travel import SIGNED, Waiting

Role = Annotated[str | None, typer.Option(metavar="ROLE", help=f"One of: {', '.join(SIGNED)}.")]


def sign(
    repo: Annotated[Path | None, typer.Option("--repo", help="The repository's folder.")] = None,
    keys: Annotated[Path | None, typer.Option("--keys", help="The folder of the private keys that sign.")] = None,
    role: Role = None,
    key: Annotated[
        list[str] | None, typer.Option(help="The key's name; the role's own by default. May be repeated.")
    ] = None,
    renew: Annotated[
        bool, typer.Option("--renew", help="Nothing was added: let what is published last longer.")
    ] = False,
    send: Annotated[
        Path | None, typer.Option("--send", metavar="FILE", help="Write the draft for one who signs elsewhere.")
    ] = None,
    draft: Annotated[
        Path | None, typer.Option("--draft", metavar="FILE", help="Show one that came; with --digest, sign it.")
    ] = None,
    digest: Annotated[
        str | None, typer.Option(help="What was shown: the draft's digest, 32 characters or more.")
    ] = None,
    take: Annotated[
        list[Path] | None, typer.Option("--import", metavar="FILE", help="Take a draft's signatures. May be repeated.")
    ] = None,
    pin_file: PinFile = None,
    as_json: AsJson = False,
) -> None:
    """Sign a role's draft, and say how many of its signatures it has. Only its own keys can. Several people sign one
    after the other here, or each elsewhere: --send it to them, they --draft it, then --import what they send back."""
    if draft is not None:
        folder = key_folder(keys, pin_file) if keys is not None else None
        return _sign_there(draft, digest, folder, key or [], as_json)
    if repo is None:
        raise RepositoryFault("Name the repository with --repo, or a draft that came with --draft.")
    desk = founded(repo)
    with writing(repo):
        if take:
            return _take(desk, take, as_json)
        role = role_of(role or "")
        if renew and role in set(Kind):
            desk.images.renew(Kind(role))
        if send is not None:
            return _send(desk, role, send, as_json)
        if keys is None:
            raise RepositoryFault("Name the folder of the keys that sign with --keys.")
        waits = desk.waiting(role)
        _demand_digest(waits, digest)
        folder = key_folder(keys, pin_file)
        signed = desk.sign(role, folder.signers(key or _usual(role, folder, waits)))
    return _say_signed(signed, as_json)


def rotate(
    role: Annotated[str, typer.Argument(metavar="ROLE", help=f"Whose keys: {', '.join(ROTATED)}.")],
    repo: Repo,
    out: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar="ID", help="The first characters of a key's id. May be repeated."),
    ] = None,
    into: Annotated[
        list[Path] | None,
        typer.Option("--add", metavar="FILE", help="A public key: NAME.pub or NAME.uri. May be repeated."),
    ] = None,
    threshold: Annotated[int | None, typer.Option(help="How many of its keys have to sign; as before.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draft other keys for a role; with none, let a root or the kinds' delegations last longer. Those who hold the keys
    sign it, the old ones and the new: it says whom it needs."""
    if role not in ROTATED:
        raise RepositoryFault(f"{shown(role)} has no keys. There are: {', '.join(ROTATED)}.")
    desk = founded(repo)
    with writing(repo):
        ids = desk.key_ids(role)
        wanted = Wanted(
            tuple(key_id_like(text, ids) for text in out or []), tuple(map(read_public, into or [])), threshold
        )
        drafts = desk.rotate(role, wanted)
        needed = [its.role for its in drafts if not its.is_signed]
        needed += [its.kind for its in desk.images.drafts() if not its.standing.is_signed]
    if as_json:
        return say_json({"drafts": drafts, "to_sign": needed})
    say(part for its in drafts for part in keys_draft_tables(its, now()))
    return say([f"To be signed, then published: {', '.join(needed)}. outrider ota sign --role {needed[0]}"])


# --- where there is no repository ---------------------------------------------------------------------


def _sign_there(path: Path, digest: str | None, keys: KeyFolder | None, names: Sequence[str], as_json: bool) -> None:
    """Shows a draft that came, and signs it if that is what was shown."""
    waits = _came(path)
    if keys is not None and (digest is None or not names):
        raise RepositoryFault(
            f"Look at the draft first: outrider ota sign --draft {shown(path)}. Then sign it with --keys, the --key "
            "that is yours, and the --digest that the desk tells you."
        )
    if keys is not None and digest is not None:
        travel.sign_there(waits, digest, keys.signers(names))
        with on_the_disk_of(path.parent):
            replace_file(RealDisk(path.parent), path.name, travel.encode(waits))
    signed_by = sorted(waits.draft.signatures)
    if as_json:
        its = {"role": waits.role, "digest": waits.digest, "draft": _described(waits), "signed_by": signed_by}
        return say_json(its)
    say(travelling_tables(waits, _described(waits), now()))
    done = "It is signed: send the file back." if keys else f"Digest, to compare with the desk's: {waits.digest}"
    return say([done])


def _came(path: Path) -> Waiting:
    try:
        if path.stat().st_size > travel.MOST_BYTES:
            raise RepositoryFault(f"{shown(path)} is too large for a draft.")
        return travel.decode(path.read_bytes())
    except OSError as error:
        raise RepositoryFault(f"Can't read the draft {shown(path)}: {error.strerror}.") from error


def _described(waits: Waiting) -> Draft | KeysDraft:
    if waits.role not in set(Kind):
        return travel.keys_draft(waits)
    return kind_draft(Kind(waits.role), waits.draft, waits.before.signed, waits.by.signed)


# --- where there is one -------------------------------------------------------------------------------


def _send(desk: Desk, role: str, path: Path, as_json: bool) -> None:
    waits = desk.waiting(role)
    with on_the_disk_of(path.parent):
        replace_file(RealDisk(path.parent), path.name, travel.encode(waits))
    if as_json:
        return say_json({"role": role, "digest": waits.digest, "file": str(path)})
    return say([f"Wrote {shown(path)}. Tell whoever signs its digest by another way: {waits.digest}"])


def _take(desk: Desk, paths: Sequence[Path], as_json: bool) -> None:
    taken = [(came.role, desk.merge(came)) for came in map(_came, paths)]
    if as_json:
        return say_json({"taken": [{"role": role, "signed_by": ids} for role, ids in taken], "drafts": desk.drafts()})
    for role, ids in taken:
        say([f"{role}: {', '.join(key_id[:16] for key_id in ids) or 'no new signature'}"])
    return say(_tables(desk.drafts()))


def _usual(role: str, folder: KeyFolder, waits: Waiting) -> list[str]:
    """The keys that sign it when none is named: of a root those that are there and may."""
    if not role.endswith("-root"):
        return ["image-targets" if role == "targets" else role]
    there = [name for name in root_keys(role.removesuffix("-root")) if folder.holds([name])]
    able = [name for name in there if folder.key_id(name) in waits.keys]
    if not able:
        raise RepositoryFault(f"No key in --keys can sign {role}. Name one with --key, or give another folder.")
    return able


def _demand_digest(waits: Waiting, digest: str | None) -> None:
    if digest is not None and not waits.digest.startswith(digest):
        raise RepositoryFault(f"The draft of {waits.role} has the digest {waits.digest} by now. Look at it again.")


def _say_signed(signed: Draft | KeysDraft, as_json: bool) -> None:
    is_signed = signed.standing.is_signed if isinstance(signed, Draft) else signed.is_signed
    if as_json:
        return say_json({"draft": signed, "is_signed": is_signed})
    say(_tables([signed]))
    if isinstance(signed, KeysDraft):
        return say(["It can be published: outrider ota publish" if is_signed else "It needs more signatures."])
    its = signed.standing
    missing = its.threshold - len(its.signed_by)
    ready = "It can be published: outrider ota publish" if is_signed else f"It needs {missing} more."
    return say([f"{len(its.signed_by)} of {its.threshold} signatures. {ready}"])


def _tables(drafts: Sequence[Draft | KeysDraft]) -> list[RenderableType]:
    kinds = [its for its in drafts if isinstance(its, Draft)]
    keys = [part for its in drafts if isinstance(its, KeysDraft) for part in keys_draft_tables(its, now())]
    return [*keys, *([drafts_table(kinds)] if kinds else [])]
