"""What the pictures at the receiver show, read off its disk by somebody who trusts neither agent nor receiver.

Each is held against the frame of the drive that it shows, whatever its record says: that frame is the one of which the
most is left in it.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.faces import FaceDetector, face_detector_of
from inference.package import load_package
from inference.session import Session
from simulator.demo.canary import FACES, Pixels, sees_canary
from simulator.demo.observer import Sighting
from simulator.demo.proofs import StoredRecord, drive_frames
from telemetry.records import PictureTaken, decode_event

Corners = tuple[float, float, float, float]
"""xyxy in pixels of the frame."""

GREY: Final = 128
GREY_WITHIN: Final = 4
"""How far a JPEG moves a grey that stands beside something else."""
SPECK_PX: Final = 9
"""A road is grey, too: what is smaller than this isn't taken for covered."""
EDGE_PX: Final = 16
"""So far a JPEG carries the edge of what is covered, in its blocks of half the colours."""
THUMB: Final = (192, 108)
VEHICLES: Final = frozenset({"car", "truck", "bus", "motorcycle", "train"})
BAND_FROM: Final = 0.45
"""Of a vehicle's height, from above: below it is where a plate is read."""
RIM_PX: Final = 4
"""Of a band, on each side: what is covered ends just beyond, and a JPEG carries that edge in."""
BAND_LEAST_PX: Final = 16
"""Of a band that is lower or narrower a plate takes some 4 pixels: nobody reads it, and a JPEG's edges outdo it."""


@dataclass(frozen=True, slots=True)
class Look:
    """One stored picture, looked at. `covered` is the share of it that is, `psnr_db` is of all else; `bands` says which
    share of its detail each plate band lost, for the vehicles that the agent told of in that frame."""

    sha256: str
    canary_before: bool
    canary_after: bool
    psnr_db: float
    covered: float
    bands: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture fit to be shown, as the receiver has it: no face is found in it where one was."""

    jpeg: bytes
    width: int
    height: int
    covered: int


@dataclass(frozen=True, slots=True)
class PictureWatch:
    """All pictures of one vehicle. `told` are the frames that records tell of, by the picture's digest; `altered` are
    files whose bytes aren't those that their name or their record promises; `rows` counts the receiver's own."""

    looks: tuple[Look, ...]
    told: Mapping[str, frozenset[int]]
    missing: int
    altered: int
    rows: Mapping[str, int]
    shown: Shown | None

    @property
    def not_once(self) -> int:
        """Told of, and the receiver's table has it never or more than once."""
        return sum(self.rows.get(sha256, 0) != 1 for sha256 in self.told)


def watch_pictures(
    receiver: Path, vehicle: str, stored: Iterable[StoredRecord], drive: Path, sightings: Iterable[Sighting]
) -> PictureWatch:
    """Looks at every file that the receiver keeps of the vehicle. `drive` is what its camera saw."""
    files = {path.name: path.read_bytes() for path in _objects(receiver / "objects" / vehicle)}
    records = [event for one in stored if isinstance(event := decode_event(bytes(one.record.event)), PictureTaken)]
    told = defaultdict[str, set[int]](set)
    for record in records:
        told[record.sha256].add(record.frame_id)
    looks = _looked_at(files, drive, _vehicles_of(told, sightings))
    return PictureWatch(
        looks=tuple(looks),
        told={sha256: frozenset(frames) for sha256, frames in told.items()},
        missing=len(told.keys() - files.keys()),
        altered=len(_altered(files, records)),
        rows=_rows(receiver / "receiver.sqlite", vehicle),
        shown=_to_show(looks, files, records),
    )


def _objects(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix != ".part") if folder.is_dir() else []


def _altered(files: Mapping[str, bytes], records: Iterable[PictureTaken]) -> set[str]:
    misnamed = {name for name, data in files.items() if hashlib.sha256(data).hexdigest() != name}
    return misnamed | {one.sha256 for one in records if one.sha256 in files and len(files[one.sha256]) != one.bytes}


def _rows(database: Path, vehicle: str) -> dict[str, int]:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        rows = connection.execute("select sha256, count(*) from object where vehicle = ? group by 1", (vehicle,))
        return {str(sha256): int(count) for sha256, count in rows}
    finally:
        connection.close()


def _vehicles_of(told: Mapping[str, set[int]], sightings: Iterable[Sighting]) -> dict[str, set[Corners]]:
    """Of each picture, where the vehicles in its frame are, of which was heard. It may be of several frames: a camera
    that was started again sees the drive from its beginning."""
    boxes = {sighting.frame_id: sighting.boxes for sighting in sightings}
    return {
        sha256: {box.box for frame in frames for box in boxes.get(frame, ()) if box.label in VEHICLES}
        for sha256, frames in told.items()
    }


def _to_show(looks: Iterable[Look], files: Mapping[str, bytes], records: Iterable[PictureTaken]) -> Shown | None:
    """The one with the most that was covered and told of; none that still shows the canary."""
    records_of = {record.sha256: record for record in records}
    fit = [look for look in looks if look.canary_before and not look.canary_after and look.sha256 in records_of]
    best = max(fit, key=lambda look: (len(look.bands), look.covered), default=None)
    if best is None:
        return None
    record = records_of[best.sha256]
    return Shown(files[best.sha256], record.width, record.height, record.covered)


# --- looking at one -----------------------------------------------------------------------------------------------


def _looked_at(files: Mapping[str, bytes], drive: Path, vehicles: Mapping[str, Iterable[Corners]]) -> list[Look]:
    """Twice through the drive: to find each picture's frame, and to hold the picture against it."""
    pictures = {name: picture for name, data in files.items() if (picture := _decoded(data)) is not None}
    thumbs = [_thumb(frame) for frame in drive_frames(drive, 1)]
    shown = defaultdict[int, list[str]](list)
    for name, picture in pictures.items():
        shown[_nearest(_thumb(picture), thumbs)].append(name)
    faces = face_detector_of(Session(load_package(FACES)))
    looks = [Look(name, False, False, 0.0, 0.0, ()) for name in files if name not in pictures]
    return looks + [
        look_at(name, pictures[name], frame, vehicles.get(name, ()), faces)
        for index, frame in enumerate(drive_frames(drive, 1))
        for name in shown.get(index, ())
    ]


def look_at(name: str, picture: Pixels, frame: Pixels, vehicles: Iterable[Corners], faces: FaceDetector) -> Look:
    """Both (H, W, 3) uint8 BGR. Raises ModelFault."""
    if picture.shape != frame.shape:
        return Look(name, False, sees_canary(faces, picture), 0.0, 0.0, ())
    grey = covered(picture)
    return Look(
        sha256=name,
        canary_before=sees_canary(faces, frame),
        canary_after=sees_canary(faces, picture, grey),
        psnr_db=psnr_db(picture, frame, ~_widened(grey)),
        covered=float(grey.mean()),
        bands=tuple(lost for box in vehicles if (lost := detail_lost(picture, frame, box)) is not None),
    )


def covered(picture: Pixels) -> NDArray[np.bool_]:
    """(H, W) where the picture is the one grey that covers, over more than a speck."""
    least, most = (np.full(3, GREY + offset, np.uint8) for offset in (-GREY_WITHIN, GREY_WITHIN))
    return _marked(cv2.morphologyEx(cv2.inRange(picture, least, most), cv2.MORPH_OPEN, _square(SPECK_PX)))


def psnr_db(picture: Pixels, frame: Pixels, where: NDArray[np.bool_]) -> float:
    """Of the pixels there; 0 where there are none, 99 where none differs."""
    pixels = int(where.sum())
    if pixels == 0:
        return 0.0
    error = float(cv2.norm(picture, frame, cv2.NORM_L2SQR, _mask(where))) / (3 * pixels)
    return min(99.0, 10 * float(np.log10(255**2 / error))) if error else 99.0


def detail_lost(picture: Pixels, frame: Pixels, vehicle: Corners) -> float | None:
    """Which share of the frame's Laplacian variance the vehicle's plate band lost; None when no plate could be read."""
    height, width = frame.shape[:2]
    x1, y1, x2, y2 = vehicle
    left, right = max(0, round(x1)), min(width, round(x2))
    top, bottom = max(0, round(y1 + BAND_FROM * (y2 - y1))), min(height, round(y2))
    if right - left < BAND_LEAST_PX or bottom - top < BAND_LEAST_PX:
        return None
    band = slice(top + RIM_PX, bottom - RIM_PX), slice(left + RIM_PX, right - RIM_PX)
    before = _detail(frame[band])
    return 1 - _detail(picture[band]) / before if before else None


def _detail(pixels: Pixels) -> float:
    return float(cv2.Laplacian(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), cv2.CV_64F).var())


def _decoded(jpeg: bytes) -> Pixels | None:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
    return None if picture is None else np.asarray(picture, np.uint8)


def _thumb(picture: Pixels) -> NDArray[np.int16]:
    small = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), THUMB, interpolation=cv2.INTER_AREA)
    return small.astype(np.int16)


def _nearest(thumb: NDArray[np.int16], thumbs: Sequence[NDArray[np.int16]]) -> int:
    """Which of them it is most like; what is covered counts little, however large the difference there."""
    return int(np.argmin([np.minimum(np.abs(thumb - other), 16).mean() for other in thumbs]))


def _widened(grey: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return _marked(cv2.dilate(_mask(grey), _square(2 * EDGE_PX + 1)))


def _mask(where: NDArray[np.bool_]) -> Pixels:
    """As OpenCV takes it."""
    return np.asarray(where, np.uint8)


def _marked(mask: NDArray[Any]) -> NDArray[np.bool_]:
    marked: NDArray[np.bool_] = mask != 0
    return marked


def _square(side: int) -> NDArray[np.uint8]:
    return np.ones((side, side), np.uint8)
