"""Laws of the model package: it is exactly what its manifest says, or it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.build.card import CARD_FILE, card_text
from inference.errors import PackageNotFound, PackageRefused
from inference.manifest import MANIFEST_FILE, DetectManifest
from inference.package import (
    MODELS_FOLDER,
    find_package,
    list_packages,
    load_package,
    package_digest,
    version_key,
)
from tests.inference.tiny import CANVASES, Manifest, put, write_package

SHIPPED = {
    "drive-detect@1.0": "cbe394418653280b29d8f95a4f8eb16531bfaff63234527a7c5e402bda5a1748",
    "drive-detect@2.0": "5d115a51d24c9e9e3b69be94493b7e557bcbd3bd340de04c00e31f728e90f962",
    "face-blur@1.0": "2e3c4ef9050419ec88d9e3144d2a6fc172a770ba92b1f585abf4632fe8735b5d",
    "light-state@1.0": "a66c0c68d2ced54989a9e3c80637472c6e917afd7808b6ed5f98d1b02cbeafaf",
}
"""Golden vectors of the digest: a change here is a new package and needs a new version."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_package(tmp_path / "tiny-1.0")


def refusal(folder: Path) -> str:
    with pytest.raises(PackageRefused) as refused:
        load_package(folder)
    return str(refused.value)


@pytest.mark.parametrize("title", SHIPPED)
def test_the_shipped_packages_are_whole_and_known_by_their_digest(title: str) -> None:
    package = load_package(find_package(title))
    assert package.title == title
    assert package.digest == SHIPPED[title]


@pytest.mark.parametrize("title", ["drive-detect@1.0", "drive-detect@2.0"])
def test_a_shipped_card_says_what_its_manifest_says(title: str) -> None:
    package = load_package(find_package(title))
    assert package.read(package.manifest.card).decode() == card_text(package.manifest_of(DetectManifest))


def test_the_shipped_models_and_the_drive_stay_small() -> None:
    drives = MODELS_FOLDER.parents[1] / "simulator" / "drives"
    assert sum(path.stat().st_size for folder in (MODELS_FOLDER, drives) for path in folder.rglob("*")) <= 24_000_000


def test_a_whole_package_loads(folder: Path) -> None:
    package = load_package(folder)
    assert package.title == "tiny@1.0"
    assert package.manifest.input_hw == (64, 64)


def test_what_is_read_is_what_was_hashed(folder: Path) -> None:
    package = load_package(folder)
    card = folder / CARD_FILE
    card.write_bytes(b"# tinY\n")
    with pytest.raises(PackageRefused, match="SHA-256 differs"):
        package.read(package.manifest.card)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (put("colour", value="red"), "colour"),
        (put("input", "colour", value="rgb8"), "input.colour"),
        (put("input", "height", value=65), "input.height"),
        (put("input", "height", value="64"), "input.height"),
        (put("schema", value=2), "schema"),
        (put("version", value="1"), "version"),
        (put("name", value="../tiny"), "name"),
        (put("variants", 0, "file", value="../plain.onnx"), "variants.0.file"),
        (put("variants", 0, "file", value="/etc/passwd"), "variants.0.file"),
        (put("variants", 0, "file", value=".hidden"), "variants.0.file"),
        (put("variants", 0, "sha256", value="00"), "variants.0.sha256"),
        (put("variants", 0, "bytes", value=1 << 40), "variants.0.bytes"),
        (put("variants", value=[]), "variants"),
        (put("runtime", "spinning", value=True), "runtime.spinning"),
        (put("thresholds", "score", value=1.5), "thresholds.score"),
        (put("licence", "holder", value="\x1b[2J"), "licence.holder"),
        (put("card", "file", value="golden-0.png"), "a file is named twice"),
        (put("classes", value=["car", "car"]), "a class is named twice"),
        (put("variants", 0, "golden", value=[]), "golden canvas"),
        (put("variants", 0, "golden", value=[[]] * len(CANVASES)), "expects nothing of any golden canvas"),
        (put("golden", "canvases", value=[]), "golden.canvases"),
        (put("golden", "score_tolerance", value=0.11), "golden.score_tolerance"),
        (put("golden", "iou_at_least", value=0.49), "golden.iou_at_least"),
        (put("golden", "score_from", value=0.91), "golden.score_from"),
        (put("classes", value=["van", "truck"]), "can't tell"),
        (put("budget", "frame_p50_ms", value=float("nan")), "budget.frame_p50_ms"),
        (put("variants", 0, "golden", 0, 0, "box", value=[0, 0, float("inf"), 1]), "box"),
    ],
)
def test_a_manifest_that_says_anything_else_is_refused_by_key(
    tmp_path: Path, change: Callable[[Manifest], None], key: str
) -> None:
    assert key in refusal(write_package(tmp_path / "tiny", change=change))


def test_a_package_that_says_it_is_too_large_is_refused_before_its_files_are_read(tmp_path: Path) -> None:
    def grow(manifest: Manifest) -> None:
        canvases = manifest["golden"]["canvases"]
        canvases += [canvases[0] | {"file": f"more-{n}.png", "bytes": 64 << 20} for n in range(4)]
        for variant in manifest["variants"]:
            variant["golden"] += [[]] * 4

    assert f"its files are more than {256 << 20} bytes" in refusal(write_package(tmp_path / "tiny", change=grow))


def test_a_refusal_names_the_key_as_it_is_written(tmp_path: Path) -> None:
    folder = write_package(tmp_path / "tiny", change=put("input", "colour", value="rgb8"))
    assert f"{MANIFEST_FILE}: input.colour: " in refusal(folder)


@pytest.mark.parametrize("key", ["card", "fidelity", "golden", "lineage", "licence", "reference", "runtime", "schema"])
def test_a_missing_key_is_refused_by_name(tmp_path: Path, key: str) -> None:
    folder = write_package(tmp_path / "tiny", change=lambda manifest: manifest.__delitem__(key))
    assert f"{key}: Field required" in refusal(folder)


def test_a_manifest_may_be_spelled_otherwise_and_keeps_its_digest(folder: Path) -> None:
    before = load_package(folder).digest
    content = json.loads((folder / MANIFEST_FILE).read_text())
    (folder / MANIFEST_FILE).write_text(json.dumps(dict(reversed(content.items())), indent=3))
    assert load_package(folder).digest == before


@pytest.mark.parametrize(
    "change",
    [
        put("thresholds", "score", value=0.41),
        put("classes", value=["car", "lorry"]),
        put("budget", "resident_mb", value=101.0),
        put("version", value="1.1"),
    ],
)
def test_any_word_of_the_manifest_changes_the_digest(
    folder: Path, tmp_path: Path, change: Callable[[Manifest], None]
) -> None:
    other = load_package(write_package(tmp_path / "other", change=change))
    assert other.digest != load_package(folder).digest
    assert other.digest == package_digest(other.manifest)


def test_a_name_finds_the_newest_and_a_version_its_own(tmp_path: Path) -> None:
    for version in ("1.0", "1.10", "1.9"):
        write_package(tmp_path / f"tiny-{version}")
    (tmp_path / "not a package").mkdir()
    (tmp_path / "tiny-x.y").mkdir()
    assert list_packages(tmp_path) == [("tiny", "1.0"), ("tiny", "1.9"), ("tiny", "1.10")]
    assert find_package("tiny", tmp_path) == tmp_path / "tiny-1.10"
    assert find_package("tiny@1.9", tmp_path) == tmp_path / "tiny-1.9"
    assert find_package(str(tmp_path / "tiny-1.0")) == tmp_path / "tiny-1.0"


@pytest.mark.parametrize("wrong", ["tiny@2.0", "tin", "tiny-1.0", "tiny@", ""])
def test_a_wrong_name_is_answered_with_what_there_is(tmp_path: Path, wrong: str) -> None:
    write_package(tmp_path / "tiny-1.0")
    with pytest.raises(PackageNotFound, match=r"Known: tiny@1\.0") as not_found:
        find_package(wrong, tmp_path)
    assert not_found.value.exit_code == 2


def test_a_folder_that_holds_no_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackageNotFound, match="is no model package"):
        find_package(f"{tmp_path}/nothing")


def test_versions_are_ordered_by_number() -> None:
    assert sorted(["1.10", "1.2.3", "1.9"], key=version_key) == ["1.2.3", "1.9", "1.10"]
