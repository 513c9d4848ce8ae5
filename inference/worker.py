"""A perception worker's process: `python -m inference.worker --package DIR [--states DIR] --threads N --channel FD`.

Frame in, tracks out: letterbox -> one ONNX Runtime call -> detections -> tracks, and the state of some of them. It
holds no keys, no network and no spool, sees the frame memory read-only, and may be killed at any instant: nothing it
knows is needed again.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ecu.channel import Advance, Channel, ChannelClosed, Done
from ecu.clock import Clock, SystemClock
from ecu.process import Limits, freeze_heap
from inference.confined import begin
from inference.detections import Detections
from inference.detector import Detector
from inference.errors import InferenceError
from inference.manifest import DetectManifest
from inference.messages import Glimpse, Look, Ring, Seen, SeenTrack, Start, ToWorker, WorkerFault, WorkerReady
from inference.outputs import Outputs
from inference.package import load_package
from inference.pixels import FrameMemory
from inference.runtime import runtime
from inference.session import Runner, Session
from inference.states import StateTeller, teller_of
from inference.track import Track, Tracker, TrackerParams

COVERED_FROM: Final = 0.10
"""Score from which something is covered in a picture: to cover a bush costs little, and a plate once shown is shown.
From here up both of our models cover the plate of every labelled car in road@1.0 that is 32 pixels high or more."""
MOST_STATES: Final = 4
"""States that are told in one frame."""
ADDRESS_SPACE_BYTES: Final = 2 << 30
"""Room for the libraries (0.8 of it) and a model's tensors: what a graph asks beyond it is refused, not given."""


class Timed:
    """A model whose calls are timed."""

    def __init__(self, model: Runner, clock: Clock) -> None:
        self._model = model
        self._clock = clock
        self.last_ns = 0

    def run(self, canvas: NDArray[np.uint8]) -> Outputs:
        began_ns = self._clock.boot_ns()
        outputs = self._model.run(canvas)
        self.last_ns = self._clock.boot_ns() - began_ns
        return outputs


class Worker:
    """Answers each Look with a Seen, in order."""

    def __init__(
        self, session: Session, channel: Channel[ToWorker], clock: Clock, states: StateTeller | None = None
    ) -> None:
        manifest = session.package.manifest_of(DetectManifest)
        self._model = Timed(session, clock)
        self._detector = Detector(self._model, manifest.input, manifest.outputs, manifest.thresholds)
        self._classes = manifest.classes
        self._states = states
        self._params = TrackerParams()
        self._tracker = Tracker(self._params)
        self._last_frame_id: int | None = None
        self._channel = channel
        self._clock = clock
        self._memory: FrameMemory | None = None

    def run(self) -> None:
        """Until the agent goes (ChannelClosed) or the model fails (InferenceError)."""
        while True:
            message, descriptors = self._channel.receive()
            match message:
                case Look():
                    self._look(message)
                case Start(first_track_id):
                    self._tracker = Tracker(self._params, first_track_id)
                case Advance(t_ns):
                    self._channel.send(Done(t_ns))
                case Ring(slots, slot_bytes):
                    self._memory = FrameMemory(descriptors[0], slots, slot_bytes, writable=False)

    def _look(self, look: Look) -> None:
        began_ns = self._clock.boot_ns()
        assert self._memory is not None, "a Look came before the Ring"
        frame = self._memory.frame(look.slot, look.height, look.width)
        seen = self._detector.detect(frame, min(COVERED_FROM, self._params.score_unsure))
        tracks = self._with_states(frame, self._track(seen, look))
        fingerprint = hashlib.sha256(frame.data).digest() if look.fingerprint else b""
        glimpses = self._glimpses(seen)
        spent_ns = self._clock.boot_ns() - began_ns
        self._channel.send(Seen(look.frame_id, look.t_ns, tracks, spent_ns, self._model.last_ns, fingerprint, glimpses))

    def _glimpses(self, seen: Detections) -> tuple[Glimpse, ...]:
        """What no track may stand for: everything below the score from which one is believed."""
        unsure = seen.pick(seen.scores < self._params.score_sure)
        shown = zip(unsure.labels, unsure.boxes.round(1).tolist(), strict=True)
        return tuple(Glimpse(self._classes[label], (x1, y1, x2, y2)) for label, (x1, y1, x2, y2) in shown)

    def _track(self, seen: Detections, look: Look) -> tuple[SeenTrack, ...]:
        if look.fresh:
            self._tracker.reset()
        steps = 1 if self._last_frame_id is None else look.frame_id - self._last_frame_id
        self._last_frame_id = look.frame_id
        return tuple(self._told(track) for track in self._tracker.update(seen, steps) if track.age == 0)

    def _with_states(self, frame: NDArray[np.uint8], tracks: tuple[SeenTrack, ...]) -> tuple[SeenTrack, ...]:
        """Of the surest few that are believed: a model that sees lights everywhere must not hold up the road."""
        if self._states is None:
            return tracks
        known = [track for track in tracks if track.label == self._states.of and track.confirmed]
        told = {}
        for track in sorted(known, key=lambda track: -track.score)[:MOST_STATES]:
            state = self._states.tell(frame, track.box)
            if state is not None:
                told[track.track_id] = state.label
        return tuple(msgspec.structs.replace(track, state=told.get(track.track_id, "")) for track in tracks)

    def _told(self, track: Track) -> SeenTrack:
        # A hundredth of a pixel and a ten-thousandth of a score are below what the model can know.
        x1, y1, x2, y2 = (round(side, 2) for side in track.box)
        label = self._classes[track.label]
        return SeenTrack(track.track_id, label, round(track.score, 4), (x1, y1, x2, y2), track.hits, track.confirmed)


def main() -> None:
    parser = argparse.ArgumentParser(prog="inference.worker")
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--states", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--channel", type=int, required=True)
    arguments = parser.parse_args()
    channel: Channel[ToWorker] = begin(arguments.channel, ToWorker, Limits(address_space_bytes=ADDRESS_SPACE_BYTES))
    try:
        package = load_package(arguments.package)
        session = Session(package, arguments.threads)
        states = Session(load_package(arguments.states), threads=1) if arguments.states is not None else None
        teller = teller_of(states) if states is not None else None
        # Their golden vectors have warmed them.
        freeze_heap()
        manifest, variant = package.manifest, session.chosen.variant
        told = states.package.digest if states is not None else ""
        channel.send(WorkerReady(manifest.name, manifest.version, package.digest, variant, runtime(), told))
        Worker(session, channel, SystemClock(), teller).run()
    except InferenceError as fault:
        channel.send(WorkerFault(str(fault)))
    except ChannelClosed:
        pass


if __name__ == "__main__":
    main()
