"""What the pages about updates say is what the code does."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from ecu.clock import SECOND_NS
from ota.errors import Attack
from ota.kinds import Kind
from ota.layout import SIGNED_AT_FIELD, VEHICLE_FIELD, published
from ota.machine import ATTEMPTS, DEADLINES_NS, Way, diagram
from ota.manifest import (
    BLOCK_BYTES,
    BundleManifest,
    FileEntry,
    bundle_digest,
    decode_manifest,
    encode_manifest,
    file_entry,
)
from ota.repository.keys import ALL_KEYS
from tests.ota.changed import Changed
from tests.ota.fleet import CAR, Fleet

TESTS = Path(__file__).parents[1]
DOCS = TESTS.parent / "docs"
BUNDLE: dict[str, Any] = json.loads((TESTS / "vectors/ota/bundle.json").read_text())


def page(name: str) -> str:
    return (DOCS / name).read_text()


def test_the_golden_bundle_has_its_manifest_and_digest() -> None:
    contents = {"a.onnx": [bytes(BLOCK_BYTES), b"end"], "b.json": [b"{}"], "c.txt": []}
    files = tuple(file_entry(name, iter(blocks)) for name, blocks in contents.items())
    manifest = BundleManifest(kind=Kind.MODEL, name="drive", version="1.0", release=1, hardware=("any",), files=files)
    data: str = BUNDLE["manifest"]
    assert encode_manifest(manifest).decode() == data
    assert decode_manifest(data.encode()) == manifest
    assert bundle_digest(data.encode()) == hashlib.sha256(data.encode()).hexdigest() == BUNDLE["digest"]
    assert BUNDLE["digest"] in page("formats/bundle.md")


def test_the_page_of_the_manifest_has_every_key_and_kind() -> None:
    text = page("formats/bundle.md")
    names = [field.alias or name for name, field in BundleManifest.model_fields.items()]
    assert all(f"| `{name}` |" in text for name in (*names, *FileEntry.model_fields))
    assert all(f"`{kind}`" in text for kind in Kind)


def test_the_table_of_a_trial_is_the_machines() -> None:
    assert all(diagram(way) in page("updates.md") for way in Way)


def test_the_page_says_how_often_and_how_long_a_release_is_tried() -> None:
    text = " ".join(page("updates.md").split())
    assert (f"A trial may begin {['never', 'once', 'twice', 'three times'][ATTEMPTS]}.") in text
    for way, limits in DEADLINES_NS.items():
        row = ", ".join(f"{state} {limit // (60 * SECOND_NS)} min" for state, limit in limits.items())
        assert not limits or f"| {way} | {row} |" in text


def test_every_attack_that_is_refused_is_explained() -> None:
    assert all(f"`{attack}`" in page("updates.md") for attack in Attack)


def test_every_key_has_its_holder() -> None:
    text = page("updates.md")
    for name in ALL_KEYS:
        assert f"`{name}`" in text or f"`{re.sub('-[123]$', '-1..3', name)}`" in text


def test_the_page_of_the_repository_names_our_fields_and_all_that_a_vehicle_asks_for(
    fleet: Fleet, tmp_path: Path
) -> None:
    text = page("formats/repository.md")
    assert VEHICLE_FIELD in text
    assert SIGNED_AT_FIELD in text
    fleet.assign(fleet.release("1.0", 1))
    source = Changed(fleet.source())
    fleet.trust(tmp_path / "state").refresh(source)
    for path in {path for path, _, _ in source.asked}:
        form = re.sub(r"/\d+\.", "/<n>.", path)
        role = re.sub(r"image/<n>\.[a-z]+\.", "image/<n>.<role>.", form)
        assert f"`{form}`" in text or f"`{role}`" in text, path
        assert published(path, CAR) is not None
