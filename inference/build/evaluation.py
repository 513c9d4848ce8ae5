"""Builds the evaluation set road from labelled frames, the same bytes each time.

    python -m inference.build.evaluation --labels labels.json --frames DIR --out DIR

labels.json is {"clips": {NAME: {"source", "sha256", "licence"}}, "frames": [{"file", "clip", "frame", "checked",
"objects": [{"label", "box"}], "ignore": [box]}]}; a box is xyxy in the pixels of the JPEG, which is taken as it is.
Counts and hashes are computed here, the words are inference.build.road's. A frame that wasn't checked is refused.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecu.errors import UsageFault
from inference.build.command import run, write_folder
from inference.build.evaluation_card import CARD_FILE, About, evaluation_card
from inference.build.road import ROAD
from inference.evaluation import (
    EVALUATION_FILE,
    MAX_EVALUATION_BYTES,
    Box,
    Clip,
    EvaluationManifest,
    JudgedClass,
    LabelledFrame,
    LabelledObject,
    SetFile,
    load_evaluation,
)
from inference.folder import Unlike, parse_closed, read_plain
from inference.jpeg import NotPlain, plain_jpeg_hw
from inference.part import FileName, Line, Name, Part, Sha256

MAX_JPEG_BYTES = 1 << 20
_SCHEMA: dict[str, Any] = {"schema": 1}


class ClipOfLabels(Part):
    source: Line
    sha256: Sha256
    licence: Line


class FrameOfLabels(Part):
    file: FileName
    clip: Name
    frame: int
    checked: bool
    objects: tuple[LabelledObject, ...]
    ignore: tuple[Box, ...]


class Labels(Part):
    """labels.json."""

    clips: dict[Name, ClipOfLabels]
    frames: tuple[FrameOfLabels, ...]


def build(labels: Labels, jpegs: Mapping[str, bytes], about: About) -> dict[str, bytes]:
    """The set's files by name. Raises UsageFault for a frame that wasn't checked, or pictures of several sizes."""
    unchecked = [frame.file for frame in labels.frames if not frame.checked]
    if unchecked:
        raise UsageFault(f"{unchecked[0]} and {len(unchecked) - 1} more weren't checked. Check each frame first.")
    order = list(labels.clips)
    frames = sorted(labels.frames, key=lambda frame: (order.index(frame.clip), frame.frame))
    draft = _manifest(labels, [_labelled(frame, jpegs[frame.file]) for frame in frames], _size(jpegs), about)
    card = evaluation_card(draft).encode()
    manifest = draft.model_copy(update={"card": _entry(CARD_FILE, card)})
    return {EVALUATION_FILE: _shown(manifest), CARD_FILE: card, **jpegs}


def _manifest(labels: Labels, frames: list[LabelledFrame], size: tuple[int, int], about: About) -> EvaluationManifest:
    counted = Counter(labelled.label for frame in frames for labelled in frame.objects)
    judged = [label for label in sorted(counted) if counted[label] >= about.min_objects]
    return EvaluationManifest(
        **_SCHEMA,
        name=about.name,
        version=about.version,
        method=about.method,
        limits=about.limits,
        licence=about.licence,
        width=size[0],
        height=size[1],
        match_iou=about.match_iou,
        min_objects=about.min_objects,
        margin=about.margin,
        cpu_ratio_at_most=about.cpu_ratio_at_most,
        classes=tuple(JudgedClass(label=label, objects=counted[label]) for label in judged),
        clips=tuple(Clip(name=name, **clip.model_dump()) for name, clip in labels.clips.items()),
        frames=tuple(frames),
        card=_entry(CARD_FILE, b"?"),
    )


def _labelled(frame: FrameOfLabels, jpeg: bytes) -> LabelledFrame:
    return LabelledFrame(
        **_entry(frame.file, jpeg).model_dump(),
        clip=frame.clip,
        frame=frame.frame,
        objects=frame.objects,
        ignore=frame.ignore,
    )


def _size(jpegs: Mapping[str, bytes]) -> tuple[int, int]:
    try:
        sizes = {plain_jpeg_hw(data) for data in jpegs.values()}
    except NotPlain as error:
        raise UsageFault(f"A frame isn't a plain JPEG: {error}. Write the frames with OpenCV.") from error
    if len(sizes) != 1:
        raise UsageFault(f"The frames are of {len(sizes)} sizes. A set has frames of one size.")
    ((height, width),) = sizes
    return width, height


def _entry(file: str, data: bytes) -> SetFile:
    return SetFile(file=file, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def _shown(manifest: EvaluationManifest) -> bytes:
    """JSON with one frame a line, so that a changed label is one changed line."""
    content = manifest.model_dump(mode="json", by_alias=True)
    return (
        "{\n" + ",\n".join(f" {json.dumps(key)}: {_lines(value)}" for key, value in content.items()) + "\n}\n"
    ).encode()


def _lines(value: Any) -> str:
    if not isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    return "[\n" + ",\n".join(f"  {json.dumps(one, ensure_ascii=False)}" for one in value) + "\n ]"


def write_set(labels: Path, frames: Path, out: Path) -> None:
    """The set into `out`, an empty folder or one of a set before; tells of it. Raises OutriderError."""
    try:
        text = read_plain(labels.parent, labels.name, MAX_EVALUATION_BYTES)
        parsed = parse_closed(Labels.model_validate_json, labels.name, text)
        jpegs = {frame.file: read_plain(frames, frame.file, MAX_JPEG_BYTES) for frame in parsed.frames}
    except Unlike as unlike:
        raise UsageFault(f"The labels can't be used: {unlike}.") from unlike
    write_folder(out, build(parsed, jpegs, ROAD), EVALUATION_FILE, "an evaluation set")
    print(f"{out}  sha256:{load_evaluation(out).digest}")


if __name__ == "__main__":
    sys.exit(run("Builds the evaluation set road.", write_set, "labels", "frames", "out"))
