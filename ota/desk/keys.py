"""`keygen` and `init`: keys, and the two repositories that believe them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ecu.errors import shown
from ota.desk.arguments import AsJson, Keys, Repo, desk_of, make_folder, on_the_disk_of, owners_of, writing
from ota.desk.console import say, say_json
from ota.desk.secrets import PinFile, key_folder
from ota.errors import RepositoryFault
from ota.repository.keys import ALL_KEYS
from ota.repository.remote import SCHEMES


@dataclass(frozen=True, slots=True)
class KeyLine:
    name: str
    key_id: str
    is_new: bool


def keygen(
    keys: Keys,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="All that are needed by default.")
    ] = None,
    uri: Annotated[
        str | None,
        typer.Option(help=f"NAME is a key elsewhere, that is there already: {', '.join(SCHEMES)}.", metavar="URI"),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Write each NAME.pub, too, for who lets it sign.")] = False,
    pin_file: PinFile = None,
    as_json: AsJson = False,
) -> None:
    """Make the signing keys that are missing, and list them. A key that is there is never written over."""
    folder = key_folder(keys, pin_file)
    wanted = tuple(dict.fromkeys(names or ALL_KEYS))
    if uri is not None and len(wanted) != 1:
        raise RepositoryFault("A key elsewhere gets one name: outrider ota keygen NAME --uri URI.")
    with on_the_disk_of(keys):
        made = [name for name in wanted if folder.refer(name, uri)] if uri else folder.generate(wanted)
        for name in wanted if public else ():
            folder.write_public(name)
        lines = [KeyLine(name, folder.public(name).keyid, name in made) for name in wanted]
    if as_json:
        return say_json({"keys": lines, "folder": str(keys)})
    table = Table("key", "id", "", caption="Whoever has the folder can sign: keep roots and kinds off this computer.")
    table.columns[1].overflow = "fold"
    for line in lines:
        table.add_row(line.name, line.key_id, "new" if line.is_new else "was there")
    return say([table])


def init(
    repo: Repo,
    keys: Keys,
    owners: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND=N:KEY,KEY...", help="N of these keys sign the kind; else the one of its name does."),
    ] = None,
    pin_file: PinFile = None,
    as_json: AsJson = False,
) -> None:
    """Found the two repositories: roots (2 of 3 keys), and a delegation for each kind. Prints the roots' SHA-256."""
    its_owners = owners_of(owners or [])
    with on_the_disk_of(repo):
        make_folder(repo)
    with writing(repo):
        roots = desk_of(repo).found(key_folder(keys, pin_file), its_owners)
    if as_json:
        return say_json({"repo": str(repo), "roots": roots})
    return say(
        [
            f"Founded {escape(shown(repo))}. A vehicle is delivered with its two roots, by these SHA-256:",
            f"director/metadata/1.root.json  {roots.director}\nimage/metadata/1.root.json     {roots.image}",
        ]
    )
