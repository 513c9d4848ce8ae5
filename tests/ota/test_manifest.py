"""A manifest has one form, and one digest: whatever is changed in it is refused or is another release.

Mutants of ota/manifest.py that these tests were seen to catch: `decode_manifest` without its comparison with the
canonical form; `extra="ignore"`; `strict=False`; `>=` made `>` in the order of names; `block_count` rounded down; a
version's digits as `\\d`; the error's key not escaped.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ota.errors import Attack, TrustError
from ota.facts import Budgets, FrameBudget, Golden, Lineage, Metric, Peer, Quantization, Runtime, Sbom
from ota.kinds import Kind
from ota.manifest import (
    BLOCK_BYTES,
    MAX_BUNDLE_BYTES,
    MAX_FILES,
    BundleManifest,
    FileEntry,
    block_count,
    bundle_digest,
    decode_manifest,
    encode_manifest,
    file_entry,
)

hashes = st.binary(min_size=32, max_size=32).map(bytes.hex)
numbers = st.integers(0, 999_999).map(str)
file_names = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,20}", fullmatch=True)


@st.composite
def entries(draw: st.DrawFn, path: str) -> FileEntry:
    size = draw(st.integers(0, 4 * BLOCK_BYTES))
    blocks = draw(st.lists(hashes, min_size=block_count(size), max_size=block_count(size)))
    return FileEntry(path=path, size=size, sha256=draw(hashes), blocks=tuple(blocks))


releases = st.integers(1, 1 << 53)
byte_counts = st.integers(1, 1 << 40)
bundle_names = st.sampled_from(["drive", "light-state", "daytime", "r"])
lines = st.text("Aa1 .-:/\u00e4\u4e2d\U0001f697", min_size=1, max_size=12)
lineages = st.builds(
    Lineage,
    parent=st.none() | hashes,
    datasets=st.sets(hashes, max_size=3).map(sorted).map(tuple),
    training_run=st.none() | lines,
    git_commit=st.none() | st.binary(min_size=20, max_size=20).map(bytes.hex),
    federated_round=st.none() | st.integers(0, 1 << 53),
)
quantizations = st.builds(
    Quantization, scheme=lines, per_channel=st.booleans(), calibration=st.none() | hashes, pinned_scales=st.booleans()
)
budgets = st.builds(
    Budgets,
    cpu_relative=st.none() | st.floats(0.01, 100),
    memory_bytes=st.none() | st.integers(1, 1 << 40),
    frames=st.sets(st.sampled_from(["x86_64", "aarch64"])).map(
        lambda names: tuple(FrameBudget(hardware=name, p99_ms=40.5) for name in sorted(names))
    ),
)


@st.composite
def metrics(draw: st.DrawFn, name: str) -> Metric:
    low, value, high = sorted(draw(st.tuples(*[st.floats(-1e9, 1e9)] * 3)))
    better: Literal["higher", "lower"] = draw(st.sampled_from(["higher", "lower"]))
    n = draw(st.integers(1, 1 << 53))
    return Metric(name=name, value=value, low=low, high=high, n=n, evaluation=draw(hashes), better=better)


@st.composite
def peers(draw: st.DrawFn) -> tuple[Peer, ...]:
    chosen = draw(st.sets(st.tuples(st.sampled_from(list(Kind)), bundle_names), max_size=2))
    ends = [sorted(draw(st.tuples(releases, releases))) for _ in chosen]
    return tuple(
        Peer(kind=kind, name=name, least=draw(st.sampled_from([None, least])), most=draw(st.sampled_from([None, most])))
        for (kind, name), (least, most) in zip(sorted(chosen, key=lambda it: f"{it[0]} {it[1]}"), ends, strict=True)
    )


@st.composite
def runtimes(draw: st.DrawFn, kind: Kind) -> Runtime:
    ranges = st.sampled_from([None, ">=1.20,<2", "==3.11", ">0.0.1"])
    python, onnxruntime, outrider = draw(st.tuples(ranges, ranges, ranges))
    its_own = kind is Kind.RUNTIME and draw(st.booleans())
    return Runtime(
        python=python,
        onnxruntime=onnxruntime,
        outrider=outrider,
        abi="cp311-linux_x86_64" if its_own else None,
        dependencies=draw(hashes) if its_own else None,
        brings_dependencies=its_own and draw(st.booleans()),
    )


@st.composite
def manifests(draw: st.DrawFn) -> BundleManifest:
    names = sorted(draw(st.sets(file_names, min_size=1, max_size=4)))
    kind, release = draw(st.sampled_from(list(Kind))), draw(releases)
    if not draw(st.booleans()):
        return _small(draw, kind, release, names)
    measured = sorted(draw(st.sets(st.sampled_from(["recall", "mAP@50", "latency ms"]))))
    return _small(
        draw,
        kind,
        release,
        names,
        lineage=draw(lineages),
        quantization=draw(st.none() | quantizations),
        metrics=tuple(draw(metrics(name)) for name in measured),
        golden=draw(st.none() | st.builds(Golden, file=st.sampled_from(names), tolerance=st.floats(0, 10))),
        runtime=draw(runtimes(kind)),
        budgets=draw(budgets),
        requires=draw(peers()),
        conflicts=draw(peers()),
        sbom=draw(
            st.none() | st.builds(Sbom, name=st.just("bill-of-materials.cdx.json"), sha256=hashes, size=byte_counts)
        ),
        rxswin=tuple(sorted(draw(st.sets(st.sampled_from(["R157 a", "R79-2", "X"]))))),
        minimum_bootable=draw(st.none() | st.integers(1, release)),
        notes=draw(st.none() | lines),
    )


def _small(draw: st.DrawFn, kind: Kind, release: int, names: list[str], **facts: Any) -> BundleManifest:
    return BundleManifest(
        kind=kind,
        name=draw(st.from_regex(r"[a-z][a-z0-9-]{0,47}", fullmatch=True)),
        version=".".join(draw(st.lists(numbers, min_size=2, max_size=3))),
        release=release,
        hardware=tuple(draw(st.lists(st.sampled_from(["any", "x86_64", "aarch64"]), min_size=1, max_size=3))),
        files=tuple(draw(entries(name)) for name in names),
        **facts,
    )


REQUIRED = {"schema", "kind", "name", "version", "release", "hardware", "files"}

SMALL = BundleManifest(
    kind=Kind.MODEL,
    name="drive",
    version="1.0",
    release=1,
    hardware=("any",),
    files=(file_entry("a.onnx", iter([bytes(BLOCK_BYTES), b"end"])), file_entry("b.json", iter([b"{}"]))),
)


def written(content: object) -> bytes:
    """In the canonical form, whatever it is."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def content_of(manifest: BundleManifest) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(encode_manifest(manifest))
    return content


def refusal(data: bytes) -> str:
    with pytest.raises(TrustError) as refused:
        decode_manifest(data)
    assert refused.value.attack is Attack.MALFORMED
    return str(refused.value)


# --- one form ---------------------------------------------------------------------------------------


@given(manifests())
def test_what_was_encoded_is_decoded_and_encoded_the_same(manifest: BundleManifest) -> None:
    data = encode_manifest(manifest)
    assert decode_manifest(data) == manifest
    assert encode_manifest(decode_manifest(data)) == data
    assert bundle_digest(data) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda data: data + b"\n",
        lambda data: data.replace(b":", b": ", 1),
        lambda data: b'{"schema":1,' + data[1:],
        lambda data: data.replace(b'"drive"', b'"\\u0064rive"'),
        lambda data: json.dumps(dict(reversed(json.loads(data).items())), separators=(",", ":")).encode(),
        lambda data: data.replace(b'"release":1,', b'"release":1.0,'),
        lambda data: data.replace(b'"schema":1', b'"schema":true'),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.decode().encode("utf-16"),
        lambda data: data[:-1],
    ],
)
def test_the_same_release_in_another_form_is_refused(rewrite: Callable[[bytes], bytes]) -> None:
    data = encode_manifest(SMALL)
    assert rewrite(data) != data
    refusal(rewrite(data))


def places(content: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every value in it, by its way from the top."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [*([at] if at else []), *(place for key, value in inner for place in places(value, (*at, key)))]


junk = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 1 << 70), st.floats(allow_nan=False), st.text(max_size=5), hashes,
    st.just([]), st.just({}), st.lists(hashes, max_size=3), st.sampled_from(["campaign", "any", "1.1", "drive2"]),
)  # fmt: skip


@given(manifests(), junk, st.data())
def test_any_changed_field_is_refused_or_is_another_release(
    manifest: BundleManifest, value: object, data: st.DataObject
) -> None:
    content = content_of(manifest)
    *way, last = data.draw(st.sampled_from(places(content)))
    within: Any = content
    for step in way:
        within = within[step]
    within[last] = value
    changed = written(content)
    try:
        other = decode_manifest(changed)
    except TrustError:
        refusal(changed)
    else:
        assert (other == manifest) == (bundle_digest(changed) == bundle_digest(encode_manifest(manifest)))


@given(manifests(), st.data())
def test_a_field_that_is_missing_or_unknown_is_refused(manifest: BundleManifest, data: st.DataObject) -> None:
    content = content_of(manifest)
    less = copy.deepcopy(content)
    del less[data.draw(st.sampled_from(sorted(content.keys() & REQUIRED)))]
    refusal(written(less))
    part = data.draw(st.sampled_from([content, content["files"][0]]))
    part["comment"] = "x"
    assert "comment" in refusal(written(content))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_manifest_are_refused_and_never_a_crash(data: bytes) -> None:
    refusal(data)


def test_what_is_said_of_a_refused_manifest_cant_write_on_the_screen() -> None:
    words = refusal(written(content_of(SMALL) | {"\x1b[2Jgone\n": 1}))
    assert words.isprintable()
    assert "\\x1b[2Jgone\\n" in words


# --- limits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("schema", 2), ("schema", 0), ("kind", "Model"), ("kind", "firmware"), ("name", ""), ("name", "Drive"),
        ("name", "a" * 49), ("name", "dr/ve"), ("name", "../x"), ("name", "drive\n"), ("name", "-x"),
        ("version", "1"), ("version", "1.0.0.0"), ("version", "01.0"), ("version", "1.0-rc1"), ("version", "1.0\n"),
        ("version", "1234567.0"), ("version", "1.1\u0663"), ("version", "1\u0663.0"), ("release", 0), ("release", -1),
        ("release", (1 << 53) + 1),
        ("release", "1"), ("hardware", []), ("hardware", "any"), ("hardware", ["any"] * 33), ("hardware", ["X86"]),
        ("hardware", [""]), ("files", []), ("files", {}),
    ],
)  # fmt: skip
def test_a_value_beyond_its_limits_is_refused_by_the_name_of_its_field(field: str, wrong: object) -> None:
    assert f"at {field}" in refusal(written(content_of(SMALL) | {field: wrong}))


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("path", ""), ("path", ".hidden"), ("path", ".."), ("path", "a/../b"), ("path", "a/"), ("path", "a b"),
        ("path", "a\x00"),
        ("path", "x" * 129), ("path", "\u0430.onnx"), ("size", -1), ("size", MAX_BUNDLE_BYTES + 1), ("size", 1.5),
        ("size", 0), ("size", BLOCK_BYTES), ("sha256", "0" * 63), ("sha256", "A" * 64), ("blocks", []),
        ("blocks", ["0" * 64]), ("blocks", ["0" * 64] * 3), ("blocks", ["0" * 64, "0" * 65]),
    ],
)  # fmt: skip
def test_a_file_beyond_its_limits_is_refused(field: str, wrong: object) -> None:
    content = content_of(SMALL)
    content["files"][0][field] = wrong
    assert "at files.0" in refusal(written(content))


def test_files_stand_in_the_order_of_their_names_and_once() -> None:
    for files in (tuple(reversed(SMALL.files)), (SMALL.files[0], SMALL.files[0])):
        content = content_of(SMALL) | {"files": [entry.model_dump(mode="json") for entry in files]}
        assert "order of their names" in refusal(written(content))


def test_a_bundle_has_no_more_files_and_bytes_than_a_vehicle_takes() -> None:
    def of(count: int, size: int) -> BundleManifest:
        blocks = ("0" * 64,) * block_count(size)
        files = tuple(FileEntry(path=f"{n:05}", size=size, sha256="0" * 64, blocks=blocks) for n in range(count))
        return BundleManifest(kind=Kind.MODEL, name="a", version="1.0", release=1, hardware=("any",), files=files)

    assert len(of(MAX_FILES, 1).files) == MAX_FILES
    with pytest.raises(ValidationError, match="at most 4096"):
        of(MAX_FILES + 1, 1)
    assert of(2, MAX_BUNDLE_BYTES // 2).size == MAX_BUNDLE_BYTES
    with pytest.raises(ValidationError, match="more than"):
        of(2, MAX_BUNDLE_BYTES // 2 + 1)


FULL: dict[str, Any] = {
    "lineage": {"parent": "a" * 64, "datasets": ["b" * 64, "c" * 64], "training_run": "run 7", "git_commit": "d" * 40,
                "federated_round": 12},
    "quantization": {"scheme": "int8_u8s8", "per_channel": True, "calibration": "e" * 64, "pinned_scales": True},
    "metrics": [{"name": "recall", "value": 0.5, "low": 0.25, "high": 0.75, "n": 300, "evaluation": "f" * 64}],
    "golden": {"file": "b.json", "tolerance": 0.01},
    "runtime": {"python": ">=3.11,<3.14", "onnxruntime": ">=1.20,<2", "outrider": ">=0.5"},
    "budgets": {"cpu_relative": 1.25, "memory_bytes": 1 << 28, "frames": [{"hardware": "x86_64", "p99_ms": 40.0}]},
    "requires": [{"kind": "config", "name": "car", "least": 3}],
    "conflicts": [{"kind": "campaign", "name": "night", "least": 2, "most": 4}],
    "sbom": {"name": "sbom.cdx.json", "sha256": "1" * 64, "size": 100},
    "rxswin": ["R157 1.0", "R79 2.1"],
    "minimum_bootable": 1,
    "notes": "Sees bicycles at night.\nNothing else changed.",
}  # fmt: skip


def test_a_release_that_says_all_it_can_is_taken_and_one_that_says_a_default_has_another_form() -> None:
    decode_manifest(written(content_of(SMALL) | FULL))
    for field, default in (
        ("lineage", {}), ("lineage", None), ("quantization", None), ("metrics", []), ("golden", None), ("runtime", {}),
        ("budgets", {}), ("requires", []), ("sbom", None), ("rxswin", []), ("minimum_bootable", None), ("notes", None),
        ("lineage", FULL["lineage"] | {"datasets": []}), ("runtime", {"python": None}),
        ("quantization", FULL["quantization"] | {"per_channel": False}),
        ("metrics", [FULL["metrics"][0] | {"better": "higher"}]),
    ):  # fmt: skip
        assert "canonical" in refusal(written(content_of(SMALL) | {field: default})) or default is None, field


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("lineage", {"parent": "A" * 64}), ("lineage", {"parent": "a" * 63}), ("lineage", {"datasets": ["b" * 64] * 2}),
        ("lineage", {"datasets": ["c" * 64, "b" * 64]}), ("lineage", {"datasets": [f"{n:064x}" for n in range(65)]}),
        ("lineage", {"training_run": ""}), ("lineage", {"training_run": "a\nb"}),
        ("lineage", {"training_run": "x" * 201}),
        ("lineage", {"training_run": "\u202egnp"}), ("lineage", {"git_commit": "d" * 39}),
        ("lineage", {"federated_round": -1}), ("lineage", {"federated_round": True}), ("lineage", {"who": "x"}),
        ("quantization", {}), ("quantization", {"scheme": "int8", "per_channel": 1}),
        ("metrics", [FULL["metrics"][0]] * 2), ("metrics", [FULL["metrics"][0] | {"value": 0.8}]),
        ("metrics", [FULL["metrics"][0] | {"low": 0.6}]), ("metrics", [FULL["metrics"][0] | {"n": 0}]),
        ("metrics", [FULL["metrics"][0] | {"evaluation": "x"}]), ("metrics", [FULL["metrics"][0] | {"name": "[red]"}]),
        ("metrics", [FULL["metrics"][0] | {"high": 10**400}]), ("metrics", [FULL["metrics"][0] | {"better": "x"}]),
        ("golden", {"file": "other.json", "tolerance": 0.1}), ("golden", {"file": "b.json", "tolerance": -0.1}),
        ("runtime", {"python": "3.11"}), ("runtime", {"python": ">=3.11,"}), ("runtime", {"python": ">= 3.11"}),
        ("runtime", {"python": "~=3.11"}), ("runtime", {"python": ">=03.11"}), ("runtime", {"python": ">=3.11\n"}),
        ("runtime", {"python": ",".join([">=1"] * 5)}), ("runtime", {"abi": "cp311-linux_x86_64"}),
        ("runtime", {"dependencies": "a" * 64}), ("runtime", {"brings_dependencies": True}),
        ("budgets", {"cpu_relative": 0.0}), ("budgets", {"cpu_relative": 101.0}), ("budgets", {"memory_bytes": 0}),
        ("budgets", {"frames": FULL["budgets"]["frames"] * 2}),
        ("budgets", {"frames": [{"hardware": "x86_64", "p99_ms": 0.0}]}),
        ("requires", [{"kind": "config", "name": "car"}] * 2), ("requires", [{"kind": "config"}]),
        ("requires", [{"kind": "config", "name": "car", "least": 3, "most": 2}]),
        ("requires", [{"kind": "config", "name": "car", "least": 0}]),
        ("conflicts", [{"kind": "model", "name": "b"}, {"kind": "model", "name": "a"}]),
        ("conflicts", [{"kind": "firmware", "name": "a"}]), ("sbom", {"name": "../x", "sha256": "1" * 64, "size": 1}),
        ("sbom", {"name": "b.json", "sha256": "1" * 64, "size": 2}), ("sbom", {"name": "x.json", "sha256": "1" * 64}),
        ("rxswin", ["X", "X"]), ("rxswin", ["b", "a"]), ("rxswin", [""]), ("rxswin", ["a\n"]),
        ("minimum_bootable", 0), ("minimum_bootable", 2), ("minimum_bootable", 1.0), ("notes", ""),
        ("notes", "x" * 4001), ("notes", "\x1b[2J"), ("notes", "a\rb"), ("notes", "\u2066"),
    ],
)  # fmt: skip
def test_a_fact_beyond_its_limits_is_refused(field: str, wrong: object) -> None:
    words = refusal(written(content_of(SMALL) | FULL | {field: wrong}))
    assert "canonical" not in words


# --- blocks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES])
def test_blocks_cover_a_file_once_and_in_order(size: int) -> None:
    content = bytes(number % 251 for number in range(size))
    entry = file_entry("f", (content[at : at + BLOCK_BYTES] for at in range(0, size, BLOCK_BYTES)))
    assert (entry.size, entry.sha256) == (size, hashlib.sha256(content).hexdigest())
    assert sum(entry.block_bytes(index) for index in range(len(entry.blocks))) == size
    for index, block in enumerate(entry.blocks):
        assert block == hashlib.sha256(content[index * BLOCK_BYTES :][: entry.block_bytes(index)]).hexdigest()


@given(manifests())
def test_every_block_is_listed_once(manifest: BundleManifest) -> None:
    listed = [(entry.path, index) for entry, index in manifest.blocks()]
    assert listed == [(entry.path, index) for entry in manifest.files for index in range(len(entry.blocks))]
