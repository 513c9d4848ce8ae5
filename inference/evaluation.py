"""An evaluation set: labelled frames and the rules by which a candidate model is held against the live one.

One flat folder: `evaluation.json`, a card and the frames as JPEGs; docs/formats/evaluation-set.md has the layout. It is
signed by another key than any model is, so that who makes a model can't also say what is good. As with a model package,
nothing of it is believed before every byte was checked; a picture's size is read before anything decodes it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StringConstraints, model_validator

from inference.errors import EvaluationRefused
from inference.folder import Unlike, canonical_json, demand_only, parse_closed, read_checked, read_plain
from inference.jpeg import NotPlain, plain_jpeg_hw
from inference.part import FileName, Line, Name, Part, Sha256, Version

EVALUATIONS_FOLDER = Path(__file__).parent / "evaluations"
DEFAULT_EVALUATION = EVALUATIONS_FOLDER / "road-1.0"
EVALUATION_FILE = "evaluation.json"
MAX_EVALUATION_BYTES = 1 << 20
MAX_SET_BYTES = 64 << 20

Box = tuple[float, float, float, float]
Lines = Annotated[tuple[Line, ...], Field(max_length=64)]
ClassName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}$")]


class SetFile(Part):
    """A file beside evaluation.json."""

    file: FileName
    sha256: Sha256
    bytes: Annotated[int, Field(ge=1, le=1 << 20)]


class JudgedClass(Part):
    """A class that is judged, and how many counted objects of it the frames hold."""

    label: ClassName
    objects: Annotated[int, Field(ge=0, le=1_000_000)]


class Clip(Part):
    """Where frames come from."""

    name: Name
    source: Line
    sha256: Sha256
    licence: Line


class LabelledObject(Part):
    """`box` is xyxy in the frame's pixels."""

    label: ClassName
    box: Box


class LabelledFrame(SetFile):
    """A frame of a clip. What a model sees mostly within the `ignore` boxes counts neither for it nor against it."""

    clip: Name
    frame: Annotated[int, Field(ge=0, le=100_000_000)]
    objects: Annotated[tuple[LabelledObject, ...], Field(max_length=64)]
    ignore: Annotated[tuple[Box, ...], Field(max_length=64)]


class EvaluationManifest(Part):
    """evaluation.json. Each of `classes` must hold the objects it says; other labels may be there and aren't judged."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    name: Name
    version: Version
    method: Lines
    limits: Lines
    licence: Lines
    width: Annotated[int, Field(ge=32, le=1920)]
    height: Annotated[int, Field(ge=32, le=1200)]
    match_iou: Annotated[float, Field(ge=0.1, le=0.95)]
    """An object is found when a detection of its class overlaps it by this much (intersection over union)."""
    min_objects: Annotated[int, Field(ge=10, le=100_000)]
    """Below so many objects of a class nothing is decided about it."""
    margin: Annotated[float, Field(ge=0.001, le=0.2)]
    """A candidate may be worse by this much of F1: what is called not worse."""
    cpu_ratio_at_most: Annotated[float, Field(ge=1.0, le=10.0)]
    """How much more CPU time than the live model's a frame may cost."""
    classes: Annotated[tuple[JudgedClass, ...], Field(min_length=1, max_length=32)]
    clips: Annotated[tuple[Clip, ...], Field(min_length=1, max_length=64)]
    frames: Annotated[tuple[LabelledFrame, ...], Field(min_length=8, max_length=512)]
    """Clip by clip, each in the order of its frames: neighbours in the list are neighbours in time."""
    card: SetFile

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(judged.label for judged in self.classes)

    def files(self) -> tuple[SetFile, ...]:
        """Every file but evaluation.json."""
        return (self.card, *self.frames)

    @model_validator(mode="after")
    def _holds_together(self) -> EvaluationManifest:
        _demand_distinct("class", self.labels)
        _demand_distinct("clip", [clip.name for clip in self.clips])
        _demand_distinct("file", [EVALUATION_FILE, *(entry.file for entry in self.files())])
        # The same picture again would count as more objects than there are.
        _demand_distinct("picture", [frame.sha256 for frame in self.frames])
        self._demand_order()
        self._demand_counts()
        for frame in self.frames:
            for box in (*frame.ignore, *(labelled.box for labelled in frame.objects)):
                if not (0 <= box[0] < box[2] <= self.width and 0 <= box[1] < box[3] <= self.height):
                    raise ValueError(f"{frame.file} has a box {list(box)}, which isn't one within the frame")
        return self

    def _demand_order(self) -> None:
        clips = [clip.name for clip in self.clips]
        unknown = {frame.clip for frame in self.frames} - set(clips)
        if unknown:
            raise ValueError(f"a frame is of clip {min(unknown)}, which isn't described")
        places = [(clips.index(frame.clip), frame.frame) for frame in self.frames]
        if any(before >= after for before, after in pairwise(places)):
            raise ValueError("the frames don't come clip by clip, each once and in its order")

    def _demand_counts(self) -> None:
        counted = Counter(labelled.label for frame in self.frames for labelled in frame.objects)
        for judged in self.classes:
            found = counted[judged.label]
            if found != judged.objects:
                raise ValueError(f"the frames hold {found} objects of class {judged.label} instead of {judged.objects}")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A folder whose every byte was what evaluation.json says when it was loaded."""

    folder: Path
    manifest: EvaluationManifest
    digest: str

    @property
    def title(self) -> str:
        return f"{self.manifest.name}@{self.manifest.version}"

    def picture(self, frame: LabelledFrame) -> NDArray[np.uint8]:
        """The frame, (height, width, 3) uint8 BGR, its bytes checked again. Raises EvaluationRefused."""
        with _refusing(self.folder):
            return _decoded(frame.file, read_checked(self.folder, frame), (self.manifest.height, self.manifest.width))


def load_evaluation(folder: Path) -> Evaluation:
    """Checks the folder against its manifest. Raises EvaluationRefused, naming the file or key; nothing is decoded."""
    with _refusing(folder):
        data = read_plain(folder, EVALUATION_FILE, MAX_EVALUATION_BYTES)
        manifest = parse_closed(EvaluationManifest.model_validate_json, EVALUATION_FILE, data)
        demand_only(folder, {EVALUATION_FILE, *(entry.file for entry in manifest.files())})
        if sum(entry.bytes for entry in manifest.files()) > MAX_SET_BYTES:
            raise Unlike(f"its files are more than {MAX_SET_BYTES} bytes")
        read_checked(folder, manifest.card)
        for frame in manifest.frames:
            _demand_size(frame.file, read_checked(folder, frame), (manifest.height, manifest.width))
    return Evaluation(folder, manifest, evaluation_digest(manifest))


def evaluation_digest(manifest: EvaluationManifest) -> str:
    """SHA-256 (hex) over the canonical manifest, which holds the hash of every file."""
    return hashlib.sha256(canonical_json(manifest)).hexdigest()


def _decoded(file: str, data: bytes, frame_hw: tuple[int, int]) -> NDArray[np.uint8]:
    _demand_size(file, data, frame_hw)
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None or picture.shape != (*frame_hw, 3):
        raise Unlike(f"{file} can't be decoded")
    return np.asarray(picture, np.uint8)


def _demand_size(file: str, data: bytes, frame_hw: tuple[int, int]) -> None:
    try:
        height, width = plain_jpeg_hw(data)
    except NotPlain as error:
        raise Unlike(f"{file} isn't a plain JPEG: {error}") from error
    if (height, width) != frame_hw:
        raise Unlike(f"{file} is {width}x{height} instead of {frame_hw[1]}x{frame_hw[0]}")


def _demand_distinct(what: str, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise ValueError(f"a {what} is named twice")


@contextlib.contextmanager
def _refusing(folder: Path) -> Iterator[None]:
    try:
        yield
    except Unlike as unlike:
        raise EvaluationRefused(
            f"The evaluation set in {folder} is refused: {unlike}. Nothing is judged by it; get it again from who "
            "signed it."
        ) from unlike
