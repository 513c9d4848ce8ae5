"""The runtime that sees the road tells nobody but us."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from inference.package import find_package

ROOT = Path(__file__).parents[2]
RUN_A_MODEL = """
from inference.package import find_package, load_package
from inference.session import Session, read_canvas
package = load_package(find_package("drive-detect@1.0"))
Session(package).run(read_canvas(package, package.manifest.golden.canvases[0]))
"""
BARE = """
import onnxruntime
onnxruntime.InferenceSession(%r, providers=["CPUExecutionProvider"])
"""


def left_behind_by(program: str, folder: Path) -> list[str]:
    """Files that a process leaves below its home and its temporary folder. What a build machine sets (CI and the like)
    silences the runtime by itself, so none of it is passed on."""
    for name in ("home", "tmp"):
        (folder / name).mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True, timeout=60)
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_running_a_model_leaves_no_identifier_and_no_queue_of_events(tmp_path: Path) -> None:
    assert left_behind_by(RUN_A_MODEL, tmp_path) == []


def test_its_releases_are_told_under_either_name() -> None:
    """A wheel knows one of the two, so that none shows whether the other is there."""
    program = (
        "import os, inference.runtime; print(os.environ['ORT_DISABLE_TELEMETRY'], os.environ['ORT_TELEMETRY_DISABLED'])"
    )
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE
    )
    assert done.stdout == b"1 1\n"


def test_without_our_word_it_would_report(tmp_path: Path) -> None:
    """The oracle of the test above: once this finds nothing any more, inference/runtime.py may be needed no more."""
    model = find_package("drive-detect@1.0") / "u8s7.onnx"
    left = left_behind_by(BARE % str(model), tmp_path)
    if not left:
        pytest.skip("this build of the runtime keeps no identifier")
    assert "deviceid" in left


def test_only_one_module_imports_it() -> None:
    importers = subprocess.run(
        ["grep", "-rlE", r"^\s*(import|from) onnxruntime", "--include=*.py",
         *("agent", "ecu", "inference", "ota", "receiver", "simulator", "telemetry", "outrider.py")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert sorted(importers.stdout.split()) == ["inference/build/quantizer.py", "inference/runtime.py"]
