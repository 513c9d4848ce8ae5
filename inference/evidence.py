"""What a package says of how good it is: figures that follow from what was counted, or it isn't read.

Agreement with the graph before quantization, faces found, states told right, each with its 95 % interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, model_validator

from inference.part import Count, Fraction, Line, Name, Part, Sha256
from inference.recall import trusted_from, wilson_low


class Fidelity(Part):
    """Agreement with the fp32 graph over a drive: never accuracy. The interval is 95 %, moving-block bootstrap."""

    variant: Name
    score: Fraction
    precision: Fraction
    recall: Fraction
    f1: Fraction
    f1_low: Fraction
    f1_high: Fraction


class FidelityReport(Part):
    against: Line
    drive_sha256: Sha256
    frames: Count
    match_iou: Fraction
    block_frames: Count
    figures: tuple[Fidelity, ...]


class Found(Part):
    """So many of the faces of one height; `low` is the lower end of the 95 % interval (Wilson)."""

    found: Annotated[int, Field(ge=0, le=1_000_000)]
    low: Fraction


class FaceRecall(Part):
    """Faces of one height: found in the frame's tiles alone, and when the person's box is known."""

    face_px: Count
    faces: Count
    alone: Found
    with_person: Found


class RecallReport(Part):
    """How many of known faces are found. A face is found when one widened box covers `covered` of it or more.

    `alarms_per_frame` and `area_alarmed`, a fraction of the picture, are what is covered of a drive that shows none.
    `trusted_person_px` follows from the figures: the least height of a person's box at which the head's face is found
    for sure enough (`bar`), a person being `persons_per_face` faces tall; null when no size reaches the bar. A person
    below it must be covered whole.
    """

    over: Line
    drive_sha256: Sha256
    covered: Fraction
    bar: Fraction
    persons_per_face: Annotated[float, Field(ge=1.0, le=20.0)]
    figures: Annotated[tuple[FaceRecall, ...], Field(min_length=1, max_length=64)]
    trusted_person_px: Annotated[float, Field(gt=0.0)] | None
    alarms_per_frame: Annotated[float, Field(ge=0.0)]
    area_alarmed: Fraction

    @model_validator(mode="after")
    def _follows(self) -> RecallReport:
        for figure in self.figures:
            for rate in (figure.alone, figure.with_person):
                if rate.found > figure.faces or round(wilson_low(rate.found, figure.faces), 4) != rate.low:
                    raise ValueError(f"the bound {rate.low} doesn't follow from {rate.found} of {figure.faces}")
        if self.trusted_person_px != trusted_person_px(self.figures, self.bar, self.persons_per_face):
            raise ValueError(f"trusted_person_px {self.trusted_person_px} doesn't follow from the figures")
        return self


def trusted_person_px(figures: Sequence[FaceRecall], bar: float, persons_per_face: float) -> float | None:
    """The height of a person's box from which on the face in it is found, by the lower bounds; None for never."""
    trusted = trusted_from(((figure.face_px, figure.with_person.low) for figure in figures), bar)
    return None if trusted is None else trusted * persons_per_face


class ClassAccuracy(Part):
    """So many of a class's crops were told right; `low` is the lower end of the 95 % interval (Wilson)."""

    label: Line
    crops: Annotated[int, Field(ge=0, le=1_000_000)]
    right: Annotated[int, Field(ge=0, le=1_000_000)]
    low: Fraction

    @model_validator(mode="after")
    def _follows(self) -> ClassAccuracy:
        low = wilson_low(self.right, self.crops) if self.crops else 0.0
        if self.right > self.crops or round(low, 4) != self.low:
            raise ValueError(f"the bound {self.low} doesn't follow from {self.right} of {self.crops}")
        return self


class AccuracyReport(Part):
    """How many of labelled crops, none of them learned from, are told right."""

    over: Line
    sheet_sha256: Sha256
    variant: Name
    figures: tuple[ClassAccuracy, ...]
