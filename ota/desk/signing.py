"""`sign`."""

from __future__ import annotations

from typing import Annotated

import typer

from ota.desk.arguments import AsJson, Keys, KindName, Repo, founded, kind_of, writing
from ota.desk.console import say, say_json
from ota.repository.keys import KeyFolder
from ota.repository.tables import drafts_table


def sign(
    repo: Repo,
    keys: Keys,
    role: KindName,
    key: Annotated[
        list[str] | None, typer.Option(help="The key's name; the role's own by default. May be repeated.")
    ] = None,
    renew: Annotated[
        bool, typer.Option("--renew", help="Nothing was added: let what is published last longer.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Sign a kind's draft, and say how many of its signatures it has. Only a key of that kind can."""
    kind = kind_of(role)
    desk = founded(repo)
    signers = KeyFolder(keys).signers(list(key or (kind.value,)))
    with writing(repo):
        if renew:
            desk.images.renew(kind)
        draft = desk.images.sign(kind, signers)
    if as_json:
        return say_json({"draft": draft, "is_signed": draft.standing.is_signed})
    its = draft.standing
    missing = its.threshold - len(its.signed_by)
    ready = "It can be published: outrider ota publish" if its.is_signed else f"It needs {missing} more."
    return say([drafts_table([draft]), f"{len(its.signed_by)} of {its.threshold} signatures. {ready}"])
