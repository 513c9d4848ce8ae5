"""Labelled crops in one picture: a folder of `crops.json` and a sheet, in which class follows class.

For what has a state and not only a place: a traffic light's lamp. docs/formats/crop-sheet.md has the layout. As with a
model package, nothing of it is believed before every byte was checked, and its size is read before it is decoded.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StringConstraints, model_validator

from inference.errors import InferenceError
from inference.folder import Unlike, canonical_json, demand_only, parse_closed, read_checked, read_plain
from inference.part import FileName, Line, Name, Part, Sha256, Version

CROPS_FILE: Final = "crops.json"
COLUMNS: Final = 40
"""Crops beside each other on a sheet."""
MAX_CROPS_BYTES: Final = 64 * 1024

ClassName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}$")]


class CropsRefused(InferenceError):
    """The folder isn't what its crops.json says. Nothing in it is used."""


class Sheet(Part):
    """The picture: lossless, so that a crop is the same on every computer."""

    file: FileName
    sha256: Sha256
    bytes: Annotated[int, Field(ge=1, le=16 << 20)]


class ClassCount(Part):
    """So many crops of a class, at that place among the classes."""

    label: ClassName
    crops: Annotated[int, Field(ge=0, le=100_000)]


class CropsManifest(Part):
    """crops.json. `size`: pixels of a crop's side."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    name: Name
    version: Version
    source: Line
    source_sha256: Sha256
    licence: Line
    size: Annotated[int, Field(ge=8, le=256)]
    classes: Annotated[tuple[ClassCount, ...], Field(min_length=2, max_length=32)]
    sheet: Sheet

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(one.label for one in self.classes)

    @property
    def count(self) -> int:
        return sum(one.crops for one in self.classes)

    @model_validator(mode="after")
    def _holds_together(self) -> CropsManifest:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("a class is named twice")
        if not 0 < self.count <= 100_000:
            raise ValueError(f"it has {self.count} crops")
        return self


@dataclass(frozen=True, slots=True)
class Crops:
    """`pictures` (N, size, size, 3) uint8 BGR, `labels` (N,) int64, places among `manifest.labels`."""

    manifest: CropsManifest
    pictures: NDArray[np.uint8]
    labels: NDArray[np.int64]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the canonical crops.json, which has that of the sheet."""
        return hashlib.sha256(canonical_json(self.manifest)).hexdigest()

    @property
    def title(self) -> str:
        return f"{self.manifest.name}@{self.manifest.version}"


def load_crops(folder: Path) -> Crops:
    """Raises CropsRefused, naming the file or key."""
    with _refusing(folder):
        manifest: CropsManifest = parse_closed(
            CropsManifest.model_validate_json, CROPS_FILE, read_plain(folder, CROPS_FILE, MAX_CROPS_BYTES)
        )
        demand_only(folder, {CROPS_FILE, manifest.sheet.file})
        pictures = _cut(manifest, read_checked(folder, manifest.sheet))
    labels = np.repeat(np.arange(len(manifest.classes)), [one.crops for one in manifest.classes])
    return Crops(manifest, pictures, labels)


def sheet_of(pictures: NDArray[np.uint8]) -> bytes:
    """The pictures (N, size, size, 3) as a lossless WebP, row by row; what is left of the last row is black."""
    count, size = pictures.shape[:2]
    rows = -(-count // COLUMNS)
    padded = np.zeros((rows * COLUMNS, size, size, 3), np.uint8)
    padded[:count] = pictures
    sheet = padded.reshape(rows, COLUMNS, size, size, 3).swapaxes(1, 2).reshape(rows * size, COLUMNS * size, 3)
    written, data = cv2.imencode(".webp", sheet, [cv2.IMWRITE_WEBP_QUALITY, _LOSSLESS])
    assert written
    return data.tobytes()


_LOSSLESS: Final = 101


def _cut(manifest: CropsManifest, data: bytes) -> NDArray[np.uint8]:
    size, rows = manifest.size, -(-manifest.count // COLUMNS)
    wanted = rows * size, COLUMNS * size
    if _size_told(data) != wanted:
        raise Unlike(f"{manifest.sheet.file} isn't a lossless WebP of {wanted[1]}x{wanted[0]} pixels")
    sheet = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if sheet is None or sheet.shape != (*wanted, 3):
        raise Unlike(f"{manifest.sheet.file} can't be decoded")
    tiles = sheet.reshape(rows, size, COLUMNS, size, 3).swapaxes(1, 2).reshape(-1, size, size, 3)
    return np.ascontiguousarray(tiles[: manifest.count], np.uint8)


def _size_told(data: bytes) -> tuple[int, int] | None:
    """(height, width) of a lossless WebP by its first bytes (RFC 9649, section 3.4); None for anything else."""
    if data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8L" or data[20:21] != b"\x2f":
        return None
    bits = int.from_bytes(data[21:25], "little")
    return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1


@contextlib.contextmanager
def _refusing(folder: Path) -> Iterator[None]:
    try:
        yield
    except Unlike as unlike:
        raise CropsRefused(
            f"The crops in {folder} are refused: {unlike}. Get them again from their source."
        ) from unlike
