"""Bad input gets one paragraph that says what happened and what to do, the right exit code, and loses nothing."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, helper

from inference.package import find_package
from simulator.demo.demo import DRIVE
from tests.drives import excerpt, write_drive
from tests.inference.tiny import graph, write_package
from tests.verbs import code_of

MODEL = "drive-detect@1.0"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command came to. `stderr` and `stdout` hold what its children wrote, too."""

    returncode: int
    stdout: str
    stderr: str


Outrider = Callable[..., Answer]


@pytest.fixture
def outrider(capfd: pytest.CaptureFixture[str]) -> Outrider:
    """Answers as `outrider ...` does, without a process for it."""

    def answer(*arguments: str) -> Answer:
        capfd.readouterr()
        code = code_of(*arguments)
        return Answer(code, *capfd.readouterr())

    return answer


def agent_run(*arguments: str) -> Answer:
    """A daemon is a process of its own."""
    command = [sys.executable, "-m", "outrider", "agent", "run", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return Answer(done.returncode, done.stdout, done.stderr)


def is_one_paragraph(answer: Answer) -> bool:
    text = answer.stderr.strip()
    return bool(text) and "Traceback" not in text and "\n\n" not in text and "digest" not in answer.stdout


def missing(folder: Path) -> Path:
    return folder / "nowhere.mp4"


def noise(folder: Path) -> Path:
    path = folder / "noise.mp4"
    path.write_bytes(np.random.default_rng(0).bytes(50_000))
    return path


def empty(folder: Path) -> Path:
    path = folder / "empty.mp4"
    path.touch()
    return path


def a_folder(folder: Path) -> Path:
    return folder


def truncated(folder: Path) -> Path:
    """Its index comes first, so that only playing it shows that the end is missing."""
    path = folder / "truncated.mp4"
    path.write_bytes(DRIVE.read_bytes()[:400_000])
    return path


def without_frames(folder: Path) -> Path:
    path = excerpt(folder, 1)
    data = bytearray(path.read_bytes())
    at = data.index(b"movi")
    data[at + 4 :] = bytes(len(data) - at - 4)
    path.write_bytes(data)
    return path


def a_playlist(folder: Path) -> Path:
    path = folder / "playlist.mp4"
    path.write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{DRIVE}\n#EXT-X-ENDLIST\n")
    return path


def too_slow(folder: Path) -> Path:
    return write_drive(folder / "slow.avi", [np.zeros((48, 64, 3), np.uint8)] * 3, rate=0.5)


@pytest.mark.parametrize(
    "make",
    [missing, noise, empty, a_folder, truncated, without_frames, a_playlist, too_slow],
    ids=lambda make: make.__name__,
)
def test_a_drive_that_cannot_be_one_is_refused_by_name(
    tmp_path: Path, make: Callable[[Path], Path], outrider: Outrider
) -> None:
    path = make(tmp_path)
    answer = outrider("replay", str(path), "--model", MODEL)
    assert answer.returncode == 2, answer.stderr
    assert is_one_paragraph(answer), answer.stderr
    assert path.name in answer.stderr


def test_a_file_name_cannot_write_on_the_terminal(tmp_path: Path, outrider: Outrider) -> None:
    answer = outrider("replay", str(tmp_path / "a\x1b[31m\nred.mp4"), "--model", MODEL)
    assert answer.returncode == 2
    assert "\x1b" not in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1


def test_a_rotated_drive_is_seen_upright(tmp_path: Path, outrider: Outrider) -> None:
    """The display matrix in `tkhd` (ISO/IEC 14496-12, 8.3.2) turned by a quarter: 540 wide and 960 high."""
    data = bytearray(DRIVE.read_bytes())
    box = data.index(b"tkhd")
    quarter = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    data[box + 44 : box + 44 + 36] = quarter
    path = tmp_path / "turned.mp4"
    path.write_bytes(data)
    out = tmp_path / "turned.mcap"
    answer = outrider("replay", str(path), "--model", MODEL, "--until", "1", "--out", str(out))
    assert answer.returncode == 0, answer.stderr
    assert "25 captured, 25 processed" in answer.stdout


@pytest.mark.parametrize("damage", ["bytes", "manifest"])
def test_a_package_that_is_not_what_it_says_is_refused(tmp_path: Path, damage: str, outrider: Outrider) -> None:
    folder = tmp_path / "package"
    shutil.copytree(find_package(MODEL), folder)
    if damage == "bytes":
        for model in folder.glob("*.onnx"):
            model.write_bytes(model.read_bytes()[:-1] + b"\0")
    else:
        manifest = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps({**manifest, "backdoor": True}))
    answer = outrider("replay", str(DRIVE), "--model", str(folder), "--until", "1")
    assert answer.returncode == 1, answer.stderr
    assert is_one_paragraph(answer), answer.stderr


def test_a_model_nobody_has_is_refused_with_what_there_is(outrider: Outrider) -> None:
    answer = outrider("replay", str(DRIVE), "--model", "drive-detect@9.9")
    assert answer.returncode == 2
    assert "2.0" in answer.stderr


def test_a_wrong_configuration_key_names_file_line_and_the_right_one(tmp_path: Path, outrider: Outrider) -> None:
    (tmp_path / "outrider.toml").write_text("[camera]\nsorce = 'video:x'\n")
    config = "--config", str(tmp_path / "outrider.toml")
    for answer in (agent_run("--state", str(tmp_path / "s"), *config), outrider("replay", str(DRIVE), *config)):
        assert answer.returncode == 2
        assert is_one_paragraph(answer)
        assert all(word in answer.stderr for word in ("outrider.toml", "2", "sorce", "source"))


def test_a_state_that_is_no_folder_is_the_environments_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = agent_run("--state", str(tmp_path / "file"))
    assert answer.returncode == 3
    assert is_one_paragraph(answer)


def test_nobody_running_is_said_with_the_command_that_starts_it(tmp_path: Path, outrider: Outrider) -> None:
    for verb in ("status", "doctor"):
        answer = outrider("agent", verb, "--state", str(tmp_path))
        assert answer.returncode == 3
        assert "outrider agent run" in answer.stderr


def test_an_unknown_verb_is_answered_with_the_nearest_one(outrider: Outrider) -> None:
    answer = outrider("repaly")
    assert answer.returncode == 2
    assert "'replay'" in answer.stderr


def test_an_output_that_cannot_be_written_is_said_before_the_drive(tmp_path: Path, outrider: Outrider) -> None:
    answer = outrider("replay", str(DRIVE), "--model", MODEL, "--out", str(tmp_path / "no" / "folder" / "x.mcap"))
    assert answer.returncode == 2
    assert is_one_paragraph(answer)


def test_a_hostile_graph_is_refused_by_the_command_too(tmp_path: Path, outrider: Outrider) -> None:
    package = write_package(
        tmp_path / "tiny-1.0", models={"custom": graph(with_a_custom_operator)}, meant={"custom": graph()}
    )
    for verb in (["model", "verify", str(package)], ["replay", str(excerpt(tmp_path, 3)), "--model", str(package)]):
        answer = outrider(*verb)
        assert answer.returncode == 1, answer.stderr
        assert "Traceback" not in answer.stderr + answer.stdout
        assert "operator" in answer.stderr + answer.stdout


def with_a_custom_operator(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("stranger", 1))
    model.graph.node[0].domain = "stranger"


def test_a_state_that_cant_be_written_ends_the_agent_in_words(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "drive.ledger").mkdir()  # root may write everything, but not a file where a folder is
    answer = agent_run("--state", str(tmp_path / "state"))
    assert answer.returncode == 3
    assert is_one_paragraph(answer)
    assert "drive.ledger" in answer.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_ends_the_agent_in_words_and_with_what_to_do(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)], check=False).returncode:
        pytest.skip("this machine mounts no tmpfs")
    try:
        (small / "filler").write_bytes(bytes(8192))
        answer = agent_run("--state", str(small / "state"))
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert answer.returncode == 3
    assert is_one_paragraph(answer), answer.stderr
    assert "disk is full" in answer.stderr
