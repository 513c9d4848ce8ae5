"""A release as a target of its kind's role, and the kinds' delegations. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError
from securesystemslib.signer import Signer
from tuf.api.metadata import DelegatedRole, Delegations, Key, Metadata, TargetFile, Targets

from ecu.errors import shown
from ota.errors import RepositoryFault
from ota.facts import Sbom
from ota.kinds import Kind
from ota.manifest import BundleManifest, FileEntry
from ota.repository.given import Facts
from ota.repository.keys import Owners, fixed_owners
from ota.repository.metadata import Standing, digest_of, standing
from ota.repository.roots import DRAFTS
from ota.trust import ANY_HARDWARE

_RULES: Final = MappingProxyType(
    {
        "name": "A name has up to 48 small letters, digits and dashes, and begins with a letter.",
        "version": "A version is two or three numbers with dots, such as 1.0 or 2.0.1.",
        "release": "A release is a whole number from 1 on, higher than that of every release before it.",
        "hardware": "Hardware is named by up to 48 small letters, digits, dots, dashes and underscores; 'any' is all.",
        "files": "A bundle has 1 to 4096 files, of at most 8 GiB in all.",
    }
)


@dataclass(frozen=True, slots=True)
class Change:
    """One target of a draft that isn't published like that. `sha256` is its manifest's; "" when it is taken out."""

    target: str
    release: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Draft:
    """What waits for signatures, and what will be different once it is published."""

    kind: Kind
    standing: Standing
    changes: tuple[Change, ...]
    digest: str
    """SHA-256 of what is signed."""


def kind_draft(kind: Kind, draft: Metadata[Targets], published: Targets, top: Targets) -> Draft:
    """What will be different once the draft is published, and who has signed it."""
    before, after = published.targets, draft.signed.targets
    changed = [path for path, target in sorted(after.items()) if before.get(path) != target]
    changes = [Change(path, release_of(after[path]), after[path].hashes.get("sha256", "?")) for path in changed]
    changes += [Change(path, release_of(before[path]), "") for path in sorted(before.keys() - after.keys())]
    its = standing(draft, top, kind, f"The draft of {kind}")
    return Draft(kind, its, tuple(changes), digest_of(draft))


def demand_plain(kind: Kind, draft: Targets) -> None:
    """Raises RepositoryFault: besides its releases, which are shown to whoever signs, it says nothing: no further
    delegations."""
    if draft != Targets(draft.version, draft.spec_version, draft.expires, draft.targets):
        raise says_more(kind)


def says_more(kind: Kind) -> RepositoryFault:
    return RepositoryFault(
        f"{draft_path(kind)} says more than what its releases are: somebody changed it. Remove it and add its releases "
        "again."
    )


def draft_path(role: str) -> str:
    return f"{DRAFTS}/{role}.json"


def manifest_of(
    folder: Path,
    entries: Sequence[FileEntry],
    kind: Kind,
    name: str,
    version: str,
    release: int,
    hardware: Sequence[str],
    facts: Facts,
) -> BundleManifest:
    """What the folder's release says of itself. Raises RepositoryFault."""
    content = dict(facts) | {
        "kind": kind,
        "name": name,
        "version": version,
        "release": release,
        "hardware": list(hardware),
        "files": [entry.model_dump(mode="json") for entry in entries],
    }
    try:
        return BundleManifest.model_validate_json(json.dumps(content))
    except (TypeError, ValidationError) as error:
        raise unfit(error, folder) from error


def billed(manifest: BundleManifest, name: str, content: bytes) -> BundleManifest:
    """With that bill of materials. Raises RepositoryFault for a name that another file has."""
    sbom = Sbom(name=name, sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    try:
        said = {("schema" if key == "schema_" else key): value for key, value in manifest}
        return BundleManifest.model_validate(said | {"sbom": sbom})
    except ValidationError as error:
        raise RepositoryFault(f"{manifest.title} has another file by the name of its bill of materials.") from error


def target_of(manifest: BundleManifest, data: bytes) -> TargetFile:
    target = TargetFile.from_data(manifest.target, data, ["sha256"])
    target.unrecognized_fields["custom"] = {"hardware": list(manifest.hardware), "release": manifest.release}
    return target


def release_of(target: TargetFile) -> int:
    custom: Any = target.custom
    release = custom.get("release") if isinstance(custom, dict) else None
    return release if isinstance(release, int) else 0


def may_meet(target: TargetFile, manifest: BundleManifest) -> bool:
    """Whether some vehicle could have either."""
    custom: Any = target.custom
    theirs, its = set(custom["hardware"]), set(manifest.hardware)
    return ANY_HARDWARE in theirs | its or bool(theirs & its)


def everyone_of(owners: Mapping[Kind, Owners]) -> dict[Kind, Owners]:
    """A kind that isn't among `owners` is signed by the one key of its name."""
    return {kind: owners.get(kind, Owners(1, (kind.value,))) for kind in Kind}


def owners_by_role(everyone: Mapping[Kind, Owners]) -> dict[str, Owners]:
    return fixed_owners("image") | {kind.value: its for kind, its in everyone.items()}


def delegations_of(owners: Mapping[Kind, tuple[int, Sequence[Signer]]]) -> Delegations:
    roles, keys = dict[str, DelegatedRole](), dict[str, Key]()
    for kind, (threshold, signers) in owners.items():
        ids = [signer.public_key.keyid for signer in signers]
        keys |= {signer.public_key.keyid: signer.public_key for signer in signers}
        roles[kind.value] = DelegatedRole(kind.value, ids, threshold, terminating=True, paths=[kind.paths])
    return Delegations(keys, roles)


def unfit(error: TypeError | ValidationError, folder: Path) -> RepositoryFault:
    if isinstance(error, TypeError):
        return RepositoryFault(f"What is said of {shown(folder)} can't be in a manifest: {shown(error)}.")
    first = error.errors(include_url=False)[0]
    field = str(first["loc"][0]) if first["loc"] else "files"
    given = "" if field == "files" or field not in _RULES else f" {shown(first['input'])!s}"
    rule = _RULES.get(field) or f"At {shown('.'.join(map(str, first['loc'])))}: {shown(first['msg'])}."
    if not first["loc"]:
        rule = f"{shown(first['msg'])}."
    return RepositoryFault(f"{shown(folder)} can't be released with the {field}{given}. {rule}")
