"""One TUF repository in memory, which signs whatever it is told to: what a client under test is shown."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import unquote

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from ota.errors import NotThere
from tests.ota.fleet import NOW_NS

NOW: Final = datetime.fromtimestamp(NOW_NS // 10**9, UTC)
TOP: Final = (Targets.type, Snapshot.type, Timestamp.type)
SIGNERS: Final = [CryptoSigner.generate_ed25519() for _ in range(12)]


class OneRepository:
    """Roles can be edited freely; `publish` signs them as the next version. As a Source it gives what was published,
    and `asked` lists (role, version) of what was asked for, and artifacts by their path."""

    def __init__(self) -> None:
        self.signers: dict[str, list[CryptoSigner]] = {}
        self.roles: dict[str, Metadata[Any]] = {
            Targets.type: Metadata(Targets(expires=self.soon(30))),
            Snapshot.type: Metadata(Snapshot(expires=self.soon(30))),
            Timestamp.type: Metadata(Timestamp(expires=self.soon(30))),
            Root.type: Metadata(Root(expires=self.soon(365))),
        }
        self.published: dict[str, list[bytes]] = {}
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, int | None]] = []
        self.fetched: list[str] = []
        self.has_hashes = False
        self._left = list(SIGNERS)
        for role in (*TOP, Root.type):
            self.rotate(role)
        self.publish(*TOP, Root.type)

    @staticmethod
    def soon(days: float) -> datetime:
        return NOW + timedelta(days=days)

    # --- the desk ---------------------------------------------------------------------------------

    @property
    def root(self) -> Root:
        root = self.of(Root.type)
        assert isinstance(root, Root)
        return root

    def of(self, role: str) -> Any:
        return self.roles[role].signed

    def signer(self) -> CryptoSigner:
        signer = self._left.pop()
        # Its key is edited by tests; the private half may be shared.
        return CryptoSigner(signer._private_key, copy.deepcopy(signer.public_key))

    def rotate(self, role: str, threshold: int = 1, keys: int = 1) -> None:
        """Other keys for one of the four roles."""
        self.root.roles[role].keyids.clear()
        self.signers[role] = [self.signer() for _ in range(keys)]
        self.root.roles[role].threshold = threshold
        for signer in self.signers[role]:
            self.root.add_key(signer.public_key, role)

    def publish(self, *roles: str) -> None:
        for role in roles:
            signed = self.of(role)
            signed.version = len(self.published.setdefault(role, [])) + 1
            self.put(role, self.signed(role))
            about = self.about(role)
            if role == Snapshot.type:
                self.of(Timestamp.type).snapshot_meta = about
            elif role not in (Root.type, Timestamp.type):
                self.of(Snapshot.type).meta[f"{role}.json"] = about

    def about(self, role: str) -> MetaFile:
        data = self.published[role][-1]
        hashes = {"sha256": hashlib.sha256(data).hexdigest()} if self.has_hashes else None
        return MetaFile(self.of(role).version, len(data) if self.has_hashes else None, hashes)

    def signed(self, role: str, by: Iterable[CryptoSigner] | None = None) -> bytes:
        metadata = self.roles[role]
        metadata.signatures.clear()
        for signer in self.signers[role] if by is None else by:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def put(self, role: str, data: bytes) -> None:
        self.published.setdefault(role, []).append(data)

    def edited(self, role: str, edit: Callable[[Any], None]) -> None:
        """The newest file of a role, changed after it was signed."""
        content = json.loads(self.published[role].pop())
        edit(content)
        self.put(role, json.dumps(content).encode())

    def begin_anew(self, role: str) -> None:
        """Its versions start at 1 again."""
        del self.published[role]

    def delegate(
        self, to: str, paths: Sequence[str] = ("*",), by: str = Targets.type, terminating: bool = False
    ) -> None:
        """Of a role that others delegate to already another key is named, which never signs."""
        if self.of(by).delegations is None:
            self.of(by).delegations = Delegations({}, roles={})
        self.of(by).delegations.roles[to] = DelegatedRole(to, [], 1, terminating, list(paths))
        signer = self.signer()
        self.of(by).add_key(signer.public_key, to)
        self.signers.setdefault(to, [signer])
        self.roles.setdefault(to, Metadata(Targets(expires=self.soon(30))))

    def add(
        self, path: str, content: bytes, role: str = Targets.type, hashes: Sequence[str] = ("sha256",)
    ) -> TargetFile:
        target = TargetFile.from_data(path, content, list(hashes))
        self.of(role).targets[path] = target
        self.files[path] = content
        return target

    # --- the source -------------------------------------------------------------------------------

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        first, _, rest = path.partition("/")
        data = self._metadata(rest) if first == "metadata" else self._artifact(rest)
        yield data[offset : offset + most]

    def _metadata(self, name: str) -> bytes:
        base = name.removesuffix(".json")
        number, _, role = base.partition(".")
        version = int(number) if number.isdecimal() and role else None
        role = unquote(role if version is not None else base)
        self.asked.append((role, version))
        kept = self.published.get(role, [])
        if not kept or (version is not None and not 1 <= version <= len(kept)):
            raise NotThere(f"There is no {name}.")
        return kept[-1] if version is None else kept[version - 1]

    def _artifact(self, path: str) -> bytes:
        folder, slash, name = path.rpartition("/")
        name = name.partition(".")[2] if self.root.consistent_snapshot else name
        self.fetched.append(f"{folder}{slash}{name}")
        if self.fetched[-1] not in self.files:
            raise NotThere(f"There is no {path}.")
        return self.files[self.fetched[-1]]

    def close(self) -> None: ...
