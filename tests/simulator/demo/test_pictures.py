"""What the stored pictures show is found by looking, whatever anybody says of them."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from agent.redactor.messages import Thing
from agent.redactor.process import redacted
from inference.faces import FaceDetector, face_detector_of
from inference.package import load_package
from inference.session import Session
from simulator.boxes import Box
from simulator.demo.canary import FACES, Pixels, make_drive, sees_canary, set_canary
from simulator.demo.demo import DRIVE
from simulator.demo.observer import Sighting
from simulator.demo.pictures import Look, PictureWatch, covered, detail_lost, look_at, psnr_db, watch_pictures
from simulator.demo.proofs import StoredRecord, drive_frames
from simulator.demo.thinned import thin_out
from telemetry.records import PictureTaken, Stored, encode_event

VEHICLE = "veh-001"
CAR = (38.0, 285.0, 145.0, 350.0)
SHOWN = (0, 60, 200)
EVERY = 20


@cache
def faces() -> FaceDetector:
    return face_detector_of(Session(load_package(FACES)))


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole road, marked."""
    path = tmp_path_factory.mktemp("drive") / "drive.avi"
    make_drive(DRIVE, path)
    return path


@pytest.fixture(scope="module")
def excerpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven frames of the road, marked: what every picture here shows is among them."""
    folder = tmp_path_factory.mktemp("excerpt")
    make_drive(thin_out(DRIVE, EVERY, max(SHOWN) // EVERY + 1, folder / "road.mp4"), folder / "excerpt.avi")
    return folder / "excerpt.avi"


@pytest.fixture(scope="module")
def frames(excerpt: Path) -> dict[int, Pixels]:
    """By their number on the road."""
    of_road = {EVERY * index: frame for index, frame in enumerate(drive_frames(excerpt, 1))}
    return {index: of_road[index] for index in SHOWN}


def through_jpeg(picture: Pixels) -> Pixels:
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg(picture), np.uint8), cv2.IMREAD_COLOR), np.uint8)


def jpeg(picture: Pixels) -> bytes:
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])
    assert done
    return data.tobytes()


def redacted_of(frame: Pixels) -> Pixels:
    return redacted(frame, (Thing("car", CAR),), faces(), 120.0)[0]


# --- the drive --------------------------------------------------------------------------------------------------------


def test_the_drive_is_the_road_with_a_canary_in_every_frame_and_as_long(drive: Path) -> None:
    worst_db = 99.0
    for number, (road, marked) in enumerate(zip(drive_frames(DRIVE, 1), drive_frames(drive, 1), strict=True)):
        if number % 20 == 0:
            assert sees_canary(faces(), marked)
            assert not sees_canary(faces(), road)
            set_canary(road)
            worst_db = min(worst_db, cv2.PSNR(road, marked))
    assert worst_db > 38


# --- one picture ------------------------------------------------------------------------------------------------------


def looked_at(frame: Pixels, change: Callable[[Pixels], Pixels]) -> Look:
    return look_at("a", through_jpeg(change(frame.copy())), frame, [CAR], faces())


@pytest.mark.parametrize("index", SHOWN)
def test_a_covered_picture_shows_nobody_and_all_else(frames: dict[int, Pixels], index: int) -> None:
    look = looked_at(frames[index], redacted_of)
    assert look.canary_before
    assert not look.canary_after
    assert look.psnr_db > 36
    assert 0.01 < look.covered < 0.1
    assert min(look.bands) >= 0.95


def test_what_was_left_out_is_seen(frames: dict[int, Pixels]) -> None:
    look = looked_at(frames[60], lambda frame: frame)
    assert look.canary_after
    assert look.covered == 0
    assert max(look.bands) < 0.5


def test_half_a_face_is_a_face(frames: dict[int, Pixels]) -> None:
    def half(frame: Pixels) -> Pixels:
        frame[200:240, 420:500] = 128
        return frame

    assert looked_at(frames[60], half).canary_after


def test_blur_is_no_cover_and_no_picture(frames: dict[int, Pixels]) -> None:
    look = looked_at(frames[60], lambda frame: np.asarray(cv2.blur(frame, (15, 15)), np.uint8))
    assert look.psnr_db < 30
    assert look.covered < 0.01


def test_a_grey_picture_is_covered_and_nothing_else(frames: dict[int, Pixels]) -> None:
    look = looked_at(frames[60], lambda frame: np.full_like(frame, 128))
    assert (look.covered, look.psnr_db, look.canary_after) == (1.0, 0.0, False)


def test_a_picture_of_another_size_shows_no_frame(frames: dict[int, Pixels]) -> None:
    assert look_at("a", frames[60][:270], frames[60], [CAR], faces()).psnr_db == 0.0


def test_a_road_is_grey_in_specks_only() -> None:
    picture = np.random.default_rng(5).integers(100, 156, (100, 100, 3), np.uint8)
    assert not covered(picture).any()
    picture[20:40, 30:60] = 128
    assert covered(picture)[20:40, 30:60].all()


@pytest.mark.parametrize("car", [(10.0, 10.0, 20.0, 90.0), (10.0, 10.0, 90.0, 30.0), (-50.0, 0.0, 5.0, 90.0)])
def test_where_no_plate_could_be_read_none_is_looked_for(car: tuple[float, float, float, float]) -> None:
    picture = np.random.default_rng(5).integers(0, 256, (100, 100, 3), np.uint8)
    assert detail_lost(picture, picture, car) is None
    assert detail_lost(picture, picture, (10.0, 10.0, 90.0, 90.0)) == 0.0


@pytest.mark.parametrize("offset", [1, 10, 100])
def test_psnr_is_that_of_what_is_looked_at_alone(offset: int) -> None:
    frame = np.full((20, 20, 3), 100, np.uint8)
    picture, where = frame.copy(), np.zeros((20, 20), np.bool_)
    picture[:10] += np.uint8(offset)
    assert psnr_db(picture, frame, where) == 0.0
    where[:10] = True
    assert psnr_db(picture, frame, where) == pytest.approx(20 * np.log10(255 / offset))
    assert psnr_db(picture, frame, ~where) == 99.0


# --- all of them ------------------------------------------------------------------------------------------------------


class Cloud:
    """A receiver's folder with these pictures, and what the agent told of each."""

    def __init__(self, root: Path, drive: Path) -> None:
        self._root = root
        self._drive = drive
        self.folder = root / "objects" / VEHICLE
        self.folder.mkdir(parents=True)
        self.stored: list[StoredRecord] = []
        self.rows: list[str] = []
        self.others: list[str] = []

    def add(self, data: bytes, frame_id: int, more_told: int = 0) -> Path:
        """Its record tells of so many bytes too many."""
        sha256 = hashlib.sha256(data).hexdigest()
        (self.folder / sha256).write_bytes(data)
        self.rows.append(sha256)
        event = PictureTaken("front", frame_id, sha256, len(data) + more_told, 960, 540, 2, "new_track")
        record = Stored(0, 0, msgspec.Raw(encode_event(event)))
        self.stored.append(StoredRecord(1, bytes(16), len(self.stored), 0, record))
        return self.folder / sha256

    def watch(self) -> PictureWatch:
        with sqlite3.connect(self._root / "receiver.sqlite") as connection:
            connection.execute("create table object (vehicle, sha256)")
            rows = [(VEHICLE, sha256) for sha256 in self.rows] + [("veh-002", sha256) for sha256 in self.others]
            connection.executemany("insert into object values (?, ?)", rows)
        connection.close()
        boxes = (Box(1, "car", 0.9, CAR), Box(2, "person", 0.9, (0.0, 0.0, 99.0, 99.0)))
        sightings = [Sighting(0, frame_id, "", 0, 0, 0, boxes) for frame_id in (7, 228)]
        return watch_pictures(self._root, VEHICLE, self.stored, self._drive, sightings)


@pytest.fixture
def cloud(tmp_path: Path, excerpt: Path) -> Cloud:
    return Cloud(tmp_path, excerpt)


def test_each_picture_is_held_against_the_frame_that_it_shows(cloud: Cloud, frames: dict[int, Pixels]) -> None:
    for frame_id, index in ((7, 60), (228, 200)):
        cloud.add(jpeg(redacted_of(frames[index])), frame_id)
    found = cloud.watch()
    assert (found.missing, found.altered, found.not_once) == (0, 0, 0)
    assert all(look.psnr_db > 36 and not look.canary_after for look in found.looks)
    assert [len(look.bands) for look in found.looks] == [1, 1]
    assert found.shown is not None
    assert hashlib.sha256(found.shown.jpeg).hexdigest() in found.told


def test_a_picture_that_shows_somebody_is_never_shown(cloud: Cloud, frames: dict[int, Pixels]) -> None:
    cloud.add(jpeg(frames[60]), 7)
    found = cloud.watch()
    assert found.looks[0].canary_after
    assert found.shown is None


def test_what_was_cut_lost_or_stored_otherwise_is_counted(cloud: Cloud, frames: dict[int, Pixels]) -> None:
    cut, lost, _ = (cloud.add(jpeg(redacted_of(frames[index])), index) for index in SHOWN)
    cut.write_bytes(cut.read_bytes()[:-100])
    lost.unlink()
    cloud.rows += cloud.rows[-1:]
    found = cloud.watch()
    assert (len(found.told), found.missing, found.altered, found.not_once) == (3, 1, 1, 1)


def test_a_picture_of_other_bytes_is_altered_though_as_many(cloud: Cloud, frames: dict[int, Pixels]) -> None:
    path = cloud.add(jpeg(redacted_of(frames[60])), 7)
    data = path.read_bytes()
    path.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    assert cloud.watch().altered == 1


def test_what_more_was_told_of_is_altered_and_what_isnt_this_vehicles_or_whole_is_left_out(
    cloud: Cloud, frames: dict[int, Pixels]
) -> None:
    path = cloud.add(jpeg(redacted_of(frames[60])), 7, more_told=1)
    cloud.others.append(path.name)
    (path.parent / f"{path.name}.part").write_bytes(b"half")
    found = cloud.watch()
    assert (found.altered, found.not_once, len(found.looks)) == (1, 0, 1)


def test_what_is_no_picture_at_all_is_looked_at_too(cloud: Cloud) -> None:
    cloud.add(b"no JPEG", 7)
    assert cloud.watch().looks[0].psnr_db == 0.0


def test_a_receiver_without_pictures_proves_nothing(cloud: Cloud) -> None:
    cloud.folder.rmdir()
    found = cloud.watch()
    assert (found.looks, found.told, found.shown) == ((), {}, None)
