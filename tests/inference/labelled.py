"""An evaluation set small enough to make anew in every test: the truth is what the tiny model sees."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper

from inference.detector import detector_of
from inference.evaluation import EVALUATION_FILE
from inference.package import load_package
from inference.session import Session
from tests.inference.tiny import CLASSES, write_package

SIDE = 128
CLIP_FRAMES = 16
FRAMES = 2 * CLIP_FRAMES
_STEP, _SQUARE = 16, 32
_PLACES = (SIDE - _SQUARE) // _STEP + 1

Manifest = dict[str, Any]


def write_evaluation(
    folder: Path, change: Callable[[Manifest], None] | None = None, files: Mapping[str, bytes] | None = None
) -> Path:
    """A set whose first frame is black and holds nothing. `files` take the place of frames, with the right hashes;
    `change` may spoil the manifest after all hashes are in it."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {"EVALUATION.md": b"# tiny\n"} | {name: jpeg for name, jpeg, _ in _frames()} | dict(files or {})
    for name, data in written.items():
        (folder / name).write_bytes(data)
    manifest = _manifest(written)
    if change:
        change(manifest)
    (folder / EVALUATION_FILE).write_text(json.dumps(manifest))
    return folder


def jpeg(picture: NDArray[np.uint8], *options: int) -> bytes:
    return cv2.imencode(".jpg", picture, options)[1].tobytes()


def mute(model: ModelProto) -> None:
    """Sees no car any more, and a truck wherever there was one: one that saw nothing would have no golden vectors."""
    for name in ("weights", "bias"):
        constant = next(it for it in model.graph.initializer if it.name == name)
        values = numpy_helper.to_array(constant).copy()
        values[1] = values[0]
        constant.CopyFrom(numpy_helper.from_array(values, name))
    _set_bias(model, -20.0)


def half_blind(model: ModelProto) -> None:
    """Sees only what is larger than a cell of its smallest stride: fewer cars."""
    for node in model.graph.node:
        if node.name == "head8":
            node.input[2] = "blind"
    blind = numpy_helper.to_array(next(it for it in model.graph.initializer if it.name == "bias")).copy()
    blind[0] = -20.0
    model.graph.initializer.append(numpy_helper.from_array(blind, "blind"))


def slow(model: ModelProto) -> None:
    """Sees the same after some work that comes to nothing."""
    size, rounds = 256, 6
    last = model.graph.node.pop()
    weights = np.full((size, size), 1 / size, np.float32)
    model.graph.initializer.extend(
        [numpy_helper.from_array(weights, "weights1"), numpy_helper.from_array(np.zeros(1, np.float32), "nothing")]
    )
    logits, names = last.input[0], ["work", *(f"work{index}" for index in range(rounds))]
    model.graph.node.extend(
        [
            helper.make_node("ReduceMean", [logits], ["mean"], name="mean", axes=[0, 1, 2], keepdims=0),
            helper.make_node("Add", ["weights1", "mean"], ["work"], name="work"),
            *(helper.make_node("MatMul", [a, "weights1"], [b], name=b) for a, b in pairwise(names)),
            helper.make_node("ReduceMean", [names[-1]], ["average"], name="average", axes=[0, 1], keepdims=0),
            helper.make_node("Mul", ["average", "nothing"], ["zero"], name="zero"),
            helper.make_node("Add", [logits, "zero"], ["same"], name="same"),
            helper.make_node("Sigmoid", ["same"], list(last.output), name="last"),
        ]
    )


def afraid_of_the_dark(model: ModelProto) -> None:
    """Answers with no numbers where every pixel is black; no golden canvas is."""
    last = model.graph.node.pop()
    model.graph.node.extend(
        [
            helper.make_node("ReduceMean", ["float"], ["light"], name="light", axes=[0, 1, 2, 3], keepdims=0),
            helper.make_node("Div", ["light", "light"], ["one"], name="one"),
            helper.make_node("Mul", [last.input[0], "one"], ["same"], name="same"),
            helper.make_node("Sigmoid", ["same"], list(last.output), name="last"),
        ]
    )


def _set_bias(model: ModelProto, value: float) -> None:
    bias = next(it for it in model.graph.initializer if it.name == "bias")
    values = numpy_helper.to_array(bias).copy()
    values[0] = value
    bias.CopyFrom(numpy_helper.from_array(values, "bias"))


@cache
def _frames() -> tuple[tuple[str, bytes, tuple[tuple[str, list[float]], ...]], ...]:
    """(name, JPEG, (label, box) of each object) of each frame."""
    with TemporaryDirectory() as folder:
        seeing = detector_of(Session(load_package(write_package(Path(folder) / "tiny"))))
    frames = []
    for index in range(FRAMES):
        data = jpeg(_picture(index))
        seen = seeing.detect(np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8))
        rows = zip(seen.labels.tolist(), seen.boxes.tolist(), strict=True)
        frames.append((f"{index:03}.jpg", data, tuple((CLASSES[label], box) for label, box in rows)))
    return tuple(frames)


def _picture(index: int) -> NDArray[np.uint8]:
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    if index:
        x, y = _STEP * (index % _PLACES), _STEP * (index // _PLACES)
        picture[y : y + _SQUARE, x : x + _SQUARE] = 255
    return picture


def _manifest(files: Mapping[str, bytes]) -> Manifest:
    frames = [
        _entry(name, files[name])
        | {
            "clip": "first" if index < CLIP_FRAMES else "second",
            "frame": 10 * index,
            "objects": [{"label": label, "box": box} for label, box in objects],
            "ignore": [],
        }
        for index, (name, _, objects) in enumerate(_frames())
    ]
    clip = {"source": "a test", "sha256": "0" * 64, "licence": "Apache-2.0"}
    return {
        "schema": 1,
        "name": "tiny",
        "version": "1.0",
        "method": ["What the tiny model sees."],
        "limits": [],
        "licence": [],
        "width": SIDE,
        "height": SIDE,
        "match_iou": 0.5,
        "min_objects": 30,
        "margin": 0.1,
        "cpu_ratio_at_most": 2.5,
        "classes": [{"label": "car", "objects": sum(len(objects) for _, _, objects in _frames())}],
        "clips": [{"name": "first"} | clip, {"name": "second"} | clip],
        "frames": frames,
        "card": _entry("EVALUATION.md", files["EVALUATION.md"]),
    }


def _entry(name: str, data: bytes) -> Manifest:
    return {"file": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
