"""A release's bill of materials: CycloneDX 1.6 JSON (ECMA-424), made from its files and from what it says of itself.

A model's is an ML-BOM: its component is a `machine-learning-model` with a model card. A runtime's has a component for
each wheel. Nothing of chance and no time is in it: equal releases have equal bills. Only the writer is here; who brings
a bill made by other tools has it taken as it is.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from ecu.errors import shown
from ota.errors import RepositoryFault
from ota.kinds import Kind
from ota.manifest import BundleManifest, FileEntry

MOST_BYTES: Final = 16 << 20
ENDING: Final = ".cdx.json"
_WHEEL: Final = re.compile(r"([A-Za-z0-9._]+)-([A-Za-z0-9._+!]+)(?:-\d[^-]*)?-[^-]+-[^-]+-[^-]+\.whl", re.ASCII)
_TYPES: Final = {Kind.MODEL: "machine-learning-model", Kind.STATE: "machine-learning-model"}
_SOFTWARE: Final = (Kind.RUNTIME, Kind.SYSTEM)
_NAMESPACE: Final = uuid.UUID("6a7c1cfa-6f0c-5f1e-8a3e-0d6c6f5b9a52")


class Licence(msgspec.Struct, frozen=True):
    spdx: str = ""
    holder: str = ""


class Source(msgspec.Struct, frozen=True):
    source: str = ""
    source_version: str = ""
    source_sha256: str = ""


class ModelFile(msgspec.Struct, frozen=True):
    """What the desk reads of a model package's own manifest (docs/formats/model-package.md)."""

    name: str
    version: str
    task: str = ""
    licence: Licence = Licence()
    lineage: Source = Source()


def bill_of(manifest: BundleManifest, model: ModelFile | None = None) -> bytes:
    """`manifest` without its own `sbom`."""
    content = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": _subject(manifest, model)},
        "components": [_file(entry) for entry in manifest.files],
        "dependencies": [{"ref": "release", "dependsOn": [f"file:{entry.path}" for entry in manifest.files]}],
    }
    serial = uuid.uuid5(_NAMESPACE, json.dumps(content, sort_keys=True))
    return json.dumps({**content, "serialNumber": f"urn:uuid:{serial}"}, sort_keys=True, indent=1).encode() + b"\n"


def demand_bill(data: bytes) -> None:
    """Raises RepositoryFault for what is no CycloneDX JSON."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RepositoryFault(f"The bill of materials is no JSON: {shown(error)}.") from error
    if not isinstance(content, dict) or content.get("bomFormat") != "CycloneDX":
        raise RepositoryFault("The bill of materials isn't CycloneDX: its bomFormat says otherwise.")


def _subject(manifest: BundleManifest, model: ModelFile | None) -> dict[str, Any]:
    its: dict[str, Any] = {
        "type": _TYPES.get(manifest.kind, "application" if manifest.kind in _SOFTWARE else "data"),
        "bom-ref": "release",
        "name": manifest.name,
        "version": manifest.version,
    }
    if manifest.notes is not None:
        its["description"] = manifest.notes
    if model is not None and model.licence.spdx:
        its["licenses"] = [{"license": {"name": model.licence.spdx}}]
        its["copyright"] = model.licence.holder
    if manifest.kind in _TYPES:
        its["modelCard"] = _card(manifest, model)
    if ancestors := list(_ancestors(manifest, model)):
        its["pedigree"] = {"ancestors": ancestors}
    if properties := list(_properties(manifest)):
        its["properties"] = properties
    return its


def _card(manifest: BundleManifest, model: ModelFile | None) -> dict[str, Any]:
    parameters: dict[str, Any] = {"datasets": [_dataset(digest) for digest in manifest.lineage.datasets]}
    if model is not None and model.task:
        parameters["task"] = model.task
    measured = [
        {
            "type": metric.name,
            "value": str(metric.value),
            "slice": f"{metric.n} of evaluation set sha256:{metric.evaluation}",
            "confidenceInterval": {"lowerBound": str(metric.low), "upperBound": str(metric.high)},
        }
        for metric in manifest.metrics
    ]
    return {"modelParameters": parameters, "quantitativeAnalysis": {"performanceMetrics": measured}}


def _dataset(digest: str) -> dict[str, Any]:
    return {"type": "dataset", "name": f"sha256:{digest}"}


def _ancestors(manifest: BundleManifest, model: ModelFile | None) -> Iterator[dict[str, Any]]:
    if manifest.lineage.parent is not None:
        parent = manifest.lineage.parent
        yield {"type": _TYPES.get(manifest.kind, "data"), "name": manifest.name, "hashes": [_sha256(parent)]}
    if model is not None and model.lineage.source:
        its: dict[str, Any] = {"type": "machine-learning-model", "name": model.lineage.source}
        its |= {"version": model.lineage.source_version} if model.lineage.source_version else {}
        its |= {"hashes": [_sha256(model.lineage.source_sha256)]} if model.lineage.source_sha256 else {}
        yield its


def _properties(manifest: BundleManifest) -> Iterator[dict[str, str]]:
    lineage, quantization = manifest.lineage, manifest.quantization
    said = {
        "training_run": lineage.training_run,
        "git_commit": lineage.git_commit,
        "federated_round": lineage.federated_round,
        "quantization": quantization.scheme if quantization is not None else None,
        "rxswin": ", ".join(manifest.rxswin) or None,
    }
    return ({"name": f"outrider:{name}", "value": str(value)} for name, value in said.items() if value is not None)


def _file(entry: FileEntry) -> dict[str, Any]:
    its = {"bom-ref": f"file:{entry.path}", "hashes": [_sha256(entry.sha256)]}
    if wheel := _WHEEL.fullmatch(entry.path):
        name, version = wheel[1].replace("_", "-").lower(), wheel[2]
        return its | {"type": "library", "name": name, "version": version, "purl": f"pkg:pypi/{name}@{version}"}
    return its | {"type": "file", "name": entry.path}


def _sha256(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest}
