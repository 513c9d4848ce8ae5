"""`verify`: the repository as a vehicle sees it that has never looked before."""

from __future__ import annotations

import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from ecu.clock import SystemClock
from ecu.disk import RealDisk, explained
from ecu.errors import shown
from ota.desk.arguments import AsJson, Repo, founded, on_the_disk_of
from ota.desk.console import progress, say, say_json
from ota.errors import RepositoryFault, TrustError
from ota.fetch import check_bundle, fetch_manifest
from ota.floors import Floors
from ota.manifest import BundleManifest, decode_manifest
from ota.repository.metadata import is_root
from ota.source import FolderSource
from ota.trust import Roots, Trust, Vehicle


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a vehicle would make of the repository. `attack` is None when it would believe it."""

    vehicle: str
    hardware: str
    installs: tuple[BundleManifest, ...]
    attack: str | None
    words: str


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
    desk = founded(repo)
    with on_the_disk_of(repo):
        desk.director.demand_known(vehicle)
        roots = Roots(
            _given(director_root) or desk.director.root(),
            _given(image_root) or desk.images.root(),
        )
    try:
        installs = _looked(repo, Vehicle(vehicle, hardware), roots, as_json)
    except TrustError as refusal:
        if as_json:
            say_json(_plain_verdict(Verdict(vehicle, hardware, (), refusal.attack, str(refusal))))
        else:
            say([f"{escape(vehicle)} ({escape(shown(hardware))}) would refuse this repository, and change nothing."])
        raise
    what = ", ".join(manifest.title for manifest in installs) or "nothing: it is to have nothing"
    verdict = Verdict(vehicle, hardware, installs, None, f"would install {what}")
    if as_json:
        return say_json(_plain_verdict(verdict))
    size = sum(manifest.size for manifest in installs)
    return say(
        [f"{escape(vehicle)} ({escape(shown(hardware))}) {verdict.words}. {size:,} bytes, and every block is right."]
    )


def _looked(repo: Path, vehicle: Vehicle, roots: Roots, quiet: bool) -> tuple[BundleManifest, ...]:
    source = FolderSource(repo, vehicle.name)
    temporary = Path(tempfile.gettempdir())
    with (
        on_the_disk_of(temporary),
        explained("unpack metadata into", temporary),
        tempfile.TemporaryDirectory(prefix="outrider-verify-") as state,
    ):
        disk = RealDisk(Path(state))
        offers = Trust(disk, roots, vehicle, Floors(disk), SystemClock()).refresh(source)
    manifests = tuple(decode_manifest(fetch_manifest(source, offer)) for offer in offers)
    with progress("checking", sum(manifest.size for manifest in manifests), quiet) as advance:
        for manifest in manifests:
            check_bundle(source, manifest, advance)
    return manifests


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
