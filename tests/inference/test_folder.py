"""Laws of a flat folder, whatever is in it: exactly what its manifest names, or it is refused, and nobody waits."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import EvaluationRefused, InferenceError, PackageRefused
from inference.evaluation import EVALUATION_FILE, load_evaluation
from inference.manifest import MANIFEST_FILE
from inference.package import load_package
from tests.inference.labelled import write_evaluation
from tests.inference.tiny import write_package


@dataclass(frozen=True)
class Sort:
    """One sort of folder: how it is made and loaded, its manifest, and some file beside it."""

    write: Callable[[Path], Path]
    load: Callable[[Path], Any]
    refused: type[InferenceError]
    manifest: str
    file: str

    def refusal(self, folder: Path) -> str:
        with pytest.raises(self.refused) as refused:
            self.load(folder)
        return str(refused.value)


SORTS = {
    "package": Sort(write_package, load_package, PackageRefused, MANIFEST_FILE, "CARD.md"),
    "evaluation": Sort(write_evaluation, load_evaluation, EvaluationRefused, EVALUATION_FILE, "003.jpg"),
}


@pytest.fixture(params=SORTS)
def sort(request: pytest.FixtureRequest) -> Sort:
    return SORTS[request.param]


@pytest.fixture
def folder(sort: Sort, tmp_path: Path) -> Path:
    return sort.write(tmp_path / "folder")


@pytest.mark.parametrize("name", SORTS)
@given(st.data())
@settings(max_examples=40)
def test_one_changed_bit_in_any_file_is_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    sort = SORTS[name]
    folder = sort.write(tmp_path_factory.mktemp("folder"))
    file = data.draw(st.sampled_from(sorted(set(os.listdir(folder)) - {sort.manifest})))
    content = bytearray((folder / file).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / file).write_bytes(content)
    assert file in sort.refusal(folder)


def test_a_file_that_nobody_named_is_refused(sort: Sort, folder: Path) -> None:
    (folder / "extra.py").write_text("")
    assert "extra.py isn't named" in sort.refusal(folder)


def test_a_missing_file_is_refused(sort: Sort, folder: Path) -> None:
    (folder / sort.file).unlink()
    assert sort.file in sort.refusal(folder)


def test_a_longer_file_is_refused_without_reading_it_all(sort: Sort, folder: Path) -> None:
    with (folder / sort.file).open("r+b") as file:
        file.truncate(1 << 33)
    assert "the most it may have" in sort.refusal(folder)


def test_a_shorter_file_is_refused(sort: Sort, folder: Path) -> None:
    (folder / sort.file).write_bytes(b"#")
    assert "1 bytes instead of" in sort.refusal(folder)


def test_a_link_is_refused_even_to_the_right_bytes(sort: Sort, folder: Path, tmp_path: Path) -> None:
    (folder / sort.file).rename(tmp_path / sort.file)
    (folder / sort.file).symlink_to(tmp_path / sort.file)
    assert "plain file" in sort.refusal(folder)


def test_a_pipe_is_refused_and_nobody_waits_for_it(sort: Sort, folder: Path) -> None:
    (folder / sort.file).unlink()
    os.mkfifo(folder / sort.file)
    assert "isn't a plain file" in sort.refusal(folder)


def test_a_folder_without_a_manifest_is_refused(sort: Sort, tmp_path: Path) -> None:
    assert sort.manifest in sort.refusal(tmp_path)
    assert sort.manifest in sort.refusal(tmp_path / "nowhere")


def test_a_key_that_comes_twice_is_refused_at_any_depth(sort: Sort, folder: Path) -> None:
    manifest = folder / sort.manifest
    text = manifest.read_text()
    manifest.write_text(text.replace("{", '{"version": "9.9", ', 1))
    assert "a key is named twice" in sort.refusal(folder)
    card = json.dumps(json.loads(text)["card"])
    manifest.write_text(text.replace(card, card.replace("{", '{"bytes": 1, ', 1)))
    assert "a key is named twice" in sort.refusal(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000, '{"schema": NaN}', "\udcff"])
def test_a_manifest_that_isnt_one_is_refused(sort: Sort, folder: Path, text: str) -> None:
    (folder / sort.manifest).write_bytes(text.encode(errors="surrogateescape"))
    assert sort.manifest in sort.refusal(folder)
