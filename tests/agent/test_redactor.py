"""Pictures that show nobody: what is covered, what stays, and what happens when the redactor dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.frames import FrameAccount
from agent.perception import Perception, PerceptionSettings, Supervision
from agent.redactor import PictureSettings, PictureSide
from agent.redactor.messages import (
    REMEMBERED,
    Cover,
    Covered,
    Crop,
    Cut,
    Develop,
    Developed,
    FromRedactor,
    Part,
    Thing,
    ToRedactor,
)
from agent.redactor.pictures import Why
from agent.redactor.process import NOBODYS, PERSON, VEHICLES, NoPicture, Redactor, cut_out, redacted
from ecu.channel import Channel, ChannelClosed, Message, pair
from ecu.clock import MILLISECOND_NS, SECOND_NS, Clock, SteppingClock, SystemClock
from inference.detections import Detections
from inference.messages import Ring, Seen
from inference.package import find_package, load_package
from simulator.demo.demo import DRIVE
from telemetry.privacy.covering import GREY
from telemetry.privacy.pictures import RedactedPicture
from telemetry.records import HardBrake, Health, NewTrack, record_of
from tests.agent.canary import AT, FACES, detector, portrait, road_frame, sees_canary, with_canary

SETTINGS = PictureSettings(FACES, every=5, before=1, per_hour=60)
REAL_TIME = PerceptionSettings(
    source=f"video:{DRIVE}?loop=1", camera="front", package=find_package("drive-detect@1.0"), slots=6,
    hang_ns=20 * SECOND_NS, lockstep=False, standby=False,
)  # fmt: skip
LOCKSTEP = replace(REAL_TIME, lockstep=True)
TRUSTED_PX = 120.0
CAR = Thing("car", (70.0, 268.0, 170.0, 330.0))
BRAKE = record_of(0, HardBrake(6.0, 80.0, {}))


def sharpness(picture: NDArray[np.uint8]) -> float:
    return float(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.CV_64F).var())


# --- what is covered ----------------------------------------------------------------------------------


def test_a_face_is_found_before_and_not_after() -> None:
    marked = with_canary(road_frame())
    assert sees_canary(marked)
    picture, regions = redacted(marked, (), detector(), TRUSTED_PX)
    assert not sees_canary(picture)
    assert regions >= 1
    face = picture[AT[1] + 20 : AT[1] + 50, AT[0] + 15 : AT[0] + 45]
    assert (face == face[0, 0]).all()


def test_a_face_that_no_detector_found_is_covered_with_its_person() -> None:
    class Blind:
        def detect(self, frame, persons):  # type: ignore[no-untyped-def]
            return detector().detect(np.zeros((64, 64, 3), np.uint8))

    height, width = portrait().shape[:2]
    person = Thing("person", (AT[0], AT[1], AT[0] + width, AT[1] + height + 40.0))
    picture, _ = redacted(with_canary(road_frame()), (person,), Blind(), TRUSTED_PX)  # type: ignore[arg-type]
    assert not sees_canary(picture)


def test_who_may_be_a_person_is_covered_whole_and_no_face_is_looked_for() -> None:
    class Watched:
        asked = 0

        def detect(self, frame, persons):  # type: ignore[no-untyped-def]
            self.asked += len(persons)
            return detector().detect(np.zeros((64, 64, 3), np.uint8))

    faces, box = Watched(), (200.0, 60.0, 300.0, 340.0)
    picture, _ = redacted(road_frame(), (Thing("person", box, tracked=False),), faces, TRUSTED_PX)  # type: ignore[arg-type]
    assert (picture[60:340, 200:300] == 128).all()
    assert faces.asked == 0
    picture, _ = redacted(road_frame(), (Thing("person", box),), faces, TRUSTED_PX)  # type: ignore[arg-type]
    assert (picture[200:340, 200:300] == road_frame()[200:340, 200:300]).all()
    assert faces.asked == 1


def test_of_a_vehicle_all_above_its_plates_stays() -> None:
    frame = np.full((400, 400, 3), 200, np.uint8)
    picture, regions = redacted(frame, (Thing("car", (100, 100, 300, 300)),), Faceless(), TRUSTED_PX)  # type: ignore[arg-type]
    assert regions == 1
    assert (picture[100:180, 100:300] == 200).all()
    assert (picture[180:300, 100:300] == GREY).all()


def test_a_face_is_looked_for_in_every_persons_box() -> None:
    asked: list[Any] = []

    class Asked(Faceless):
        def detect(self, frame: NDArray[np.uint8], persons: NDArray[np.float32]) -> Detections:
            asked.append(persons.tolist())
            return super().detect(frame, persons)

    things = (Thing("person", (1, 2, 3, 4)), Thing("car", (0, 0, 9, 9)), Thing("person", (5, 6, 7, 8)))
    redacted(np.zeros((40, 40, 3), np.uint8), things, Asked(), TRUSTED_PX)  # type: ignore[arg-type]
    assert asked == [[[1, 2, 3, 4], [5, 6, 7, 8]]]


def test_a_plate_band_loses_what_it_could_be_read_by() -> None:
    frame = road_frame()
    picture, _ = redacted(frame, (CAR,), detector(), TRUSTED_PX)
    band = slice(295, 330), slice(70, 170)
    assert sharpness(picture[band]) <= 0.05 * sharpness(frame[band])


def test_every_pixel_outside_the_covered_regions_is_as_it_was() -> None:
    marked = with_canary(road_frame())
    picture, _ = redacted(marked, (CAR,), detector(), TRUSTED_PX)
    changed = (picture != marked).any(axis=2)
    assert (picture[changed] == picture[changed][0]).all()
    assert 0 < changed.mean() < 0.05
    assert (marked == with_canary(road_frame())).all(), "the frame itself is read-only"


# --- what it answers ----------------------------------------------------------------------------------


@dataclass
class Desk:
    """A redactor without a process: it answers all that was asked when `answers` is called."""

    faces: Any = field(default_factory=lambda: Faceless())
    frames: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((2, 24, 32, 3), np.uint8))

    def answers(self, *questions: Message) -> list[FromRedactor]:
        ours, theirs = pair()
        told: list[FromRedactor] = []
        with ours, memory_of(self.frames) as fd, ThreadPoolExecutor(1) as elsewhere:
            agent = Channel[FromRedactor](ours, FromRedactor)
            agent.send(Ring(len(self.frames), self.frames[0].nbytes), [fd])
            for question in questions:
                agent.send(question)
            ours.shutdown(socket.SHUT_WR)
            running = elsewhere.submit(self._answer_all, theirs)
            with contextlib.suppress(ChannelClosed):
                while True:
                    told.append(agent.receive()[0])
            running.result()
        return told

    def _answer_all(self, end: socket.socket) -> None:
        with end, contextlib.suppress(ChannelClosed):
            Redactor(self.faces, TRUSTED_PX, Channel[ToRedactor](end, ToRedactor)).run()


@contextlib.contextmanager
def memory_of(frames: NDArray[np.uint8]) -> Iterator[int]:
    fd = os.memfd_create("frames")
    os.write(fd, frames.tobytes())
    try:
        yield fd
    finally:
        os.close(fd)


class Faceless:
    def detect(self, frame: NDArray[np.uint8], persons: NDArray[np.float32]) -> Detections:
        return Detections.none()


def cover_asked(frame_id: int, *things: Thing, slot: int = 0) -> Cover:
    return Cover(slot, frame_id, 32, 24, things)


def pictures_in(told: list[FromRedactor]) -> list[int]:
    return [message.frame_id for message in told if isinstance(message, Part)]


@pytest.mark.parametrize("before", range(8))
def test_as_many_pictures_from_before_an_event_as_there_are_and_were_asked_for(before: int) -> None:
    for remembered in range(6):
        earlier = range(0, 2 * remembered, 2)
        told = Desk().answers(*map(cover_asked, earlier), cover_asked(50), Develop(50, before))
        expected = [*list(earlier)[max(0, remembered - before) :], 50]
        assert pictures_in(told) == expected
        assert told[-1] == Developed(50, len(expected))


def test_no_more_than_a_few_pictures_are_remembered_and_none_from_after() -> None:
    frames = range(3 * REMEMBERED)
    told = Desk().answers(*map(cover_asked, frames), Develop(frames[-2], 3 * REMEMBERED))
    assert pictures_in(told) == list(frames[-REMEMBERED:-1])


def test_a_frame_that_was_never_covered_has_no_picture() -> None:
    assert Desk().answers(cover_asked(1), Develop(9, 0)) == [Covered(1, 0), Developed(9, 0)]


def test_a_picture_is_told_in_parts_that_make_it_whole() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1, 360, 480, 3), np.uint8)
    told = Desk(frames=noise).answers(Cover(0, 1, 480, 360, ()), Develop(1, 0))
    parts = [message for message in told if isinstance(message, Part)]
    whole = b"".join(part.data for part in parts)
    assert len(parts) > 1
    assert {part.whole for part in parts} == {len(whole)}
    picture = cv2.imdecode(np.frombuffer(whole, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (360, 480, 3)


def test_a_picture_that_is_too_large_to_be_told_is_none() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1, 3000, 3200, 3), np.uint8)
    assert Desk(frames=noise).answers(Cover(0, 1, 3200, 3000, ()), Develop(1, 0)) == [Covered(1, 0), Developed(1, 0)]


def test_a_picture_holds_nothing_but_its_pixels() -> None:
    told = Desk().answers(cover_asked(1), Develop(1, 0))
    jpeg = b"".join(message.data for message in told if isinstance(message, Part))
    segments = dict(segments_of(jpeg))
    assert set(segments) <= {0xE0, 0xDB, 0xC0, 0xC4, 0xDA}, "no APP1 and above, no comment"
    assert segments[0xE0][:5] == b"JFIF\0"
    assert segments[0xE0][12:] == b"\0\0", "and no thumbnail in it"
    assert jpeg.endswith(b"\xff\xd9")
    assert jpeg.count(b"\xff\xd9") == 1


def segments_of(jpeg: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each segment up to the scan (ITU-T T.81, annex B)."""
    assert jpeg[:2] == b"\xff\xd8"
    at, marker = 2, 0
    while marker != 0xDA:
        assert jpeg[at] == 0xFF
        marker, length = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4], "big")
        yield marker, jpeg[at + 4 : at + 2 + length]
        at += 2 + length


def test_the_frame_is_let_go_only_when_nothing_of_it_is_looked_at_any_more() -> None:
    """Once it says Covered the camera may write into the slot: what comes of it must not be in the picture."""
    frames = np.full((1, 24, 32, 3), 200, np.uint8)
    ours, theirs = pair()
    fd = os.memfd_create("frames")
    os.write(fd, frames.tobytes())

    class Reused(Channel[Any]):
        def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
            super().send(message, descriptors)
            if isinstance(message, Covered):
                os.pwrite(fd, bytes(frames.nbytes), 0)

    with ours, theirs:
        agent = Channel[FromRedactor](ours, FromRedactor)
        agent.send(Ring(1, frames.nbytes), [fd])
        agent.send(cover_asked(1))
        agent.send(Develop(1, 0))
        ours.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ChannelClosed):
            Redactor(Faceless(), TRUSTED_PX, Reused(theirs, ToRedactor)).run()  # type: ignore[arg-type]
        assert isinstance(agent.receive()[0], Covered)
        part = agent.receive()[0]
    os.close(fd)
    assert isinstance(part, Part)
    shown = cv2.imdecode(np.frombuffer(part.data, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert shown.min() > 190


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 24), (32, 0), (-1, 24)])
def test_a_frame_without_pixels_ends_it_in_words(width: int, height: int) -> None:
    with pytest.raises(NoPicture, match=f"{width}x{height}"):
        Desk().answers(Cover(0, 1, width, height, ()))


def test_what_a_later_model_calls_by_another_name_is_covered_whole() -> None:
    frame = np.full((400, 400, 3), 200, np.uint8)
    picture, regions = redacted(frame, (Thing("pedestrian", (100, 100, 150, 300)),), Faceless(), TRUSTED_PX)  # type: ignore[arg-type]
    assert regions == 1
    assert (picture[100:300, 100:150] == GREY).all()


def test_every_class_of_the_models_that_ship_is_known() -> None:
    for name in ("drive-detect@1.0", "drive-detect@2.0"):
        classes = load_package(find_package(name)).manifest.classes
        assert set(classes) <= {PERSON, *VEHICLES, *NOBODYS}


@pytest.mark.parametrize("nothing", sorted(NOBODYS))
def test_what_tells_of_nobody_stays(nothing: str) -> None:
    frame = np.full((40, 40, 3), 200, np.uint8)
    picture, regions = redacted(frame, (Thing(nothing, (0, 0, 40, 40)),), Faceless(), TRUSTED_PX)  # type: ignore[arg-type]
    assert regions == 0
    assert (picture == frame).all()


@given(st.tuples(*[st.floats(allow_nan=True, allow_infinity=True, width=32)] * 4), st.sampled_from(["car", "person"]))
def test_no_box_however_odd_stops_the_covering_of_the_rest(box: Any, label: str) -> None:
    frame = np.full((60, 80, 3), 200, np.uint8)
    person = Thing("person", (10, 10, 30, 50))
    picture, regions = redacted(frame, (Thing(label, box), person), Faceless(), TRUSTED_PX)  # type: ignore[arg-type]
    assert regions == 2
    assert (picture[10:50, 10:30] == GREY).all()
    if any(np.isnan(box)):
        assert (picture == GREY).all()


# --- crops ----------------------------------------------------------------------------------------------


def test_a_crop_is_cut_from_what_is_covered_after_the_frame_was_let_go() -> None:
    """Law 5: whoever stands before the light isn't in what is learned from."""
    frames = np.full((1, 24, 32, 3), 200, np.uint8)
    cover = Cover(0, 1, 32, 24, (Thing("person", (0, 0, 10, 24)),), (Cut(7, (0, 0, 20, 20)), Cut(8, (90, 0, 99, 9))), 8)
    told = Desk(frames=frames).answers(cover)
    assert [type(message) for message in told] == [Covered, Crop]
    crop = told[1]
    assert isinstance(crop, Crop)
    assert (crop.frame_id, crop.track_id, crop.size) == (1, 7, 8)
    pixels = np.frombuffer(crop.pixels, np.uint8).reshape(8, 8, 3)
    assert (pixels[:, :4] == GREY).all()
    assert (pixels[:, 5:] == 200).all()


@given(st.tuples(*[st.floats(allow_nan=True, allow_infinity=True, width=32)] * 4))
def test_no_box_however_odd_gives_a_crop_of_another_size(box: Any) -> None:
    pixels = cut_out(np.full((60, 80, 3), 200, np.uint8), box, 16)
    assert pixels is None or (len(pixels), set(pixels)) == (16 * 16 * 3, {200})


@pytest.mark.parametrize("box", [(5, 5, 9, 50), (5, 5, 50, 9), (5, 5, float("nan"), 50), (100, 0, 200, 50)])
def test_what_holds_too_few_pixels_is_no_crop(box: Any) -> None:
    assert cut_out(np.zeros((60, 80, 3), np.uint8), box, 16) is None


# --- the process --------------------------------------------------------------------------------------


@dataclass
class Taking:
    """A perception with a redactor, and what came of it."""

    perception: Perception
    side: PictureSide
    seen: list[Seen] = field(default_factory=list)
    pictures: list[RedactedPicture] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    ask_at: set[int] = field(default_factory=set)
    ask_from: int | None = None
    """Once, at the first frame that is seen from there on: at real speed a computer may leave any one out."""

    def asks_at(self, frame_id: int) -> bool:
        if self.ask_from is not None and frame_id >= self.ask_from:
            self.ask_from = None
            return True
        return frame_id in self.ask_at

    async def until(self, reached: Callable[[], bool]) -> None:
        """Looks again and again: a redactor's answer makes no noise."""
        async with asyncio.timeout(60):
            while not reached():
                await asyncio.sleep(0.005)

    async def ready(self) -> None:
        async with asyncio.timeout(60):
            while self.side.status().model is None:
                self.side.settled.clear()
                await self.side.settled.wait()

    async def until_gone(self) -> None:
        async with asyncio.timeout(60):
            while self.side.status().model is not None:
                self.side.settled.clear()
                await self.side.settled.wait()


@asynccontextmanager
async def at_work(
    folder: Path, settings: PerceptionSettings = REAL_TIME, clock: Clock | None = None,
    pictures: PictureSettings = SETTINGS,
) -> AsyncIterator[Taking]:  # fmt: skip
    clock = clock or SystemClock()

    def seen(result: Seen, latency_ns: int) -> None:
        taking.seen.append(result)
        if taking.asks_at(result.frame_id):
            side.note(BRAKE)

    def pictured(picture: RedactedPicture) -> None:
        taking.pictures.append(picture)

    side = PictureSide(
        pictures, clock, Supervision(Random(3), os.environ), pictured, lambda what, detail: taking.health.append(what)
    )
    account = FrameAccount(folder / "camera.ledger", folder / "frames.ledger")
    perception = Perception(
        settings, account, clock, Supervision(Random(2), os.environ), seen, lambda what, detail: None, onlooker=side
    )
    taking = Taking(perception, side)
    keeping = asyncio.create_task(side.run())
    try:
        await perception.start()
        yield taking
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await perception.stop()
        assert account.counts().holds
        assert side.counts().holds
        assert side.counts().waiting == 0 or settings.lockstep


def decoded(picture: RedactedPicture) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image, np.uint8)


async def test_its_process_leaves_no_core_dump_and_can_open_no_socket_and_write_no_file(tmp_path: Path) -> None:
    """Law 5: what it sees before it is covered can go nowhere."""
    async with at_work(tmp_path, LOCKSTEP, SteppingClock()) as taking:
        await taking.ready()
        taking.ask_at.add(0)
        await taking.perception.advance(80 * MILLISECOND_NS)
        await taking.until(lambda: taking.side.counts().taken == 1)
        process = Path(f"/proc/{taking.side.status().pid}")
        status = (process / "status").read_text()
        assert "NoNewPrivs:\t1" in status
        assert "Seccomp:\t2" in status
        (core,) = [line for line in (process / "limits").read_text().splitlines() if line.startswith("Max core file")]
        assert core.split()[4:6] == ["0", "0"]
        frames = [line for line in (process / "maps").read_text().splitlines() if "outrider-frames" in line]
        assert frames
        assert all(line.split()[1] == "r--s" for line in frames)


async def test_an_event_gets_the_picture_of_its_frame_and_one_from_before(tmp_path: Path) -> None:
    async with at_work(tmp_path) as taking:
        await taking.ready()
        await taking.until(lambda: len(taking.seen) > 0)
        first = taking.seen[-1].frame_id
        taking.ask_from = first + 20
        await taking.until(lambda: taking.side.counts().taken == 1)
        before, at = taking.pictures[:2]
        assert before.frame_id < at.frame_id
        assert at.frame_id >= first + 20
        assert at.reason == before.reason == "hard_brake"
        assert decoded(at).shape == (540, 960, 3) == (at.height, at.width, 3)
        assert len(taking.pictures) == 2


@dataclass(frozen=True, slots=True)
class Drive:
    """A second in lockstep with events at frames 7, 12 and 20: what was seen and pictured."""

    seen: list[Seen]
    pictures: list[RedactedPicture]

    def of(self, frame_id: int) -> NDArray[np.uint8]:
        return decoded(next(picture for picture in self.pictures if picture.frame_id == frame_id))


async def driven(folder: Path) -> Drive:
    async with at_work(folder, LOCKSTEP, SteppingClock()) as taking:
        await taking.ready()
        taking.ask_at |= {7, 12, 20}
        for end_ms in (400, 800, 1000):
            await taking.perception.advance(end_ms * MILLISECOND_NS)
        await taking.until(lambda: taking.side.counts().taken + len(taking.side.counts().dropped) >= 3)
    return Drive(taking.seen, taking.pictures)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Drive:
    return asyncio.run(driven(tmp_path_factory.mktemp("drive")))


async def test_in_lockstep_the_same_drive_gives_the_same_pictures(tmp_path: Path, drive: Drive) -> None:
    again = await driven(tmp_path)
    told = [[(picture.frame_id, picture.jpeg) for picture in one.pictures] for one in (drive, again)]
    assert told[0] == told[1]
    assert [frame_id for frame_id, _ in told[0]] == [5, 7, 10, 12, 15, 20]


def test_the_picture_says_what_its_frame_showed_but_for_what_is_covered(drive: Drive) -> None:
    seen = drive.seen[12]
    things = tuple(Thing(track.label, track.box) for track in seen.tracks)
    things += tuple(Thing(glimpse.label, glimpse.box, tracked=False) for glimpse in seen.glimpses)
    frame = road_frame(12)
    expected, _ = redacted(frame, things, detector(), TRUSTED_PX)
    untouched = (expected == frame).all(axis=2)
    error = (drive.of(12).astype(float) - frame)[untouched]
    assert 10 * np.log10(255**2 / (error**2).mean()) >= 30
    assert things
    assert untouched.mean() < 1


def test_a_vehicle_that_the_model_is_unsure_of_is_covered_as_well(drive: Drive) -> None:
    unsure = [
        glimpse
        for glimpse in drive.seen[20].glimpses
        if glimpse.label == "car" and glimpse.box[3] - glimpse.box[1] >= 16
    ]
    assert unsure, "the drive has cars that the smaller model only glimpses"
    picture = drive.of(20)
    for glimpse in unsure:
        left, _, right, below = (round(side) for side in glimpse.box)
        middle = picture[below - 4 : below, (left + right) // 2 - 2 : (left + right) // 2 + 2].astype(int)
        assert abs(middle - 128).max() <= 12, glimpse


async def test_without_a_redactor_there_are_no_pictures_and_each_is_counted(tmp_path: Path) -> None:
    async with at_work(tmp_path, LOCKSTEP, SteppingClock()) as taking:
        await taking.ready()
        pid = taking.side.status().pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await taking.until_gone()
        taking.ask_at |= {1, 2, 3}
        await taking.perception.advance(160 * MILLISECOND_NS)
        counts = taking.side.counts()
        assert counts.wanted == 3
        assert counts.dropped == {Why.NO_REDACTOR: 3}
        assert taking.pictures == []
        await taking.ready()
        taking.ask_at.add(8)
        await taking.perception.advance(400 * MILLISECOND_NS)
        await taking.until(lambda: len(taking.pictures) >= 1)
    assert taking.perception.status().frames.lost_to_fault == 0


async def test_a_redactor_that_dies_over_a_frame_gives_the_frame_back_and_no_picture(tmp_path: Path) -> None:
    async with at_work(tmp_path) as taking:
        await taking.ready()
        pid = taking.side.status().pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await taking.until(lambda: len(taking.seen) > 0)
        taking.ask_from = asked = taking.seen[-1].frame_id + 1
        await taking.until(lambda: taking.side.counts().wanted >= 1)
        await taking.until(lambda: len(taking.seen) > asked + 3)
        os.kill(pid, signal.SIGKILL)
        await taking.until(lambda: taking.side.status().pid not in (None, pid))
        await taking.until(lambda: len(taking.seen) > asked + 13)
        counts = taking.side.counts()
        assert counts.dropped
        assert counts.taken == 0
        assert taking.pictures == []
        assert taking.perception.status().frames.dropped_by_policy < len(taking.seen)


async def test_more_events_than_allowed_get_no_picture(tmp_path: Path) -> None:
    few = replace(SETTINGS, per_hour=2)
    async with at_work(tmp_path, LOCKSTEP, SteppingClock(), few) as taking:
        await taking.ready()
        for event in range(5):
            taking.ask_at.add(event * 5 + 2)
            await taking.perception.advance((event + 1) * 200 * MILLISECOND_NS - 1)
            await taking.until(lambda: taking.side.counts().waiting == 0)
        assert taking.side.counts().dropped == {Why.TOO_MANY: 3}
        assert taking.side.counts().taken == 2


async def test_a_face_model_that_cant_be_loaded_means_no_pictures_and_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "faces"
    broken.mkdir()
    (broken / "model.json").write_text("{}")
    async with at_work(tmp_path, LOCKSTEP, SteppingClock(), replace(SETTINGS, faces=broken)) as taking:
        await taking.side.settled.wait()
        taking.ask_at.add(0)
        await taking.perception.advance(80 * MILLISECOND_NS)
        assert "model.json" in taking.side.status().fault
        assert taking.side.counts().dropped == {Why.NO_REDACTOR: 1}


@pytest.mark.parametrize("event", [NewTrack("front", 1, 1, "car", 0.9, (0, 0, 1, 1)), HardBrake(6.0, None, {})])
async def test_new_tracks_and_hard_brakes_deserve_a_picture(tmp_path: Path, event: NewTrack | HardBrake) -> None:
    side = PictureSide(
        SETTINGS, SystemClock(), Supervision(Random(1), os.environ), lambda picture: None, lambda what, detail: None
    )
    side.note(record_of(0, Health("x", "y")))
    assert side.counts().wanted == 0
    side.note(record_of(0, event))
    assert side.counts().wanted == 1
