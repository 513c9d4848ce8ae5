"""Both models over an evaluation set, frame by frame, each at its own package's score threshold; timed by CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.coverage import covered
from inference.detections import Detections
from inference.detector import detector_of
from inference.errors import InferenceError, Party, Unjudgeable
from inference.evaluation import Box, Evaluation, EvaluationManifest, LabelledFrame, load_evaluation
from inference.floor import GateFloor, objects_for
from inference.judging import Rules, Showing, judge
from inference.matching import Tally, tally
from inference.package import load_package
from inference.session import Session
from inference.verdict import Verdict

SEED: Final = 1989
_NOTHING: Final = Tally(0, 0, 0)

CpuClock = Callable[[], int]
"""Nanoseconds of CPU time that this process has spent, on all of its threads."""
Progress = Callable[[int, int], None]
"""(frames done, of how many)."""


class Contestant:
    """One model, and what it has shown so far: an object is found that it overlaps by `match_iou`. Raises Unjudgeable
    for one that finds no objects: of another task."""

    def __init__(
        self, party: Party, session: Session, manifest: EvaluationManifest, match_iou: float, cpu_ns: CpuClock
    ) -> None:
        self._party = party
        with blaming(party):
            self._detector = detector_of(session)
        self._classes = session.package.manifest.classes
        self._manifest = manifest
        self._match_iou = match_iou
        self._cpu_ns = cpu_ns
        self._tallies: list[list[Tally]] = []
        self._spent: list[int] = []

    def look(self, frame: LabelledFrame, picture: NDArray[np.uint8]) -> None:
        """Raises Unjudgeable when the model fails."""
        began_ns = self._cpu_ns()
        with blaming(self._party):
            seen = self._detector.detect(picture)
        self._spent.append(self._cpu_ns() - began_ns)
        self._tallies.append([self._tally(label, frame, seen) for label in self._manifest.labels])

    def showing(self) -> Showing:
        knows = tuple(label in self._classes for label in self._manifest.labels)
        return Showing(np.array(self._tallies, np.int64), knows, np.array(self._spent, np.int64))

    def _tally(self, label: str, frame: LabelledFrame, seen: Detections) -> Tally:
        objects = _boxes([labelled.box for labelled in frame.objects if labelled.label == label])
        if label not in self._classes:
            return _NOTHING._replace(missed=len(objects))
        of_class = seen.pick(seen.labels == self._classes.index(label))
        return tally(objects, _boxes(frame.ignore), of_class, self._match_iou)


class Comparison:
    """Two loaded models, a loaded set, and what the vehicle demands beyond it."""

    def __init__(self, live: Session, candidate: Session, evaluation: Evaluation, floor: GateFloor) -> None:
        self.live = live
        self.candidate = candidate
        self.judged_by = self.evaluation = evaluation
        self.floor = floor

    def run(self, cpu_ns: CpuClock, progress: Progress) -> Verdict:
        """The same verdict each time, but for the CPU times. Raises Unjudgeable."""
        manifest = self.evaluation.manifest
        match_iou = max(manifest.match_iou, self.floor.match_iou_at_least)
        live = Contestant(Party.LIVE, self.live, manifest, match_iou, cpu_ns)
        candidate = Contestant(Party.CANDIDATE, self.candidate, manifest, match_iou, cpu_ns)
        for index, frame in enumerate(manifest.frames):
            with blaming(Party.EVALUATION):
                picture = self.evaluation.picture(frame)
            # Who comes second finds the picture in the processor's caches: they take turns.
            for contestant in (live, candidate) if index % 2 == 0 else (candidate, live):
                contestant.look(frame, picture)
            progress(index + 1, len(manifest.frames))
        rules = rules_of(manifest, self.floor)
        verdict = judge(rules, live.showing(), candidate.showing(), np.random.default_rng(SEED))
        known, later = (session.package.manifest.classes for session in (self.live, self.candidate))
        return covered(verdict, manifest.labels, known, later, self.floor.classes)


def load_comparison(live: Path, candidate: Path, evaluation: Path, floor: GateFloor | None = None) -> Comparison:
    """Every byte checked, both models' golden vectors hold. Raises Unjudgeable.

    Without a `floor`, the default one. One thread each: what is compared is what a frame costs, not how it is spread.
    """
    with blaming(Party.EVALUATION):
        labelled = load_evaluation(evaluation)
    with blaming(Party.LIVE):
        before = Session(load_package(live), threads=1)
    with blaming(Party.CANDIDATE):
        after = Session(load_package(candidate), threads=1)
    return Comparison(before, after, labelled, floor or GateFloor())


def rules_of(manifest: EvaluationManifest, floor: GateFloor) -> Rules:
    """The stricter of both, and never fewer objects than the margin needs."""
    margin = min(manifest.margin, floor.margin_at_most)
    return Rules(
        manifest.labels,
        tuple(frame.clip for frame in manifest.frames),
        max(manifest.min_objects, floor.objects_at_least, objects_for(margin)),
        margin,
        min(manifest.cpu_ratio_at_most, floor.cpu_ratio_at_most),
        floor.excused,
    )


@contextlib.contextmanager
def blaming(party: Party) -> Iterator[None]:
    """What fails within is that party's fault: Unjudgeable."""
    try:
        yield
    except InferenceError as fault:
        raise Unjudgeable(party, str(fault)) from fault


def _boxes(boxes: Sequence[Box]) -> NDArray[np.float64]:
    return np.array(boxes, np.float64).reshape(-1, 4)
