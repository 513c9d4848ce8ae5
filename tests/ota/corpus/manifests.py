"""A signed manifest that breaks one rule of its format, or asks for what isn't here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from ota.errors import DoesNotFit, Flaw
from ota.manifest import MAX_FILES
from tests.ota.corpus.base import MIB, Json
from tests.ota.corpus.case import Case
from tests.ota.corpus.draft import Draft
from tests.ota.corpus.metadata import edited

H: Final = "ab" * 32
_METRIC: Final = {"name": "f1", "value": 0.9, "low": 0.8, "high": 0.95, "n": 500, "evaluation": H}
FACTS: Final[Json] = {
    "lineage": {
        "parent": H, "datasets": ["01" * 32, "02" * 32], "training_run": "run 7", "git_commit": "c" * 40,
        "federated_round": 3,
    },
    "quantization": {"scheme": "U8S8", "per_channel": True, "calibration": H, "pinned_scales": True},
    "metrics": [_METRIC, {**_METRIC, "name": "map"}],
    "golden": {"file": "labels.txt", "tolerance": 0.5},
    "runtime": {"python": ">=3.11,<4", "onnxruntime": ">=1.17", "outrider": ">=0.5"},
    "budgets": {
        "cpu_relative": 1.5, "memory_bytes": 1000,
        "frames": [{"hardware": "aarch64", "p99_ms": 50.0}, {"hardware": "x86_64", "p99_ms": 20.0}],
    },
    "requires": [{"kind": "model", "name": "drive", "least": 1, "most": 9}],
    "conflicts": [{"kind": "config", "name": "old", "most": 3}, {"kind": "model", "name": "old"}],
    "sbom": {"name": "bom.json", "sha256": H, "size": 10},
    "rxswin": ["R155 a", "R156 b"],
    "minimum_bootable": 1,
    "notes": "Better at night.\nSame size.",
}  # fmt: skip
_ABSENT: Final = object()
_BAD_HASHES: Final = ("ab", H.upper(), H + "0", "g" * 64, H[:-1] + "\n", 7)
_BIG: Final = (1 << 53) + 1


def rich(draft: Draft) -> None:
    draft.facts = FACTS


def a_runtime(draft: Draft) -> None:
    """Of our own wheel in folders, as it is tried."""
    draft.kind = "runtime"
    draft.contents = {
        "runtime.json": b'{"python":"cpython-311","wheels":{}}',
        "wheel/ota/a.py": b"a",
        "wheel/b.py": b"",
    }
    draft.facts = {"runtime": {"abi": "cp311-linux_x86_64", "dependencies": H, "brings_dependencies": True}}


def manifest_cases() -> Iterator[Case]:
    for key, values in VALUES.items():
        for value in values:
            yield _at(key, value)
    for key in ("kind", "name", "version", "release", "hardware", "files"):
        yield _at(key, _ABSENT)
    for key in NEEDED:
        yield _at(key, _ABSENT)
    for key in ("", "lineage", "quantization", "metrics.0", "golden", "runtime", "budgets", "budgets.frames.0",
                "requires.0", "conflicts.0", "sbom", "files.0"):  # fmt: skip
        yield _at(f"{key}.hidden".strip("."), 1)
    yield from _of_files()
    yield from _as_a_whole()
    yield from _of_a_runtime()
    yield from _of_its_form()
    yield from _unfit()


NEEDED: Final = (
    "files.0.path", "files.0.size", "files.0.sha256", "files.0.blocks", "quantization.scheme", "metrics.0.name",
    "metrics.0.value", "metrics.0.low", "metrics.0.high", "metrics.0.n", "metrics.0.evaluation", "golden.file",
    "golden.tolerance", "budgets.frames.0.hardware", "budgets.frames.0.p99_ms", "requires.0.kind", "requires.0.name",
    "sbom.name", "sbom.sha256", "sbom.size",
)  # fmt: skip

_NUMBERS: Final[tuple[Any, ...]] = ("1", True, 1.5, [], None)
VALUES: Final[dict[str, tuple[Any, ...]]] = {
    "schema": (0, 2, "1"),
    "kind": ("firmware", "Model", 1, ""),
    "name": ("", "Drive", "9drive", "a" * 49, "dri_ve", "dri ve", "drive\n", 7),
    "version": ("2", "2.0.0.0", "02.0", "2.0a", "2.1000000", "v2.0", "2.0\n", "", 2.0, "2..0"),
    "release": (0, -1, _BIG, *_NUMBERS),
    "hardware": ([], ["x86_64"] * 33, ["X86"], [""], ["a" * 49], [7], "x86_64", [".x"], ["x86_64\n"]),
    "files": ({}, None, [1]),
    "files.0.path": ("", "..", "a/../b", "/etc/passwd", ".hidden", "a\\b", "C:x", "a" * 129, "x/" * 17 + "x", "a//b",
                     "a/", "\u00e4", "a\n", "a b", "~", "-rf", "con\0", 7),
    "files.0.size": (-1, (8 << 30) + 1, "10", 10.0, True, None),
    "files.0.sha256": _BAD_HASHES,
    "files.0.blocks": ([], [H, H], [7], "ab", [H.upper()], [None]),
    "lineage.parent": _BAD_HASHES,
    "lineage.datasets": (["02" * 32, "01" * 32], ["01" * 32] * 2, [f"{n:064x}" for n in range(65)], ["x"], H),
    "lineage.training_run": ("", "a\nb", "a\x1b[2J", "a\u2028b", "a\u202eb", "r" * 201, 7),
    "lineage.git_commit": ("c" * 39, "c" * 41, "C" * 40, "main", 7),
    "lineage.federated_round": (-1, _BIG, "3", 3.5, True),
    "quantization.scheme": ("", "a\tb", "s" * 201, 8),
    "quantization.per_channel": (1, "true", None),
    "quantization.calibration": _BAD_HASHES[:3],
    "quantization.pinned_scales": (1, "yes"),
    "metrics": ([{**_METRIC, "name": f"m{n:03}"} for n in range(65)], [_METRIC] * 2, {}, [1]),
    "metrics.0.name": ("", "f1\n", "n" * 65, "\u00e9", " f1", 7),
    "metrics.0.value": (0.7, 0.96, "0.9", True, None),
    "metrics.0.low": (0.91, "0"),
    "metrics.0.high": (0.89, "1"),
    "metrics.0.n": (0, -1, _BIG, "500", 1.5, True),
    "metrics.0.evaluation": _BAD_HASHES[:3],
    "metrics.0.better": ("faster", 1, None),
    "golden.file": ("missing.npz", "../labels.txt", ""),
    "golden.tolerance": (-0.1, "0.5", None, True),
    "runtime.python": ("3.11", ">=3.11,", ">=3.11 ,<4", "~=3.11", ">=03", ">=3.11,<4,<5,<6,<7", ">=1.2.3.4.5", ">=x",
                       "", ">=" + "9" * 7, 3.11),
    "runtime.onnxruntime": ("*", "latest", ">=1.17\n"),
    "runtime.outrider": ("any", ">=-1"),
    "runtime.abi": ("cp311-linux_x86_64",),
    "runtime.dependencies": (H,),
    "runtime.brings_dependencies": (True,),
    "budgets.cpu_relative": (0, -1, 100.5, "1.5", True),
    "budgets.memory_bytes": (0, -1, (1 << 40) + 1, "1000", 1.5, True),
    "budgets.frames": ([{"hardware": f"h{n:02}", "p99_ms": 1.0} for n in range(33)], {},
                       [{"hardware": "b", "p99_ms": 1.0}, {"hardware": "a", "p99_ms": 1.0}]),
    "budgets.frames.0.hardware": ("", "A"),
    "budgets.frames.0.p99_ms": (0, -1, 1e7, "20", True),
    "requires": ([{"kind": "model", "name": f"n{n:02}"} for n in range(17)], {}, [FACTS["requires"][0]] * 2),
    "requires.0.kind": ("firmware", 1),
    "requires.0.name": ("Drive", "", "a" * 49),
    "requires.0.least": (0, 10, _BIG, "1", True),
    "requires.0.most": (0, _BIG, "9", True),
    "conflicts": ([{"kind": "model", "name": f"n{n:02}"} for n in range(17)], {}, FACTS["conflicts"][::-1]),
    "conflicts.0.kind": ("firmware",),
    "conflicts.0.name": ("Old",),
    "conflicts.0.most": (0,),
    "sbom.name": ("../bom.json", "", "b" * 201),
    "sbom.sha256": _BAD_HASHES[:3],
    "sbom.size": (0, -1, (1 << 40) + 1, "10", True),
    "rxswin": ([f"R{n:03}" for n in range(33)], ["b", "a"], ["a", "a"], [""], ["a\n"], ["-a"], ["a" * 65], [7], "R155"),
    "minimum_bootable": (3, 0, -1, "1", True),
    "notes": ("", "a\x07b", "a\x1b[2J", "a\u202eb", "n" * 4001, 7),
}  # fmt: skip


def _at(key: str, value: object) -> Case:
    told = "missing" if value is _ABSENT else _brief(value)
    return Case(f"manifest with {key} {told}", Flaw.MALFORMED_MANIFEST, edited(_setting(key, value)), rich)


def _brief(value: object) -> str:
    words = ascii(value)
    return words if len(words) <= 40 else f"{words[:20]}...{words[-6:]} of {len(words)}"


def _setting(key: str, value: object) -> Callable[[Json], None]:
    def edit(manifest: Json) -> None:
        *steps, last = [int(step) if step.isdecimal() else step for step in key.split(".")]
        at: Any = manifest
        for step in steps:
            at = at[step]
        if value is _ABSENT:
            del at[last]
        else:
            at[last] = value

    return edit


def _of_files() -> Iterator[Case]:
    """Of a manifest that says nothing else: no other part may miss a file that is gone."""

    def malformed(defect: str, edit: Callable[[Json], object]) -> Case:
        return Case(f"manifest {defect}", Flaw.MALFORMED_MANIFEST, edited(edit))

    yield malformed("of no files", lambda its: its.update(files=[]))
    yield malformed(
        "of too many files", lambda its: its.update(files=[_entry(f"f{n:04}", 0) for n in range(MAX_FILES + 1)])
    )
    yield malformed(
        "of more bytes than any may have", lambda its: its.update(files=[_entry("a", 5 << 30), _entry("b", 5 << 30)])
    )
    yield malformed("of a model with folders", lambda its: its["files"][0].update(path="a/labels.txt"))
    yield malformed("with a file of less than nothing", lambda its: its["files"][0].update(size=-1, blocks=[]))


def _as_a_whole() -> Iterator[Case]:
    def malformed(defect: str, edit: Callable[[Json], object]) -> Case:
        return Case(f"manifest {defect}", Flaw.MALFORMED_MANIFEST, edited(edit), rich)

    yield malformed("whose files aren't in order", lambda its: its["files"].reverse())
    yield malformed("that names a file twice", lambda its: its["files"].insert(0, its["files"][0]))
    yield malformed("with a block too many", lambda its: its["files"][0]["blocks"].append(H))
    yield malformed("with a file of nothing in one block", lambda its: its["files"][0].update(size=0))
    yield malformed("with a block too few", lambda its: its["files"][0].update(size=MIB + 1))
    yield malformed(
        "whose bill of materials has another hash than its file",
        lambda its: its["sbom"].update(name="model.onnx", size=its["files"][1]["size"]),
    )
    yield malformed(
        "whose bill of materials has another size than its file",
        lambda its: its["sbom"].update(name="model.onnx", sha256=its["files"][1]["sha256"]),
    )
    yield malformed("with a bound that isn't finite", lambda its: its["metrics"][0].update(high=float("inf")))
    yield malformed("with a value that is no number", lambda its: its["metrics"][0].update(value=float("nan")))
    yield malformed("with a bound that is endless below", lambda its: its["metrics"][0].update(low=float("-inf")))
    yield malformed("with a tolerance that isn't finite", lambda its: its["golden"].update(tolerance=float("inf")))


def _entry(path: str, size: int) -> Json:
    return {"path": path, "size": size, "sha256": H, "blocks": [H] * -(-size // MIB)}


def _of_a_runtime() -> Iterator[Case]:
    for key, value in (
        ("runtime.abi", "CP311"), ("runtime.abi", ""), ("runtime.abi", "a" * 97), ("runtime.dependencies", "ab"),
        ("runtime.brings_dependencies", 1), ("files.1.path", "wheel/../x"), ("files.1.path", "wheel"),
        ("files.2.path", "wheel/b.py/c/" * 9 + "d"),
        ("files.2.path", f"wheel/{'p' * 120}/{'q' * 120}"),
    ):  # fmt: skip
        yield Case(f"runtime with {key} {value!r}", Flaw.MALFORMED_MANIFEST, edited(_setting(key, value)), a_runtime)
    yield Case(
        "runtime with a file where a folder is", Flaw.MALFORMED_MANIFEST,
        edited(lambda its: its["files"].insert(1, _entry("wheel", 0))), a_runtime,
    )  # fmt: skip
    yield Case(
        "runtime for another ABI", Flaw.OTHER_ABI, edited(_setting("runtime.abi", "cp312-linux_x86_64")), a_runtime,
        words="cp312.*cp311",
    )  # fmt: skip


def _of_its_form() -> Iterator[Case]:
    def written(defect: str, change: Callable[[bytes], bytes], flaw: Flaw = Flaw.MANIFEST_NOT_CANONICAL) -> Case:
        return Case(f"manifest {defect}", flaw, lambda draft: draft.edit("manifest bytes", change), rich)

    yield written("with spaces", lambda data: json.dumps(json.loads(data), sort_keys=True).encode())
    yield written("in another order", lambda data: _compact(dict(reversed(json.loads(data).items()))))
    yield written("with a line behind its end", lambda data: data + b"\n")
    yield written("with a space before it", lambda data: b" " + data)
    yield written("with a key twice", lambda data: data[:-1] + b',"version":"2.0"}')
    yield written("with an escape", lambda data: data.replace(b"Better", b"\\u0042etter"))
    yield written("with a number in another form", lambda data: data.replace(b"1.5", b"1.50"))
    yield written("with a number in powers", lambda data: data.replace(b'"value":0.9', b'"value":9e-1', 1))
    yield written("that says what goes without saying", lambda data: _compact({**json.loads(data), "metrics": [
        {**its, "better": "higher"} for its in json.loads(data)["metrics"]
    ]}))  # fmt: skip
    yield written("of a schema that is a truth", lambda data: data.replace(b'"schema":1', b'"schema":true'))
    malformed = Flaw.MALFORMED_MANIFEST
    yield written("that is empty", lambda data: b"", malformed)
    yield written("that is a list", lambda data: b"[" + data + b"]", malformed)
    yield written("that isn't JSON", lambda data: b"PK\x03\x04" + data, malformed)
    yield written("that isn't UTF-8", lambda data: data.replace(b"Better", b"\xff\xff\xff"), malformed)
    yield written("with a surrogate", lambda data: data.replace(b"Better", b"\\ud800"), malformed)
    yield written("that ends early", lambda data: data[:-1], malformed)
    yield written("with bytes behind its end", lambda data: data + b"x", malformed)
    yield written("nested without end", lambda data: b"[" * 50_000, malformed)
    yield written("with a byte order mark", lambda data: b"\xef\xbb\xbf" + data, malformed)
    yield written("with a comment", lambda data: data[:-1] + b"/**/}", malformed)
    yield written("with a number of no end", lambda data: data.replace(b'"release":2', b'"release":1e999'), malformed)


def _compact(content: Json) -> bytes:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()


def _unfit() -> Iterator[Case]:
    for key, value, words in (
        ("runtime.python", ">=3.12", "3.12.*3.11.7"),
        ("runtime.python", "<3.11", "3.11"),
        ("runtime.onnxruntime", ">=1.21", "1.21.*1.20.1"),
        ("runtime.onnxruntime", "==1.20", "1.20.1"),
        ("runtime.outrider", ">0.6", "0.6"),
        ("requires.0.name", "other", "other.*here is none"),
        ("requires.0.least", 3, "from 3.*release 2"),
        ("requires.0.most", 1, "up to 1"),
        ("requires.0.kind", "config", "config drive"),
        ("conflicts.1.name", "drive", "can't be beside"),
    ):
        yield Case(f"manifest that asks for {key} {value}", DoesNotFit, edited(_setting(key, value)), rich, words=words)
