"""One offer, from the bytes of its files to both timestamps, with a place for an act at every step.

Whatever is edited at one step is taken up by the steps after it: they name what it became, and sign it.
"""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

from securesystemslib.exceptions import FormatError
from securesystemslib.formats import encode_canonical

from ota.source import Source
from tests.ota.corpus.base import MIB, SEEN, Base, Json, sha256

CAR: Final = "car-1"
SMALL: Final = b"weights of a small model"
TOP: Final = ("targets", "snapshot", "timestamp")

Edit = Callable[[Any], Any]
"""Gives back the new value, or changes it in place and gives back None."""


class Draft:
    """`edit(step, edit)` at one of these steps:

    "manifest", "manifest bytes"; "image/model" and the like: the signed part of a role; "... signatures": their list;
    "... bytes": its file; "files": all files of the published repository by their path; "archive": the bytes of the
    .zip; "medium": the folder, once it is written; "state": the vehicle's.
    """

    def __init__(self, base: Base, version: int = SEEN + 1, release: int = 2) -> None:
        self.base = base
        self.kind, self.name, self.number, self.release = "model", "drive", f"{release}.0", release
        self.contents: dict[str, bytes] = {"labels.txt": b"car\nlorry\n", "model.onnx": SMALL + bytes([release])}
        self.facts: Json = {}
        self.hardware = ["x86_64"]
        self.signed = copy.deepcopy(dict(base.signed))
        self.versions = dict.fromkeys(self.signed, version)
        self.by: dict[str, list[str]] = {role: [_key_of(role)] for role in self.signed}
        self.newer_roots: list[tuple[str, int, Json, list[str]]] = []
        self.has_hashes = False
        self.has_delta = False
        self.clock_s = 0
        """Seconds between the vehicle's clock and the right one."""
        self.through: list[Callable[[Source, Any], Source]] = []
        """What lies between the repository and the vehicle: (source, the vehicle's clock)."""
        self._edits: dict[str, list[Edit]] = defaultdict(list)

    # --- acts -------------------------------------------------------------------------------------

    def edit(self, step: str, edit: Edit) -> None:
        self._edits[step].append(edit)

    def edited(self, step: str, value: Any) -> Any:
        for edit in self._edits[step]:
            new = edit(value)
            value = value if new is None else new
        return value

    def add_key(self, role: str, name: str, threshold: int) -> None:
        """One more key for a role, which signs it, too; so many must."""
        repository, _, its = role.partition("/")
        public = self.base.signers[name].public_key
        if its in TOP:
            raise ValueError("a root has keys of its own: rotate it")
        delegations = self.signed[f"{repository}/targets"]["delegations"]
        delegations["keys"][public.keyid] = public.to_dict()
        entry = next(entry for entry in delegations["roles"] if entry["name"] == its)
        entry["keyids"].append(public.keyid)
        entry["threshold"] = threshold
        self.by[role].append(name)

    def new_root(self, repository: str, edit: Callable[[Json], None], by: list[str]) -> Json:
        """The next root, signed by these."""
        before = self.newer_roots[-1][2] if self.newer_roots else self.signed[f"{repository}/root"]
        root = copy.deepcopy(before)
        root["version"] = before["version"] + 1
        edit(root)
        self.newer_roots.append((repository, root["version"], root, by))
        return root

    def keyed(self, root: Json, role: str, names: list[str], threshold: int = 1) -> None:
        """These keys, and no others, for a role of that root."""
        keys = [self.base.signers[name].public_key for name in names]
        root["keys"] |= {key.keyid: key.to_dict() for key in keys}
        root["roles"][role] = {"keyids": [key.keyid for key in keys], "threshold": threshold}

    # --- what is published ------------------------------------------------------------------------

    @property
    def target(self) -> str:
        return f"{self.kind}/{self.name}-{self.number}.json"

    def manifest(self) -> Json:
        files = [
            {
                "path": path,
                "size": len(data),
                "sha256": sha256(data),
                "blocks": [sha256(data[at : at + MIB]) for at in range(0, len(data), MIB)],
            }
            for path, data in sorted(self.contents.items())
        ]
        its = {"kind": self.kind, "name": self.name, "version": self.number, "release": self.release}
        return copy.deepcopy({"schema": 1, **its, "hardware": self.hardware, "files": files, **self.facts})

    def manifest_bytes(self) -> bytes:
        content = self.edited("manifest", self.manifest())
        data = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        its: bytes = self.edited("manifest bytes", data)
        return its

    def published(self) -> dict[str, bytes]:
        """The files of the repository by their paths."""
        manifest = self.manifest_bytes()
        files = {f"image/files/{sha256(data)}": data for data in self.contents.values()}
        folder, _, name = self.target.rpartition("/")
        files[f"image/targets/{folder}/{sha256(manifest)}.{name}"] = manifest
        if self.has_delta:
            files[f"image/deltas/{sha256(self.base.new)}.{sha256(self.base.old)}"] = self.base.delta
        custom = {"release": self.release, "hardware": self.hardware}
        target = {"length": len(manifest), "hashes": {"sha256": sha256(manifest)}, "custom": custom}
        files |= self._roots()
        files |= self._repository("image", "image/metadata", f"image/{self.kind}", target)
        files |= self._repository("director", f"director/vehicles/{CAR}", "director/targets", target)
        its: dict[str, bytes] = self.edited("files", files)
        return its

    def _roots(self) -> dict[str, bytes]:
        files = {f"{its}/metadata/1.root.json": data for its, data in self.base.roots.items()}
        for repository, version, root, by in self.newer_roots:
            role = f"{repository}/root"
            files[f"{repository}/metadata/{version}.root.json"] = self._file(role, root, by)
        return files

    def _repository(self, repository: str, folder: str, naming: str, target: Json) -> dict[str, bytes]:
        files, meta = dict[str, bytes](), dict[str, Json]()
        for role in (its for its in self.signed if its.startswith(f"{repository}/")):
            name = role.partition("/")[2]
            if name in ("root", "snapshot", "timestamp"):
                continue
            signed = copy.deepcopy(self.signed[role])
            signed["targets"] = {self.target: copy.deepcopy(target)} if role == naming else {}
            files[f"{folder}/{self.versions[role]}.{name}.json"] = data = self._role(role, signed)
            meta[f"{name}.json"] = self._meta(role, data)
        snapshot = self._role(f"{repository}/snapshot", {**self.signed[f"{repository}/snapshot"], "meta": meta})
        files[f"{folder}/{self.versions[f'{repository}/snapshot']}.snapshot.json"] = snapshot
        meta = {"snapshot.json": self._meta(f"{repository}/snapshot", snapshot)}
        files[f"{folder}/timestamp.json"] = self._role(
            f"{repository}/timestamp", {**self.signed[f"{repository}/timestamp"], "meta": meta}
        )
        return files

    def _meta(self, role: str, data: bytes) -> Json:
        more = {"length": len(data), "hashes": {"sha256": sha256(data)}} if self.has_hashes else {}
        return {"version": self.versions[role], **more}

    def _role(self, role: str, signed: Json) -> bytes:
        signed = {**copy.deepcopy(signed), "version": self.versions[role]}
        return self._file(role, signed, self.by[role])

    def _file(self, role: str, signed: Json, by: list[str]) -> bytes:
        signed = self.edited(role, signed)
        signatures = self.edited(f"{role} signatures", [self.signature(signed, name) for name in by])
        data = json.dumps({"signatures": signatures, "signed": signed}).encode()
        its: bytes = self.edited(f"{role} bytes", data)
        return its

    def signature(self, signed: Json, name: str) -> Json:
        try:
            data = (encode_canonical(signed) or "").encode()
        except (FormatError, RecursionError, UnicodeError):  # nothing that can be signed: so it is signed in some way
            data = repr(type(signed)).encode()
        its = self.base.signers[name].sign(data)
        return {"keyid": its.keyid, "sig": its.signature}


def _key_of(role: str) -> str:
    repository, _, name = role.partition("/")
    return f"{repository}-{name}" if name in TOP else f"{repository}-root-1" if name == "root" else name
