"""Whether a candidate that tells states may replace the live one, decided from labelled crops.

Of each class, and over all crops, it must be shown that the candidate isn't worse by more than a margin; that it isn't
shown to be worse is not enough. A class with too few crops to show it decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecu.process import cpu_ns
from inference.comparison import CpuClock, Progress, blaming
from inference.crops import Crops, load_crops
from inference.errors import PackageRefused, Party
from inference.floor import GateFloor, objects_for
from inference.judging import speed_verdict, too_few, worst
from inference.manifest import StateManifest
from inference.package import load_package
from inference.paired import Difference, paired_difference
from inference.session import Session
from inference.verdict import ClassVerdict, Outcome, Score, Verdict

MARGIN: Final = 0.02
"""What is called not worse, over all crops. Of a single class, which has fewer, the vehicle's floor says it."""
CROPS_AT_LEAST: Final = 100


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What one model said of N crops: `right` (N,) bool, `answers` (N,) int64, `cpu_ns` (N,) int64."""

    right: NDArray[np.bool_]
    answers: NDArray[np.int64]
    cpu_ns: NDArray[np.int64]


class StateComparison:
    """Two loaded models, loaded crops, and what the vehicle demands."""

    def __init__(self, live: Session, candidate: Session, crops: Crops, floor: GateFloor) -> None:
        self.live = live
        self.candidate = candidate
        self.judged_by = self.crops = crops
        self.floor = floor

    def run(self, clock: CpuClock, progress: Progress) -> Verdict:
        """The same verdict each time, but for the CPU times. Raises Unjudgeable."""
        parties = ((Party.LIVE, self.live), (Party.CANDIDATE, self.candidate))
        answers: dict[Party, list[int]] = {party: [] for party, _ in parties}
        spent: dict[Party, list[int]] = {party: [] for party, _ in parties}
        for index, picture in enumerate(self.crops.pictures):
            for party, session in parties if index % 2 == 0 else parties[::-1]:
                began_ns = clock()
                with blaming(party):
                    (logits,) = session.run(picture)
                spent[party].append(clock() - began_ns)
                answers[party].append(int(logits.argmax()))
            progress(index + 1, len(self.crops.pictures))
        live, candidate = (_told(self.crops, answers[party], spent[party]) for party, _ in parties)
        return judge_told(self.crops, live, candidate, self.floor)


def judge_states(live: Path, candidate: Path, crops: Path, floor: GateFloor | None = None) -> Verdict:
    """Raises Unjudgeable, which names whose fault it is."""
    return load_state_comparison(live, candidate, crops, floor).run(cpu_ns, lambda done, of: None)


def load_state_comparison(live: Path, candidate: Path, crops: Path, floor: GateFloor | None = None) -> StateComparison:
    """Every byte checked, both models' golden vectors hold, and all three speak of the same classes. Without a `floor`,
    the default one. Raises Unjudgeable."""
    with blaming(Party.EVALUATION):
        labelled = load_crops(crops)
    sessions = _session(Party.LIVE, live, labelled), _session(Party.CANDIDATE, candidate, labelled)
    return StateComparison(*sessions, labelled, floor or GateFloor())


def _session(party: Party, folder: Path, crops: Crops) -> Session:
    with blaming(party):
        session = Session(load_package(folder), threads=1)
        _demand_same(session.package.manifest_of(StateManifest), crops)
    return session


def judge_told(crops: Crops, live: Told, candidate: Told, floor: GateFloor) -> Verdict:
    """Pure: the same answers and times give the same verdict."""
    labels = crops.manifest.labels
    classes = tuple(_class(label, at, crops.labels, live, candidate, floor) for at, label in enumerate(labels))
    speed = speed_verdict(live.cpu_ns, candidate.cpu_ns, floor.cpu_ratio_at_most)
    outcome, words = _overall(live, candidate)
    outcome = worst([outcome, speed.outcome, *(one.outcome for one in classes)])
    return Verdict(outcome, "; ".join([words, *(one.words for one in classes), speed.words]), classes, speed)


def _overall(live: Told, candidate: Told) -> tuple[Outcome, str]:
    difference = paired_difference(live.right, candidate.right)
    words = f"right {live.right.mean():.3f} -> {candidate.right.mean():.3f}, {_between(difference)}"
    if len(live.right) < CROPS_AT_LEAST:
        return Outcome.UNDECIDED, f"{words}: {len(live.right)} crops, {CROPS_AT_LEAST} are needed"
    if difference.high < -MARGIN:
        return Outcome.FAILED, f"{words}: worse by more than {MARGIN:g}"
    if difference.low < -MARGIN:
        return Outcome.UNDECIDED, f"{words}: it may be worse by more than {MARGIN:g}"
    return Outcome.PASSED, f"{words}: not worse"


def _class(
    label: str, at: int, labels: NDArray[np.int64], live: Told, candidate: Told, floor: GateFloor
) -> ClassVerdict:
    of = labels == at
    count = int(of.sum())
    scores = _score(live, of, at), _score(candidate, of, at)
    if not count:
        outcome, words = too_few(label in floor.excused, f"{label}: no crop of it")
        return ClassVerdict(label, outcome, words, 0, 0, *scores, 0.0, -1.0, 1.0)
    difference = paired_difference(live.right[of], candidate.right[of])
    rates = f"{label}: {live.right[of].mean():.3f} -> {candidate.right[of].mean():.3f} of {count}"
    outcome, words = _class_words(f"{rates}, {_between(difference)}", label in floor.excused, count, difference, floor)
    return ClassVerdict(
        label, outcome, words, count, count, *scores, difference.value, difference.low, difference.high
    )  # fmt: skip


def _class_words(
    words: str, excused: bool, count: int, difference: Difference, floor: GateFloor
) -> tuple[Outcome, str]:
    margin = floor.state_margin_at_most
    needed = max(floor.objects_at_least, objects_for(margin))
    if difference.high < -margin:
        return Outcome.FAILED, f"{words}: worse by more than {margin:g}"
    if count < needed:
        return too_few(excused, f"{words}: {needed} are needed")
    if difference.low < -margin:
        return Outcome.UNDECIDED, f"{words}: it may be worse by more than {margin:g}"
    return Outcome.PASSED, f"{words}: not worse"


def _score(told: Told, of: NDArray[np.bool_], at: int) -> Score:
    found, said = int(told.right[of].sum()), int((told.answers == at).sum())
    missed, false = int(of.sum()) - found, said - found
    whole = 2 * found + false + missed
    return Score(found, false, missed, 2 * found / whole if whole else 1.0)


def _told(crops: Crops, answers: list[int], spent: list[int]) -> Told:
    said = np.array(answers, np.int64)
    return Told(said == crops.labels, said, np.array(spent, np.int64))


def _between(difference: Difference) -> str:
    return f"difference {difference.low:+.3f} to {difference.high:+.3f}"


def _demand_same(manifest: StateManifest, crops: Crops) -> None:
    for fault in _unlike(manifest, crops):
        raise PackageRefused(f"{manifest.name}@{manifest.version} {fault}. Judge it by crops that are its own.")


def _unlike(manifest: StateManifest, crops: Crops) -> Iterator[str]:
    if manifest.classes != crops.manifest.labels:
        yield f"tells {', '.join(manifest.classes)}; the crops are of {', '.join(crops.manifest.labels)}"
    if manifest.input_hw != (crops.manifest.size,) * 2:
        yield f"takes crops of {manifest.input_hw}, these have {crops.manifest.size} pixels"
