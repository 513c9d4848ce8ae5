"""What the verbs are given: folders, kinds, targets and owners, and whose disk it is that refuses."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final

import typer

from ecu.clock import SystemClock
from ecu.disk import DiskDenied, DiskFull, RealDisk
from ecu.errors import shown
from ecu.toml import nearest
from ota.errors import NoRoomForUpdate, RepositoryFault
from ota.kinds import Kind
from ota.repository.alone import alone
from ota.repository.desk import Desk
from ota.repository.keys import Owners
from ota.repository.travel import SIGNED

Repo = Annotated[Path, typer.Option("--repo", help="The repository's folder.")]
Keys = Annotated[Path, typer.Option("--keys", help="The folder of the private keys that are needed for this.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else there.")]
KindName = Annotated[str, typer.Option(metavar="KIND", help=f"One of: {', '.join(Kind)}.")]

_COUNT: Final = re.compile(r"[1-9][0-9]?")


def desk_of(repo: Path) -> Desk:
    return Desk(RealDisk(repo), SystemClock())


def founded(repo: Path) -> Desk:
    desk = desk_of(repo)
    with on_the_disk_of(repo):
        if not desk.images.is_founded:
            raise RepositoryFault(
                f"There is no repository in {shown(repo)}. Make one: outrider ota init, or name another with --repo."
            )
    return desk


def kind_of(name: str) -> Kind:
    if name in set(Kind):
        return Kind(name)
    likely = nearest(name, list(Kind))
    hint = f" Did you mean {likely}?" if likely else ""
    raise RepositoryFault(f"{shown(name)} is no kind.{hint} The kinds are {', '.join(Kind)}.")


def role_of(name: str) -> str:
    """What is signed in drafts: a kind, or whose keys sign what."""
    if name in SIGNED:
        return name
    likely = nearest(name, SIGNED)
    hint = f" Did you mean {likely}?" if likely else ""
    others = ", ".join(role for role in SIGNED if role not in set(Kind))
    raise RepositoryFault(
        f"{shown(name)} is nothing that is signed.{hint} The kinds are {', '.join(Kind)}; else there are {others}."
    )


def target_of(name: str) -> str:
    """ "model/drive-1.0" is taken for "model/drive-1.0.json"."""
    return name if name.endswith(".json") else f"{name}.json"


def owners_of(texts: Iterable[str]) -> dict[Kind, Owners]:
    owners: dict[Kind, Owners] = {}
    for text in texts:
        kind, _, rest = text.partition("=")
        number, _, names = rest.partition(":")
        if not _COUNT.fullmatch(number) or not names or kind_of(kind) in owners:
            raise RepositoryFault(
                f"--owners {shown(text)} can't be read. Write it once a kind, like model=2:anna,ben,carl: two of the "
                "keys anna, ben and carl sign models."
            )
        owners[kind_of(kind)] = Owners(int(number), tuple(names.split(",")))
    return owners


def make_folder(repo: Path) -> None:
    try:
        RealDisk(repo).make_folder("")
    except FileExistsError as error:
        raise RepositoryFault(f"{shown(repo)} isn't a folder. Give another --repo.") from error


@contextlib.contextmanager
def on_the_disk_of(folder: Path) -> Iterator[None]:
    """What a disk refuses, in the words of a desk and not of a vehicle."""
    try:
        yield
    except DiskFull as error:
        raise NoRoomForUpdate(
            f"The disk that holds {shown(folder)} is full. What vehicles see is whole and as it was. Free some space "
            "on it and give the same command again."
        ) from error
    except FileExistsError as error:
        raise DiskDenied(f"{shown(error.filename)} isn't a folder, as it should be. Move it away.") from error
    except DiskDenied as error:
        cause = error.__cause__
        why, where = (cause.strerror, cause.filename) if isinstance(cause, OSError) else (str(error), None)
        raise DiskDenied(
            f"Can't read or write {shown(where or folder)}: {why}. Run as the owner of that folder, or give another."
        ) from error


@contextlib.contextmanager
def writing(repo: Path) -> Iterator[None]:
    """No other desk writes meanwhile."""
    with on_the_disk_of(repo), alone(repo):
        yield
