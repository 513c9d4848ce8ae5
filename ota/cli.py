"""`outrider ota`: keygen, init, add, sign, publish, inspect, verify. The signing desk's command line."""

from __future__ import annotations

import contextlib
import platform
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table

from ecu.clock import SECOND_NS, SystemClock
from ecu.disk import DiskDenied, DiskFull, RealDisk, explained
from ecu.errors import shown
from ecu.toml import nearest
from ota.errors import NoRoomForUpdate, RepositoryFault, TrustError
from ota.fetch import check_bundle, fetch_manifest
from ota.floors import Floors
from ota.kinds import Kind
from ota.manifest import BundleManifest, decode_manifest
from ota.repository.alone import alone
from ota.repository.desk import Desk, Published, Release
from ota.repository.files import files_of
from ota.repository.keys import ALL_KEYS, KeyFolder, Owners
from ota.repository.metadata import is_root
from ota.repository.tables import drafts_table, note_tables, published_tables, release_tables
from ota.source import FolderSource
from ota.trust import ANY_HARDWARE, Roots, Trust, Vehicle

app = typer.Typer(
    help="The signing desk: keys, releases, and what each vehicle is to have.",
    no_args_is_help=True,
    add_completion=False,
)

Repo = Annotated[Path, typer.Option("--repo", help="The repository's folder.")]
Keys = Annotated[Path, typer.Option("--keys", help="The folder of the private keys that are needed for this.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else there.")]
KindName = Annotated[str, typer.Option(metavar="KIND", help=f"One of: {', '.join(Kind)}.")]

_MODEL_FILE: Final = "model.json"
_COUNT: Final = re.compile(r"[1-9][0-9]?")


@dataclass(frozen=True, slots=True)
class KeyLine:
    name: str
    key_id: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a vehicle would make of the repository. `attack` is None when it would believe it."""

    vehicle: str
    hardware: str
    installs: tuple[BundleManifest, ...]
    attack: str | None
    words: str


@app.command()
def keygen(
    keys: Keys,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="All that are needed by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make the signing keys that are missing, and list them. A key that is there is never written over."""
    folder = KeyFolder(keys)
    with _on_the_disk_of(keys):
        wanted = tuple(dict.fromkeys(names or ALL_KEYS))
        made = folder.generate(wanted)
        lines = [KeyLine(name, folder.key_id(name), name in made) for name in wanted]
    if as_json:
        return _print_json({"keys": lines, "folder": str(keys)})
    table = Table("key", "id", "", caption="Whoever has the folder can sign: keep roots and kinds off this computer.")
    table.columns[1].overflow = "fold"
    for line in lines:
        table.add_row(line.name, line.key_id, "new" if line.is_new else "was there")
    return _print([table])


@app.command()
def init(
    repo: Repo,
    keys: Keys,
    owners: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND=N:KEY,KEY...", help="N of these keys sign the kind; else the one of its name does."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Found the two repositories: roots (2 of 3 keys), and a delegation for each kind. Prints the roots' SHA-256."""
    its_owners = _owners(owners or [])
    with _on_the_disk_of(repo):
        _make_folder(repo)
    with _writing(repo):
        roots = _desk(repo).found(KeyFolder(keys), its_owners)
    if as_json:
        return _print_json({"repo": str(repo), "roots": roots})
    return _print(
        [
            f"Founded {escape(shown(repo))}. A vehicle is delivered with its two roots, by these SHA-256:",
            f"director/metadata/1.root.json  {roots.director}\nimage/metadata/1.root.json     {roots.image}",
        ]
    )


@app.command()
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
    its_kind = _kind(kind)
    size = _bytes_of(folder)
    if its_kind in (Kind.MODEL, Kind.STATE):
        name, version = _of_model(folder, name, version)
    if name is None or version is None:
        raise RepositoryFault(f"A release of kind {its_kind} needs --name and --version.")
    desk = _founded(repo)
    with _writing(repo), _progress("reading", 2 * size, as_json) as advance:
        manifest = desk.images.add(
            folder, its_kind, name, version, release, tuple(hardware or (ANY_HARDWARE,)), advance
        )
        drafts = [draft for draft in desk.images.drafts() if draft.kind is its_kind]
        not_below = desk.images.not_below(manifest)
    waits = any(change.target == manifest.target for draft in drafts for change in draft.changes)
    if as_json:
        added = {"target": manifest.target, "bytes": manifest.size, "is_draft": waits, "drafts": drafts}
        return _print_json({**added, "not_below": not_below})
    if not waits:
        return _print([f"{manifest.title} is published with these very bytes already: there is nothing to sign."])
    say = f"Added {manifest.title}: {len(manifest.files)} files, {manifest.size:,} bytes. Have it signed: outrider ota"
    return _print([drafts_table(drafts), *_rollback_warning(release, not_below), f"{say} sign --role {its_kind}"])


@app.command()
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
    kind = _kind(role)
    desk = _founded(repo)
    signers = KeyFolder(keys).signers(list(key or (kind.value,)))
    with _writing(repo):
        if renew:
            desk.images.renew(kind)
        draft = desk.images.sign(kind, signers)
    if as_json:
        return _print_json({"draft": draft, "is_signed": draft.standing.is_signed})
    its = draft.standing
    missing = its.threshold - len(its.signed_by)
    ready = "It can be published: outrider ota publish" if its.is_signed else f"It needs {missing} more."
    return _print([drafts_table([draft]), f"{len(its.signed_by)} of {its.threshold} signatures. {ready}"])


@app.command()
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
    as_json: AsJson = False,
) -> None:
    """Make signed drafts current and let all that is published last longer; with --vehicle and --target, from now on
    each of these vehicles is to have these releases and no others."""
    vehicles, targets = vehicle or [], [_target(name) for name in target or []]
    if bool(vehicles) != (bool(targets) or withdraw) or (targets and withdraw):
        raise RepositoryFault(
            "An assignment needs --vehicle, and either --target or --withdraw, each as often as wanted."
        )
    desk = _founded(repo)
    with _writing(repo):
        published: Published = desk.publish(KeyFolder(keys), vehicles, targets, with_drafts=not leave_drafts)
    return _print_json(published) if as_json else _print(published_tables(published, _now()))


@app.command()
def inspect(
    repo: Repo,
    target: Annotated[str | None, typer.Argument(metavar="[TARGET]", help="Like model/drive-1.0.json.")] = None,
    as_json: AsJson = False,
) -> None:
    """What is published, by whose keys, until when, and what each vehicle is to have; of a TARGET, all its files."""
    desk = _founded(repo)
    with _on_the_disk_of(repo):
        if target is not None:
            release: Release = desk.release(_target(target))
            return _print_json(_plain(release)) if as_json else _print(release_tables(release))
        note = desk.note()
    if as_json:
        return _print_json(
            {
                "roots": note.roots,
                "director": note.director,
                "roles": note.roles,
                "releases": [_plain(release) for release in note.releases],
                "drafts": note.drafts,
                "vehicles": note.vehicles,
            }
        )
    return _print(note_tables(note, _now()))


@app.command()
def verify(
    repo: Repo,
    vehicle: Annotated[str, typer.Option(metavar="VEHICLE", help="The vehicle that looks.")],
    hardware: Annotated[str, typer.Option(metavar="HARDWARE", help="What it is.")] = platform.machine().lower(),
    director_root: Annotated[
        Path | None, typer.Option(help="The root that it was delivered with; the repository's first by default.")
    ] = None,
    image_root: Annotated[Path | None, typer.Option(help="As --director-root, of the image repository.")] = None,
    as_json: AsJson = False,
) -> None:
    """Look as a vehicle does that has never looked before: all metadata, and every block of what it would install.
    Exit 1 when it would refuse."""
    desk = _founded(repo)
    with _on_the_disk_of(repo):
        desk.director.demand_known(vehicle)
        roots = Roots(
            _given(director_root) or desk.director.root(),
            _given(image_root) or desk.images.root(),
        )
    try:
        installs = _looked(repo, Vehicle(vehicle, hardware), roots, as_json)
    except TrustError as refusal:
        if as_json:
            _print_json(_plain_verdict(Verdict(vehicle, hardware, (), refusal.attack, str(refusal))))
        else:
            _print([f"{escape(vehicle)} ({escape(shown(hardware))}) would refuse this repository, and change nothing."])
        raise
    what = ", ".join(manifest.title for manifest in installs) or "nothing: it is to have nothing"
    verdict = Verdict(vehicle, hardware, installs, None, f"would install {what}")
    if as_json:
        return _print_json(_plain_verdict(verdict))
    size = sum(manifest.size for manifest in installs)
    return _print(
        [f"{escape(vehicle)} ({escape(shown(hardware))}) {verdict.words}. {size:,} bytes, and every block is right."]
    )


# --- what a vehicle would make of it ----------------------------------------------------------------


def _looked(repo: Path, vehicle: Vehicle, roots: Roots, quiet: bool) -> tuple[BundleManifest, ...]:
    source = FolderSource(repo, vehicle.name)
    temporary = Path(tempfile.gettempdir())
    with (
        _on_the_disk_of(temporary),
        explained("unpack metadata into", temporary),
        tempfile.TemporaryDirectory(prefix="outrider-verify-") as state,
    ):
        disk = RealDisk(Path(state))
        offers = Trust(disk, roots, vehicle, Floors(disk), SystemClock()).refresh(source)
    manifests = tuple(decode_manifest(fetch_manifest(source, offer)) for offer in offers)
    with _progress("checking", sum(manifest.size for manifest in manifests), quiet) as advance:
        for manifest in manifests:
            check_bundle(source, manifest, advance)
    return manifests


# --- arguments --------------------------------------------------------------------------------------


def _desk(repo: Path) -> Desk:
    return Desk(RealDisk(repo), SystemClock())


def _founded(repo: Path) -> Desk:
    desk = _desk(repo)
    with _on_the_disk_of(repo):
        if not desk.images.is_founded:
            raise RepositoryFault(
                f"There is no repository in {shown(repo)}. Make one: outrider ota init, or name another with --repo."
            )
    return desk


def _kind(name: str) -> Kind:
    if name in set(Kind):
        return Kind(name)
    likely = nearest(name, list(Kind))
    hint = f" Did you mean {likely}?" if likely else ""
    raise RepositoryFault(f"{shown(name)} is no kind.{hint} The kinds are {', '.join(Kind)}.")


def _target(name: str) -> str:
    """ "model/drive-1.0" is taken for "model/drive-1.0.json"."""
    return name if name.endswith(".json") else f"{name}.json"


def _owners(texts: Iterable[str]) -> dict[Kind, Owners]:
    owners: dict[Kind, Owners] = {}
    for text in texts:
        kind, _, rest = text.partition("=")
        number, _, names = rest.partition(":")
        if not _COUNT.fullmatch(number) or not names or _kind(kind) in owners:
            raise RepositoryFault(
                f"--owners {shown(text)} can't be read. Write it once a kind, like model=2:anna,ben,carl: two of the "
                "keys anna, ben and carl sign models."
            )
        owners[_kind(kind)] = Owners(int(number), tuple(names.split(",")))
    return owners


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


def _given(root: Path | None) -> bytes | None:
    if root is None:
        return None
    try:
        data = root.read_bytes()
    except OSError as error:
        raise RepositoryFault(f"Can't read the root {shown(root)}: {error.strerror}.") from error
    if not is_root(data):
        raise RepositoryFault(f"{shown(root)} is no root. A vehicle's are the files NUMBER.root.json it came with.")
    return data


def _make_folder(repo: Path) -> None:
    try:
        RealDisk(repo).make_folder("")
    except FileExistsError as error:
        raise RepositoryFault(f"{shown(repo)} isn't a folder. Give another --repo.") from error


@contextlib.contextmanager
def _on_the_disk_of(folder: Path) -> Iterator[None]:
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
def _writing(repo: Path) -> Iterator[None]:
    """No other desk writes meanwhile."""
    with _on_the_disk_of(repo), alone(repo):
        yield


# --- what is said -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _progress(what: str, total: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    columns = TextColumn(what), BarColumn(), DownloadColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as progress:
        bar = progress.add_task("", total=total)
        yield lambda count: progress.advance(bar, count)


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


def _plain_verdict(verdict: Verdict) -> dict[str, Any]:
    installs = [
        {"target": its.target, "title": its.title, "release": its.release, "bytes": its.size}
        for its in verdict.installs
    ]
    return {
        "vehicle": verdict.vehicle,
        "hardware": verdict.hardware,
        "ok": verdict.attack is None,
        "attack": verdict.attack,
        "words": verdict.words,
        "installs": installs,
    }


def _now() -> datetime:
    return datetime.fromtimestamp(SystemClock().wall_ns() // SECOND_NS, UTC)


def _print(parts: Iterable[RenderableType]) -> None:
    console = Console()
    for part in parts:
        console.print(part, highlight=False, soft_wrap=isinstance(part, str))


def _print_json(content: object) -> None:
    typer.echo(msgspec.json.encode(content).decode())
