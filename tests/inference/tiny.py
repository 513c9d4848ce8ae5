"""A model package small enough to make anew in every test: bright things are cars.

Its graph has NanoDet's surface over a 64x64 canvas: each cell pools its pixels' brightness into a score and spreads its
distances evenly, so that a bright square is found where it lies.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from inference.admission import Contract, ElementType, Surface
from inference.decode import BINS, STRIDES, Decoder, cell_count
from inference.manifest import MANIFEST_FILE
from inference.outputs import two_of
from inference.runtime import ort
from inference.session import Engine, session_options

SIDE = 64
CLASSES = ("car", "truck")
CELLS = cell_count((SIDE, SIDE))
ROWS = len(CLASSES) + 4 * BINS
CONTRACT = Contract(
    (Surface("frame", (1, SIDE, SIDE, 3), ElementType.UINT8),),
    (Surface("scores", (1, CELLS, len(CLASSES))), Surface("reg", (1, CELLS, 4 * BINS))),
    17,
)

Change = Callable[[onnx.ModelProto], None]
Manifest = dict[str, Any]


def put(*path: str | int, value: Any) -> Callable[[Manifest], None]:
    """A change of a manifest at one place."""

    def change(manifest: Manifest) -> None:
        inner: Any = manifest
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value

    return change


def graph(change: Change | None = None, gain: float = 1.0) -> bytes:
    """The ONNX file. `change` may spoil it; `gain` scales how sure it is."""
    nodes = [
        helper.make_node("Transpose", ["frame"], ["planar"], name="planar", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planar"], ["float"], name="float", to=TensorProto.FLOAT),
    ]
    constants = [_constant("weights", _weights(gain)), _constant("bias", _bias(gain))]
    flat = []
    for stride in STRIDES:
        cells = (SIDE // stride) ** 2
        constants.append(_constant(f"shape{stride}", np.array([1, ROWS, cells], np.int64)))
        size = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes += [
            helper.make_node("AveragePool", ["float"], [f"pool{stride}"], name=f"pool{stride}", **size),
            helper.make_node("Conv", [f"pool{stride}", "weights", "bias"], [f"head{stride}"], name=f"head{stride}"),
            helper.make_node("Reshape", [f"head{stride}", f"shape{stride}"], [f"flat{stride}"], name=f"flat{stride}"),
        ]
        flat.append(f"flat{stride}")
    constants.append(_constant("parts", np.array([len(CLASSES), 4 * BINS], np.int64)))
    nodes += [
        helper.make_node("Concat", flat, ["all"], name="all", axis=2),
        helper.make_node("Transpose", ["all"], ["rows"], name="rows", perm=[0, 2, 1]),
        helper.make_node("Split", ["rows", "parts"], ["logits", "reg"], name="split", axis=2),
        helper.make_node("Sigmoid", ["logits"], ["scores"], name="scores"),
    ]
    model = helper.make_model(_graph(nodes, constants), opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if change:
        change(model)
    data: bytes = model.SerializeToString()
    return data


def canvas(*squares: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Dark, with bright squares (x, y, side)."""
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    for x, y, side in squares:
        picture[y : y + side, x : x + side] = 255
    return picture


CANVASES = (canvas((8, 8, 16)), canvas((32, 32, 16), (0, 48, 8)))


def write_package(
    folder: Path,
    models: Mapping[str, bytes] | None = None,
    meant: Mapping[str, bytes] | None = None,
    change: Callable[[Manifest], None] | None = None,
) -> Path:
    """A package of `models` by variant id. What a variant must show is computed from `meant`, itself by default.

    `change` may spoil the manifest after all hashes are in it.
    """
    models = {"plain": graph()} if models is None else models
    folder.mkdir(parents=True, exist_ok=True)
    files = {f"{variant}.onnx": data for variant, data in models.items()}
    files |= {f"golden-{index}.png": _png(picture) for index, picture in enumerate(CANVASES)}
    files["CARD.md"] = b"# tiny\n"
    for name, data in files.items():
        (folder / name).write_bytes(data)
    manifest = _manifest(files, {variant: (meant or {}).get(variant, data) for variant, data in models.items()})
    if change:
        change(manifest)
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
    return folder


def entry(name: str, data: bytes) -> Manifest:
    return {"file": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _manifest(files: Mapping[str, bytes], meant: Mapping[str, bytes]) -> Manifest:
    zeros = "0" * 64
    return {
        "schema": 1,
        "name": "tiny",
        "version": "1.0",
        "task": "detect",
        "classes": list(CLASSES),
        "input": {
            "name": "frame",
            "height": SIDE,
            "width": SIDE,
            "colour": "bgr8",
            "layout": "nhwc_u8",
            "letterbox_fill": 114,
            "letterbox_anchor": "top_left",
            "resize": "bilinear",
        },
        "outputs": {"scores": "scores", "distances": "reg", "strides": list(STRIDES), "bins": BINS},
        "thresholds": {"score": 0.4, "nms_iou": 0.6},
        "variants": [
            entry(f"{variant}.onnx", files[f"{variant}.onnx"])
            | {"id": variant, "precision": "fp32", "golden": [_expected(data, picture) for picture in CANVASES]}
            for variant, data in meant.items()
        ],
        "runtime": {
            "intra_op_threads": 1,
            "spinning": False,
            "ort_from": "1.20",
            "ort_below": "2.0",
            "opset": 17,
        },
        "golden": {
            "canvases": [entry(name, data) for name, data in files.items() if name.endswith(".png")],
            "score_from": 0.3,
            "score_tolerance": 0.05,
            "iou_at_least": 0.8,
        },
        "budget": {"frame_p50_ms": 1.0, "frame_p99_ms": 5.0, "resident_mb": 100.0},
        "licence": {"spdx": "Apache-2.0", "holder": "the tests", "notice": "made by a test"},
        "lineage": {
            "source": "a test",
            "source_version": "1",
            "source_sha256": zeros,
            "weights_sha256": zeros,
            "calibration_video_sha256": zeros,
            "calibration_frames": 1,
            "calibration_sha256": zeros,
        },
        "built_on": {
            "variant": next(iter(meant)),
            "onnxruntime": ort.__version__,
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            "instruction_set": "any",
            "outputs_sha256": zeros,
        },
        "fidelity": {
            "against": "itself",
            "drive_sha256": zeros,
            "frames": 1,
            "match_iou": 0.5,
            "block_frames": 25,
            "figures": [],
        },
        "card": entry("CARD.md", files["CARD.md"]),
        "reference": None,
    }


def _expected(model: bytes, picture: NDArray[np.uint8]) -> list[Manifest]:
    outputs = Engine(model, CONTRACT, session_options()).run(picture)
    seen = Decoder((SIDE, SIDE)).decode(*two_of(outputs), 0.3, 0.6)
    rows = zip(seen.labels.tolist(), seen.scores.tolist(), seen.boxes.tolist(), strict=True)
    return [{"label": CLASSES[label], "score": score, "box": box} for label, score, box in rows]


def _weights(gain: float) -> NDArray[np.float32]:
    weights = np.zeros((ROWS, 3, 1, 1), np.float32)
    weights[0] = gain * 8 / (3 * 255)
    return weights


def _bias(gain: float) -> NDArray[np.float32]:
    bias = np.zeros(ROWS, np.float32)
    bias[0], bias[1] = -6.5 * gain, -6
    # One sure bin a side: a distance of one stride.
    bias[len(CLASSES) + 1 :: BINS] = 30
    return bias


def _graph(nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]) -> onnx.GraphProto:
    frame = helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, SIDE, SIDE, 3])
    outputs = [helper.make_tensor_value_info(one.name, TensorProto.FLOAT, list(one.shape)) for one in CONTRACT.outputs]
    return helper.make_graph(nodes, "tiny", [frame], outputs, constants)


def _constant(name: str, array: NDArray[Any]) -> onnx.TensorProto:
    return numpy_helper.from_array(array, name)


def _png(picture: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", picture)[1].tobytes()
