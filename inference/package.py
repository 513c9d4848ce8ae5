"""A model package: one flat folder that says what is in it, and is believed only after every byte was checked.

`docs/formats/model-package.md` has the layout. The signature over a package is ota's business; what this module
promises is that the folder holds exactly what its manifest names, so that the package's digest stands for all of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from inference.errors import PackageNotFound, PackageRefused
from inference.folder import Unlike, canonical_json, demand_only, read_checked, read_plain
from inference.manifest import MANIFEST_FILE, AnyManifest, Manifest, parse_manifest
from inference.part import PackageFile

MODELS_FOLDER = Path(__file__).parent / "models"
_FOLDER = re.compile(r"([a-z][a-z0-9-]{0,47})-(\d+(?:\.\d+){1,2})", re.ASCII)
MAX_MANIFEST_BYTES = 1 << 20
MAX_PACKAGE_BYTES = 256 << 20
_Task = TypeVar("_Task", bound=Manifest)


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A folder whose every byte was what the manifest says when it was loaded."""

    folder: Path
    manifest: AnyManifest
    digest: str

    @property
    def title(self) -> str:
        return f"{self.manifest.name}@{self.manifest.version}"

    def manifest_of(self, task: type[_Task]) -> _Task:
        """The manifest, as that of one task. Raises PackageRefused when the package is for another."""
        if not isinstance(self.manifest, task):
            raise PackageRefused(
                f"{self.title} is for the task {self.manifest.task}, not for this one. Name another package."
            )
        return self.manifest

    def read(self, entry: PackageFile) -> bytes:
        """The file's bytes, checked again: what is used is what was hashed. Raises PackageRefused."""
        with _refusing(self.folder):
            return read_checked(self.folder, entry)


def load_package(folder: Path) -> ModelPackage:
    """Checks the folder against its manifest. Raises PackageRefused, naming the file or key; never half loads."""
    with _refusing(folder):
        manifest = parse_manifest(read_plain(folder, MANIFEST_FILE, MAX_MANIFEST_BYTES))
        demand_only(folder, {MANIFEST_FILE, *(entry.file for entry in manifest.files())})
        if sum(entry.bytes for entry in manifest.files()) > MAX_PACKAGE_BYTES:
            raise Unlike(f"its files are more than {MAX_PACKAGE_BYTES} bytes")
        for entry in manifest.files():
            read_checked(folder, entry)
    return ModelPackage(folder, manifest, package_digest(manifest))


def package_digest(manifest: AnyManifest) -> str:
    """SHA-256 (hex) over the canonical manifest and then each file's name and hash, by name."""
    digest = hashlib.sha256(canonical_json(manifest))
    for entry in sorted(manifest.files(), key=lambda entry: entry.file):
        digest.update(f"\n{entry.file} {entry.sha256}".encode())
    return digest.hexdigest()


def list_packages(models: Path = MODELS_FOLDER) -> list[tuple[str, str]]:
    """(name, version) of each package folder `<name>-<version>`, by name and rising version; nothing is opened."""
    folders = [_FOLDER.fullmatch(entry.name) for entry in models.iterdir() if (entry / MANIFEST_FILE).is_file()]
    return sorted(((found[1], found[2]) for found in folders if found), key=lambda it: (it[0], version_key(it[1])))


def find_package(name_or_path: str, models: Path = MODELS_FOLDER) -> Path:
    """The folder of "name@version", of "name" (the newest version), or the path itself. Raises PackageNotFound."""
    if os.sep in name_or_path or Path(name_or_path, MANIFEST_FILE).is_file():
        return _existing_folder(Path(name_or_path))
    name, at, version = name_or_path.partition("@")
    known = list_packages(models)
    versions = [v for n, v in known if n == name and (not at or v == version)]
    if not versions:
        names = ", ".join(f"{n}@{v}" for n, v in known) or "none"
        raise PackageNotFound(f"There is no model package {name_or_path}. Known: {names}; or give a folder's path.")
    return models / f"{name}-{versions[-1]}"


def version_key(version: str) -> tuple[int, ...]:
    """Versions in their order. Raises ValueError for what isn't numbers and dots."""
    return tuple(int(part) for part in version.split("."))


def _existing_folder(folder: Path) -> Path:
    if not (folder / MANIFEST_FILE).is_file():
        raise PackageNotFound(f"{folder} is no model package: it has no {MANIFEST_FILE}. Give a package's own folder.")
    return folder


@contextlib.contextmanager
def _refusing(folder: Path) -> Iterator[None]:
    try:
        yield
    except Unlike as unlike:
        raise PackageRefused(_refusal(folder, str(unlike))) from unlike


def _refusal(folder: Path, reason: str) -> str:
    return f"The model package in {folder} is refused: {reason}. Install it again from its source; it isn't run."
