"""Traffic lights on the road: found by drive-detect, told by light-state, in a worker's own process."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ecu.channel import Channel, pair
from ecu.spawn import spawn
from inference.build.frames import every_frame
from inference.crops import load_crops
from inference.evaluation import EVALUATIONS_FOLDER
from inference.frames import FrameRing
from inference.messages import FromWorker, Look, Ring, Seen, SeenTrack, Start, WorkerFault, WorkerReady
from inference.package import find_package, load_package

DRIVE = Path("simulator/drives/solidWhiteRight.mp4")
LOOKS = 6
RED, GREEN = (60, 200), (20, 600)
"""Upper left corners of two lights, 60 x 120 pixels each, in a frame of 540 x 960."""


@pytest.fixture(scope="module")
def frame() -> NDArray[np.uint8]:
    """The road, with a real red light above it and a real green one."""
    crops = load_crops(EVALUATIONS_FOLDER / "lights-1.0")
    shown = next(iter(every_frame(DRIVE))).copy()
    for (y, x), number in ((RED, 0), (GREEN, int(np.flatnonzero(crops.labels == 2)[1]))):
        shown[y : y + 120, x : x + 60] = cv2.resize(crops.pictures[number], (60, 120), interpolation=cv2.INTER_CUBIC)
    return shown


async def seen_by(
    frame: NDArray[np.uint8], *arguments: str, looks: int = LOOKS
) -> tuple[WorkerReady | WorkerFault, tuple[SeenTrack, ...]]:
    """What a worker says once it is loaded, and its tracks after some looks at the same frame."""
    ours, theirs = pair()
    ring = FrameRing(1, frame.nbytes)
    with ours, theirs:
        fd = theirs.fileno()
        told = ["--package", str(find_package("drive-detect@2.0")), *arguments, "--channel", str(fd)]
        worker = await spawn("inference.worker", told, environment=os.environ, pass_fds=(fd,))
        try:
            ours.settimeout(60)
            channel: Channel[FromWorker] = Channel(ours, FromWorker)
            ready, _ = channel.receive()
            assert isinstance(ready, WorkerReady | WorkerFault)
            if isinstance(ready, WorkerFault):
                return ready, ()
            channel.send(Ring(1, frame.nbytes), [ring.reader_fd()])
            channel.send(Start(1))
            os.pwrite(ring.writer_fd(), frame.tobytes(), 0)
            return ready, [_looked(channel, frame, number) for number in range(looks)][-1]
        finally:
            worker.kill()
            await worker.wait()


def _looked(channel: Channel[FromWorker], frame: NDArray[np.uint8], number: int) -> tuple[SeenTrack, ...]:
    height, width = frame.shape[:2]
    channel.send(Look(0, number, number * 40_000_000, width, height, fresh=number == 0, fingerprint=False))
    seen, _ = channel.receive()
    assert isinstance(seen, Seen)
    return seen.tracks


async def test_lights_that_are_tracked_have_their_state_and_nothing_else_has_one(frame: NDArray[np.uint8]) -> None:
    states = find_package("light-state")
    ready, tracks = await seen_by(frame, "--states", str(states))
    assert isinstance(ready, WorkerReady)
    assert ready.states == load_package(states).digest
    lights = {round(track.box[0], -2): track.state for track in tracks if track.label == "traffic_light"}
    assert lights == {200: "red", 600: "green"}
    assert {track.state for track in tracks if track.label != "traffic_light"} == {""}


async def test_what_was_seen_once_isnt_believed_yet_and_has_no_state(frame: NDArray[np.uint8]) -> None:
    _, tracks = await seen_by(frame, "--states", str(find_package("light-state")), looks=1)
    lights = [track for track in tracks if track.label == "traffic_light"]
    assert len(lights) == 2
    assert not any(track.confirmed or track.state for track in lights)


async def test_without_such_a_package_no_state_is_told(frame: NDArray[np.uint8]) -> None:
    ready, tracks = await seen_by(frame)
    assert isinstance(ready, WorkerReady)
    assert ready.states == ""
    assert {track.state for track in tracks} == {""}
    assert any(track.label == "traffic_light" for track in tracks)


async def test_a_package_of_another_task_tells_no_states(frame: NDArray[np.uint8]) -> None:
    fault, _ = await seen_by(frame, "--states", str(find_package("face-blur")))
    assert isinstance(fault, WorkerFault)
    assert "face-blur@1.0 is for the task faces" in fault.reason
