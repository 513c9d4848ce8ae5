"""What the desk's tests do with a repository: add to it, install from it, and be refused by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ota.errors import RepositoryFault
from ota.fetch import check_bundle, fetch_manifest
from ota.kinds import Kind
from ota.manifest import BundleManifest, decode_manifest
from tests.ota.fleet import CAR, HARDWARE, Fleet


class Killed(BaseException):
    """SIGKILL: nobody catches it."""


def folder_with(at: Path, **files: bytes) -> Path:
    at.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (at / name.replace("_", ".")).write_bytes(content)
    return at


def add(
    fleet: Fleet, version: str, release: int, content: bytes = b"weights", kind: Kind = Kind.MODEL
) -> BundleManifest:
    folder = folder_with(fleet.folder / f"in-{kind}-{version}-{release}", model_onnx=content)
    return fleet.images.add(folder, kind, "drive", version, release, (HARDWARE,))


def installs(fleet: Fleet, state: Path, vehicle: str = CAR) -> list[str]:
    """What the vehicle would install, every block of it looked at."""
    source = fleet.source(vehicle)
    offers = fleet.trust(state, vehicle=vehicle).refresh(source)
    manifests = [decode_manifest(fetch_manifest(source, offer)) for offer in offers]
    for manifest in manifests:
        check_bundle(source, manifest, lambda _: None)
    return [f"{manifest.target} {manifest.release}" for manifest in manifests]


def refusal(act: Callable[..., object], *arguments: object) -> str:
    """One paragraph for whoever sits at the desk."""
    with pytest.raises(RepositoryFault) as refused:
        act(*arguments)
    words = str(refused.value)
    assert words.isprintable()
    assert len(words) < 600
    return words


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
