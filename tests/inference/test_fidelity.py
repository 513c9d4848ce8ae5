"""Laws of fidelity, and the figure the default model is held to."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.build.frames import every_frame
from inference.detections import Detections
from inference.detector import detector_of
from inference.errors import PackageRefused
from inference.fidelity import (
    F1_BAR,
    SCORES,
    Agreement,
    agreement,
    bootstrap_f1,
    compare_at,
    count_pairs,
    decode_reference,
    encode_reference,
    fidelity_over_drive,
    make_reference,
)
from inference.manifest import DetectManifest
from inference.package import find_package, load_package
from inference.session import Session
from tests.inference.boxes import as_rows, detections, some_detections

DRIVE = Path(__file__).parents[2] / "simulator" / "drives" / "solidWhiteRight.mp4"
some_drives = st.lists(some_detections(6), min_size=1, max_size=30)
fewer = settings(max_examples=30)


def agree(reference: list[Detections], candidate: list[Detections]) -> Agreement:
    return agreement(reference, candidate, np.random.default_rng(7))


@given(some_drives)
@fewer
def test_a_detector_agrees_wholly_with_itself(drive: list[Detections]) -> None:
    assert agree(drive, drive) == Agreement(1.0, 1.0, 1.0, 1.0, 1.0)


@given(some_detections(), some_detections())
def test_every_object_is_counted_once(reference: Detections, candidate: Detections) -> None:
    both, only_candidate, only_reference = count_pairs(reference, candidate)
    assert both + only_candidate == len(candidate)
    assert both + only_reference == len(reference)


@given(some_drives)
@fewer
def test_objects_elsewhere_or_of_another_class_never_agree(drive: list[Detections]) -> None:
    moved = [Detections(seen.boxes + 500, seen.scores, seen.labels) for seen in drive]
    renamed = [Detections(seen.boxes, seen.scores, seen.labels + 7) for seen in drive]
    if any(len(seen) for seen in drive):
        assert agree(drive, moved).f1 == agree(drive, renamed).f1 == 0.0


def test_figures_by_hand() -> None:
    reference = [detections((0, 0.9, 0, 0, 10, 10), (0, 0.8, 50, 0, 60, 10)), detections((1, 0.5, 0, 0, 10, 10))]
    candidate = [detections((0, 0.7, 1, 0, 11, 10)), detections((1, 0.5, 0, 0, 10, 10), (0, 0.6, 0, 0, 10, 10))]
    measured = agree(reference, candidate)
    assert (measured.precision, measured.recall) == (2 / 3, 2 / 3)
    assert measured.f1 == pytest.approx(2 / 3)


def test_the_surer_chooses_first_and_takes_what_overlaps_most() -> None:
    reference = detections((0, 0.5, 0, 0, 10, 10), (0, 0.9, 1, 0, 11, 10))
    candidate = detections((0, 0.4, 1, 0, 11, 10))
    assert count_pairs(reference, candidate) == (1, 0, 1)
    near_both = detections((0, 0.4, 1, 0, 11, 10), (0, 0.4, -3, 0, 7, 10))
    assert count_pairs(reference, near_both) == (2, 0, 0)


def test_an_overlap_of_exactly_the_limit_agrees() -> None:
    reference, candidate = detections((0, 0.5, 0, 0, 10, 10)), detections((0, 0.5, 0, 0, 10, 5))
    assert count_pairs(reference, candidate, 0.5) == (1, 0, 0)
    assert count_pairs(reference, candidate, 0.51) == (0, 1, 1)


def test_the_interval_is_the_same_for_the_same_seed_and_wider_when_faults_cluster() -> None:
    rng = np.random.default_rng(3)
    faults = np.zeros(220, np.int64)
    faults[rng.permutation(220)[:44]] = 1
    spread = np.stack([3 - faults, faults, faults], axis=1)
    clustered = np.stack([3 - np.sort(faults), np.sort(faults), np.sort(faults)], axis=1)
    intervals = [bootstrap_f1(counts, np.random.default_rng(1)) for counts in (spread, spread, clustered)]
    assert intervals[0] == intervals[1]
    widths = [high - low for low, high in intervals]
    assert widths[2] > 3 * widths[0] > 0


def test_cutting_at_a_score_cuts_both() -> None:
    reference = [detections((0, 0.9, 0, 0, 10, 10), (0, 0.36, 50, 0, 60, 10))]
    candidate = [detections((0, 0.9, 0, 0, 10, 10), (0, 0.30, 50, 0, 60, 10))]
    by_score = compare_at(reference, candidate, (0.35, 0.40), seed=1)
    assert by_score[0.35].recall == 0.5
    assert by_score[0.40].recall == 1.0


@given(some_drives)
@fewer
def test_a_reference_comes_back_as_it_was_written(drive: list[Detections]) -> None:
    reference = make_reference("ab", 0.3, drive)
    again = decode_reference(encode_reference(reference))
    assert again == reference
    assert [as_rows(seen) for seen in again.detections()] == [as_rows(seen) for seen in drive]


@given(st.binary(max_size=60))
def test_bytes_that_are_no_reference_are_refused(data: bytes) -> None:
    with pytest.raises(PackageRefused):
        decode_reference(data)


@pytest.mark.parametrize("name", [b"\xff\xff", b"ab" + b"\x91" * 100_000], ids=["not_utf8", "nested_without_end"])
def test_a_reference_that_names_its_model_by_no_text_is_refused(name: bytes) -> None:
    with pytest.raises(PackageRefused, match="can't be read"):
        decode_reference(encode_reference(make_reference("ab", 0.3, [])).replace(b"ab", name))


def test_a_reference_of_another_length_or_from_a_higher_score_cant_be_compared() -> None:
    session = Session(load_package(find_package("drive-detect@1.0")))
    frame = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(ValueError, match="begins at score"):
        fidelity_over_drive(detector_of(session), [frame], make_reference("", 0.4, [Detections.none()]), SCORES, 1)
    with pytest.raises(ValueError, match=r"zip\(\)"):
        fidelity_over_drive(detector_of(session), [frame], make_reference("", 0.3, []), SCORES, 1)


def test_the_default_model_is_faithful_to_fp32_over_the_default_drive() -> None:
    package = load_package(find_package("drive-detect@2.0"))
    entry = package.manifest_of(DetectManifest).reference
    assert entry is not None
    reference = decode_reference(package.read(entry))
    assert reference.drive_sha256 == hashlib.sha256(DRIVE.read_bytes()).hexdigest()
    measured = fidelity_over_drive(detector_of(Session(package)), every_frame(DRIVE), reference, SCORES, seed=1989)
    assert all(measured[score].f1 >= F1_BAR for score in SCORES), measured


def test_the_smaller_release_doesnt_reach_the_bar_and_says_so() -> None:
    figures = load_package(find_package("drive-detect@1.0")).manifest_of(DetectManifest).fidelity.figures
    assert {figure.score for figure in figures} == set(SCORES)
    assert all(figure.f1 < F1_BAR for figure in figures)
    assert all(figure.f1_low <= figure.f1 <= figure.f1_high for figure in figures)
