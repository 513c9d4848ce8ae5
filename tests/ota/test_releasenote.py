"""What a release says of itself reaches the one who signs it: against its parent, with intervals, with its materials.

Mutants that these tests were seen to catch: the parent taken for the highest release below; metrics compared over
another set; an interval that touches taken for a difference.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.errors import OutriderError
from ota.facts import Lineage, Metric, Sbom
from ota.kinds import Kind
from ota.manifest import BundleManifest, FileEntry, bundle_digest, encode_manifest, file_entry
from ota.repository.billing import ModelFile, bill_of, demand_bill
from ota.repository.given import KEYS, in_order
from ota.repository.releasenote import Fate, Release, ReleaseNote, Than, compared, file_changes, note_of
from outrider import run
from tests.ota.fleet import Fleet

SET, OTHER = "a" * 64, "b" * 64
PACKAGE = Path(__file__).parents[2] / "inference/models/drive-detect-1.0"


def metric(value: float, low: float, high: float, evaluation: str = SET, better: Any = "higher") -> Metric:
    return Metric(name="recall", value=value, low=low, high=high, n=100, evaluation=evaluation, better=better)


def entry(path: str, *blocks: bytes) -> FileEntry:
    return file_entry(path, iter(blocks))


def release(number: int, name: str = "drive", parent: str | None = None, metrics: Sequence[Metric] = ()) -> Release:
    manifest = BundleManifest(
        kind=Kind.MODEL, name=name, version=f"{number}.0", release=number, hardware=("any",),
        files=(entry("a", b"%d" % number),), lineage=Lineage(parent=parent), metrics=tuple(metrics),
    )  # fmt: skip
    return Release(manifest.target, manifest, bundle_digest(encode_manifest(manifest)), ("k",))


# --- pure -------------------------------------------------------------------------------------------


def test_a_release_is_compared_with_its_parent_and_else_with_the_one_before_it_of_its_name() -> None:
    first, second, other = release(1), release(2), release(3, name="night")
    child = release(4, parent=first.digest)
    assert note_of(child, (first, second, other), ()).before == first
    assert note_of(child, (first, second, other), ()).is_parent
    assert note_of(release(4), (first, second, other), ()).before == second
    assert note_of(release(4, parent=OTHER), (first, other), ()).before == first
    assert note_of(release(1), (second, other), ()).before is None


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_numbers_differ_only_where_their_intervals_dont_meet(now: list[float], was: list[float]) -> None:
    (low, value, high), (old_low, old, old_high) = sorted(now), sorted(was)
    up, down = (
        compared(metric(value, low, high, better=way), metric(old, old_low, old_high, better=way))
        for way in ("higher", "lower")
    )
    if low > old_high:
        assert (up, down) == (Than.BETTER, Than.WORSE)
    elif high < old_low:
        assert (up, down) == (Than.WORSE, Than.BETTER)
    else:
        assert up is down is Than.LEVEL
    assert compared(metric(value, low, high), metric(old, old_low, old_high, OTHER)) is Than.OTHER_SET
    assert compared(metric(value, low, high), None) is Than.NEW


def test_files_are_new_gone_changed_or_the_same_and_their_kept_blocks_are_counted() -> None:
    mib = bytes(1 << 20)
    before = [entry("a", mib, b"x"), entry("b", b"b"), entry("c", b"c")]
    after = [entry("a", mib, b"y"), entry("c", b"c"), entry("d", b"d")]
    assert [(its.path, its.fate, its.kept) for its in file_changes(before, after)] == [
        ("a", Fate.CHANGED, 1), ("b", Fate.GONE, 0), ("c", Fate.SAME, 1), ("d", Fate.NEW, 0),
    ]  # fmt: skip


def test_what_has_to_rise_is_put_in_order_and_the_rest_stays() -> None:
    given_facts = {"rxswin": ["b", "a"], "lineage": {"datasets": ["2", "1"], "training_run": "x"}, "notes": "n"}
    assert in_order(given_facts) == {
        "rxswin": ["a", "b"], "lineage": {"datasets": ["1", "2"], "training_run": "x"}, "notes": "n",
    }  # fmt: skip
    assert in_order({"metrics": "x", "requires": [1], "budgets": {"frames": [{}]}})["requires"] == [1]


# --- bills of materials -------------------------------------------------------------------------------


def test_a_models_bill_is_an_ml_bom_and_says_nothing_of_chance() -> None:
    model = json.loads((PACKAGE / "model.json").read_text())
    its = release(2, parent=SET, metrics=[metric(0.5, 0.4, 0.6)]).manifest
    said = ModelFile("drive", "2.0", task=model["task"])
    bill = json.loads(bill_of(its, said))
    assert bill_of(its, said) == bill_of(its, said)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    subject = bill["metadata"]["component"]
    assert subject["type"] == "machine-learning-model"
    assert subject["modelCard"]["modelParameters"]["task"] == "detect"
    measured = subject["modelCard"]["quantitativeAnalysis"]["performanceMetrics"][0]
    assert measured["confidenceInterval"] == {"lowerBound": "0.4", "upperBound": "0.6"}
    assert subject["pedigree"]["ancestors"][0]["hashes"] == [{"alg": "SHA-256", "content": SET}]
    assert "timestamp" not in bill["metadata"]
    demand_bill(bill_of(its, said))


def test_a_runtimes_bill_names_its_wheels_as_packages() -> None:
    files = (entry("msgspec-0.18.6-cp311-cp311-linux_x86_64.whl", b"w"), entry("outrider.tar", b"t"))
    manifest = BundleManifest(
        kind=Kind.RUNTIME, name="outrider", version="1.0", release=1, hardware=("any",), files=files
    )
    wheel, tree = json.loads(bill_of(manifest))["components"]
    assert (wheel["type"], wheel["purl"]) == ("library", "pkg:pypi/msgspec@0.18.6")
    assert wheel["hashes"] == [{"alg": "SHA-256", "content": files[0].sha256}]
    assert (tree["type"], tree["name"]) == ("file", "outrider.tar")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"bomFormat": "SPDX"}', b"\xff", b"[" * 100_000])
def test_what_is_no_bill_is_not_taken_for_one(data: bytes) -> None:
    with pytest.raises(OutriderError):
        demand_bill(data)


# --- the desk ---------------------------------------------------------------------------------------


FACTS = f"""
notes = "Sees [bold]more[/] at dusk."
rxswin = ["R79 2.1", "R157 1.0"]
[runtime]
onnxruntime = ">=1.20,<2"
[[metrics]]
name = "recall"
value = 1
low = 0.5
high = 1
n = 10
evaluation = "{SET}"
"""


def told(capsys: pytest.CaptureFixture[str], *words: str | Path) -> Any:
    capsys.readouterr()
    assert run(["ota", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def published(fleet: Fleet, capsys: pytest.CaptureFixture[str], number: int, *more: str | Path) -> str:
    folder = fleet.folder / f"in-{number}"
    folder.mkdir()
    (folder / "a.bin").write_bytes(b"%d" % number * 50)
    add = ["--kind", "model", "--name", "drive", "--version", f"{number}.0", "--release", str(number)]
    target: str = told(capsys, "add", folder, "--repo", fleet.repo, *add, *more)["target"]
    fleet.images.sign(Kind.MODEL, [fleet.keys.signer("model")])
    fleet.publish()
    return target


def test_inspect_says_what_is_new_in_words_and_in_json(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "facts.toml").write_text(FACTS)
    first = published(fleet, capsys, 1)
    second = published(fleet, capsys, 2, "--facts", tmp_path / "facts.toml", "--parent", first)
    fleet.director.assign("car-1", [fleet.images.target(second)], fleet.keys)
    news = told(capsys, "inspect", second, "--repo", fleet.repo)
    assert news["before"]["target"] == first
    assert news["before"]["is_parent"]
    assert news["rxswin"] == ["R157 1.0", "R79 2.1"]
    assert news["metric_changes"][0]["than"] == "not measured before"
    assert [its["fate"] for its in news["file_changes"]] == ["changed"]
    assert news["vehicles"] == ["car-1"]
    bill = fleet.repo / "image/files" / news["sbom"]["sha256"]
    assert json.loads(bill.read_text())["metadata"]["component"]["name"] == "drive"
    for columns in ("80", "120"):
        monkeypatch.setenv("COLUMNS", columns)
        capsys.readouterr()
        assert run(["ota", "inspect", second, "--repo", str(fleet.repo)]) == 0
        text = capsys.readouterr().out
        assert all(len(line) <= int(columns) for line in text.splitlines())
        for words in ("[bold]more[/]", "its parent", "car-1", "RXSWIN R157 1.0", "ONNX Runtime >=1.20,<2", "1 (0.5-1)"):
            assert words in text, words


def test_a_bill_that_is_brought_is_kept_as_it_is(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bill.json").write_bytes(bill_of(release(1).manifest))
    target = published(fleet, capsys, 1, "--sbom", tmp_path / "bill.json")
    its = fleet.images.manifest(target).sbom
    assert isinstance(its, Sbom)
    assert (fleet.repo / "image/files" / its.sha256).read_bytes() == (tmp_path / "bill.json").read_bytes()
    (fleet.repo / "image/files" / its.sha256).unlink()
    with pytest.raises(OutriderError, match="lacks the bill of materials"):
        fleet.images.add_manifest(encode_manifest(fleet.images.manifest(target)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("notse = 'x'", "Did you mean notes"), ("files = []", "isn't known"), ("x", "no TOML"),
        ("release = 3", "isn't known"), ("notes = ''", "notes"), ("minimum_bootable = 9", "nothing may boot"),
        ("notes = 2026-01-01", "can't be in a manifest"), ("rxswin = ['a', 'a']", "rising"),
        ("[runtime]\npython = '~=3'", "runtime.python"), ("[golden]\nfile = 'x'\ntolerance = 0.1", "golden file x"),
    ],
)  # fmt: skip
def test_facts_that_cant_be_are_refused_by_their_name(fleet: Fleet, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "facts.toml").write_text(text)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a").write_bytes(b"x")
    add = ["--kind", "model", "--name", "drive", "--version", "1.0", "--release", "1", "--facts"]
    with pytest.raises(OutriderError, match=words) as refused:
        run(["ota", "add", str(folder), "--repo", str(fleet.repo), *add, str(tmp_path / "facts.toml")])
    assert str(refused.value).isprintable()
    assert not (fleet.repo / "drafts").exists()


def test_every_fact_of_a_manifest_can_be_given() -> None:
    assert set(KEYS) == set(BundleManifest.model_fields) - {
        "schema_", "kind", "name", "version", "release", "hardware", "files", "sbom"
    }  # fmt: skip


def test_a_first_releases_note_has_nothing_to_compare_with() -> None:
    note: ReleaseNote = note_of(release(1), (), ["b", "a"])
    assert note.vehicles == ("a", "b")
    assert [its.fate for its in note.files] == [Fate.NEW]
