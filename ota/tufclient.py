"""One repository of The Update Framework, verified in full by python-tuf, its refusals told by their exact flaw.

What python-tuf leaves open is done here: the clock is an argument, bytes come from a Source, a rotation of the keys
that are online forgets what was signed with them (TUF specification 5.3.11, recovery from fast-forward attacks), and
versions are told by the keys that they are floors of. Nothing here is durable: whoever asks keeps what was verified.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater

from ecu.errors import shown
from ota.errors import FetchError, Flaw, NotThere, OtaError, TrustError
from ota.layout import SIGNED_AT_FIELD
from ota.source import Source

_BASE: Final = "repository:"
_MOST_VERSION: Final = 1 << 53
_EXPIRED: Final = re.compile(r".*?(\S+?)(?:\.json)? is expired")
_FILE: Final = re.compile(r"(?:.*/)?(?:\d+\.)?(.+?)\.json", re.ASCII | re.DOTALL)
_NUMBERED: Final = re.compile(r"[a-z]+/(\d{1,400})\.", re.ASCII)
_TOP: Final = (Root.type, Timestamp.type, Snapshot.type, Targets.type)

_EXPIRED_FLAWS: Final = {
    Root.type: Flaw.ROOT_EXPIRED,
    Timestamp.type: Flaw.TIMESTAMP_EXPIRED,
    Snapshot.type: Flaw.SNAPSHOT_EXPIRED,
    Targets.type: Flaw.TARGETS_EXPIRED,
}
_CHANGED_FLAWS: Final = {
    Root.type: Flaw.CHANGED_ROOT,
    Timestamp.type: Flaw.CHANGED_TIMESTAMP,
    Snapshot.type: Flaw.CHANGED_SNAPSHOT,
    Targets.type: Flaw.CHANGED_TARGETS,
}
_OLDER_FLAWS: Final = {
    Root.type: Flaw.ROOT_ROLLBACK,
    Timestamp.type: Flaw.TIMESTAMP_ROLLBACK,
    Snapshot.type: Flaw.SNAPSHOT_ROLLBACK,
    Targets.type: Flaw.TARGETS_ROLLBACK,
}
_OTHER_FLAWS: Final = {
    Root.type: Flaw.ROOT_OUT_OF_ORDER,
    Timestamp.type: Flaw.SNAPSHOT_ROLLBACK,
    Snapshot.type: Flaw.OTHER_SNAPSHOT,
    Targets.type: Flaw.OTHER_TARGETS,
}
# What python-tuf tells in words alone (ngclient/_internal/trusted_metadata_set.py; a test holds each of them to this).
_FLAWS_BY_WORDS: Final = (
    ("is missing info for", Flaw.ROLE_WITHDRAWN),
    ("not part of snapshot", Flaw.UNLISTED_ROLE),
    ("does not contain information for", Flaw.UNLISTED_ROLE),
    ("Expected '", Flaw.OTHER_TYPE),
)


@dataclass(frozen=True, slots=True)
class _TopLevel:
    """The four roles as they were verified just now."""

    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets


class TufRepository:
    """The repository `name` of a source, verified from `root` on. Made, it is refreshed.

    It works in `folder`, where it finds what earlier looks have verified and leaves all that this one has, also when it
    raises: TrustError, FetchError, or OSError where the folder can't be used.
    """

    def __init__(self, name: str, root: bytes, folder: Path, source: Source, now_s: int) -> None:
        self._name = name
        self._folder = folder
        self._folder.mkdir(exist_ok=True)
        self._fetcher = _Fetcher(source)
        self._root = root
        self._now_s = now_s
        with self._told_by_flaw():
            self._client = self._refreshed()
        # Read at once, before a delegated role may be kept under one of these names.
        self._top = _TopLevel(
            Metadata[Root].from_bytes(self._kept(Root.type)).signed,
            Metadata[Timestamp].from_bytes(self._kept(Timestamp.type)).signed,
            Metadata[Snapshot].from_bytes(self._kept(Snapshot.type)).signed,
            Metadata[Targets].from_bytes(self._kept(Targets.type)).signed,
        )

    @property
    def targets(self) -> Targets:
        return self._top.targets

    @property
    def has_hashes_in_names(self) -> bool:
        """Whether a target lies under its hash, too (TUF specification section 7)."""
        return bool(self._top.root.consistent_snapshot)

    @property
    def signed_at_s(self) -> int:
        """When its timestamp says that it was signed; 0 when it says nothing."""
        stamp = self._top.timestamp.unrecognized_fields.get(SIGNED_AT_FIELD)
        # A boolean is an int to Python, and no number to the floors that it would be kept in.
        return stamp if type(stamp) is int else 0

    def target(self, path: str) -> TargetFile | None:
        """What the roles that are trusted for it say; None when none of them names it."""
        # The library keeps one file a role, whoever vouched for it last, and takes it for all who ever did. Each target
        # is searched from the targets on, so that no delegator answers for another's word (a test holds it to this).
        trusted = self._client._trusted_set
        trusted._trusted_delegations = {pair for pair in trusted._trusted_delegations if pair[0] == Root.type}
        with self._told_by_flaw():
            return self._client.get_targetinfo(path)

    def versions(self, delegated: Sequence[str] = ()) -> dict[str, int]:
        """Verified versions by "repository/role#keys", of the four roles and those of `delegated` that the targets
        name.

        With other keys a role begins anew, or a rotation after a theft of keys could never bring versions back to where
        they should be. The keys of timestamp and snapshot count for every role: whoever holds these can name any
        version of it (TUF specification 5.3.11).
        """
        root = self._top.root
        versions = {f"{self._name}/{Root.type}": root.version}
        for signed in (self._top.timestamp, self._top.snapshot, self._top.targets):
            versions[self._floor(signed.type, root.roles[signed.type].keyids)] = signed.version
        delegations = self._top.targets.delegations
        named = delegations.roles or {} if delegations is not None else {}
        for role in delegated:
            if role in named and (version := self._version_by_todays_keys(role)) is not None:
                versions[self._floor(role, named[role].keyids)] = version
        for role, version in versions.items():
            if type(version) is not int or version > _MOST_VERSION:
                raise TrustError(
                    Flaw.VERSION_OUT_OF_RANGE,
                    f"the version of {role.partition('#')[0]} is no number up to {_MOST_VERSION}",
                )
        return versions

    def _floor(self, role: str, keys: Sequence[str]) -> str:
        online = [self._top.root.roles[its].keyids for its in (Timestamp.type, Snapshot.type)]
        named = "\n\n".join("\n".join(sorted(its)) for its in (*online, keys))
        return f"{self._name}/{role}#{hashlib.sha256(named.encode()).hexdigest()[:16]}"

    def _version_by_todays_keys(self, role: str) -> int | None:
        """None when nobody asked for the role in this look and what an earlier one kept is by other keys: it must not
        become the floor of the keys that came in their place."""
        try:
            kept = Metadata[Targets].from_bytes(self._kept(role))
            self._top.targets.verify_delegate(role, kept.signed_bytes, kept.signatures)
        except RepositoryError:
            return None
        return kept.signed.version

    # --- one look ---------------------------------------------------------------------------------

    def _refreshed(self) -> Updater:
        before = self._newest_kept_root()
        try:
            return self._refresh()
        except RepositoryError:
            if _online_keys(self._kept(Root.type)) == _online_keys(before):
                raise
            # A new root gave them other keys: what the old keys signed forbids nothing any more.
            for role in (Timestamp.type, Snapshot.type):
                (self._folder / f"{role}.json").unlink(missing_ok=True)
            return self._refresh()

    def _refresh(self) -> Updater:
        client = Updater(str(self._folder), f"{_BASE}{self._name}/", fetcher=self._fetcher, bootstrap=self._root)
        # The library takes the computer's clock when it is made; ours is an argument (a test holds it to this).
        client._trusted_set.reference_time = datetime.fromtimestamp(self._now_s, UTC)
        client.refresh()
        return client

    def _newest_kept_root(self) -> bytes:
        history = self._folder / "root_history"
        names = os.listdir(history) if history.is_dir() else []
        newest = max((int(name.partition(".")[0]) for name in names), default=None)
        return self._root if newest is None else (history / f"{newest}.root.json").read_bytes()

    def _kept(self, role: str) -> bytes:
        path = self._folder / f"{quote(role, '')}.json"
        return path.read_bytes() if path.is_file() else b""

    # --- refusals ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _told_by_flaw(self) -> Iterator[None]:
        try:
            yield
        except RepositoryError as error:
            raise self._refusal(error) from error
        except DownloadError as error:
            told = self._let_down(error)
            # What the source raised keeps its own reason: whoever asks tells its errors apart by it.
            raise told from (told.__cause__ if told is error.__cause__ else error)

    def _let_down(self, error: DownloadError) -> OtaError:
        if isinstance(error, DownloadLengthMismatchError):
            return TrustError(Flaw.ENDLESS_METADATA, f"{self._fetcher.last_path} goes on beyond its limit")
        named = _NUMBERED.match(self._fetcher.last_path)
        if named and int(named[1]) > _MOST_VERSION:
            return TrustError(
                Flaw.VERSION_OUT_OF_RANGE, f"{self._fetcher.last_path} is named, of no version up to {_MOST_VERSION}"
            )
        cause = error.__cause__
        return cause if isinstance(cause, FetchError) and not isinstance(cause, NotThere) else FetchError(str(error))

    def _refusal(self, error: RepositoryError) -> TrustError:
        path, data = self._fetcher.last_path or f"{self._name}/root.json as delivered", self._fetcher.last
        role = _role_of(path)
        match error:
            case ExpiredMetadataError():
                return self._expired(str(error))
            case UnsignedMetadataError():
                return self._root_unsigned(path, data) if role == Root.type else self._unsigned(path, role, data)
            case BadVersionNumberError():
                return self._other_version(path, role, data, error)
            case LengthOrHashMismatchError():
                flaw = Flaw.SNAPSHOT_HASH if role == Snapshot.type else Flaw.TARGETS_HASH
            case _:
                flaw = next((flaw for words, flaw in _FLAWS_BY_WORDS if words in str(error)), Flaw.NOT_METADATA)
        return TrustError(flaw, f"{path}: {error}")

    def _expired(self, words: str) -> TrustError:
        told = _EXPIRED.fullmatch(words)
        role = told[1] if told else "metadata"
        data = self._fetcher.by_role.get(role) or self._kept(role)
        ended = _signed_part(data).get("expires", "?") if data else "?"
        return TrustError(
            _EXPIRED_FLAWS.get(role, Flaw.DELEGATED_EXPIRED),
            f"{self._name}/{role} expired on {ended}, today is {date_of(self._now_s)}",
        )

    def _other_version(self, path: str, role: str, data: bytes, error: BadVersionNumberError) -> TrustError:
        seen, offered = _version_of(self._kept(role)), _version_of(data)
        if offered is not None and seen is not None and offered < seen:
            flaw = _OLDER_FLAWS.get(role, Flaw.DELEGATED_ROLLBACK)
            return TrustError(flaw, f"offered {path} version {offered}, seen {seen}")
        if role == Snapshot.type and (fallen := self._fallen_role(data)) is not None:
            flaw = Flaw.TARGETS_ROLLBACK if fallen == Targets.type else Flaw.DELEGATED_ROLLBACK
            return TrustError(flaw, f"{path} names an older {fallen} than was seen: {error}")
        return TrustError(_OTHER_FLAWS.get(role, Flaw.OTHER_DELEGATED), f"{path}: {error}")

    def _fallen_role(self, snapshot: bytes) -> str | None:
        """A role of which a new snapshot names an older version than the one that is kept."""
        new, kept = _signed_part(snapshot).get("meta", {}), _signed_part(self._kept(Snapshot.type)).get("meta", {})
        fallen = (name for name, its in kept.items() if new.get(name, {}).get("version", 0) < its.get("version", 0))
        name = next(fallen, None)
        return None if name is None else name.removesuffix(".json")

    def _unsigned(self, path: str, role: str, data: bytes) -> TrustError:
        owners = self._owners()
        wanted, by = owners.get(role, _Owner()), _signers_of(data)
        right = len(by & wanted.keys)
        if right >= wanted.threshold:
            flaw = _CHANGED_FLAWS.get(role, Flaw.CHANGED_DELEGATED)
            return TrustError(flaw, f"{path} isn't what its {role} key signed")
        if right:
            return TrustError(
                Flaw.TOO_FEW_SIGNERS, f"{path} is signed by {right} of the {wanted.threshold} keys that {role} needs"
            )
        if not by:
            return TrustError(Flaw.UNSIGNED, f"{path} is signed by nobody")
        others = sorted(other for other, its in owners.items() if its.keys & by)
        flaw = Flaw.STRANGERS_KEY
        if others:
            flaw = Flaw.OTHER_ROLES_KEY if others[0] in _TOP or role in _TOP else Flaw.OTHER_KINDS_KEY
        return TrustError(
            flaw, f"{path} is signed by {'the ' + others[0] + ' key' if others else 'a stranger'}, not by {role}"
        )

    def _root_unsigned(self, path: str, data: bytes) -> TrustError:
        """A root is signed by the keys of the one before, and by its own."""
        new, by = _root_owner(data), _signers_of(data)
        old = _root_owner(self._kept(Root.type)) or new
        flaw, words = Flaw.CHANGED_ROOT, "isn't what its root key signed, or too few have signed it"
        if not by & (old.keys | new.keys):
            flaw, words = Flaw.STRANGERS_ROOT, "is signed by a stranger, not by root"
        elif not by & old.keys:
            flaw, words = Flaw.ROOT_BY_NEW_KEYS, "isn't signed by the keys of the root before"
        elif not by & new.keys:
            flaw, words = Flaw.ROOT_BY_OLD_KEYS, "isn't signed by the keys that it names itself"
        elif len(by & old.keys) < old.threshold or len(by & new.keys) < new.threshold:
            flaw = Flaw.TOO_FEW_SIGNERS
        return TrustError(flaw, f"{path} {words}")

    def _owners(self) -> dict[str, _Owner]:
        """The keys of each role, as far as they are known by now."""
        root, targets = _signed_part(self._kept(Root.type)), _signed_part(self._kept(Targets.type))
        owners = {role: _Owner.of(its) for role, its in root.get("roles", {}).items()}
        listed = (targets.get("delegations") or {}).get("roles", [])
        return owners | {str(its["name"]): _Owner.of(its) for its in listed}


@dataclass(frozen=True, slots=True)
class _Owner:
    """The key ids of a role, and how many of them must sign."""

    keys: frozenset[str] = frozenset()
    threshold: int = 1

    @classmethod
    def of(cls, role: dict[str, Any]) -> _Owner:
        return cls(frozenset(role["keyids"]), role["threshold"])

    def __bool__(self) -> bool:
        return bool(self.keys)


class _Fetcher(FetcherInterface):
    """A Source as python-tuf wants it, which remembers what it last brought: refusals are told with its numbers."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.last_path = ""
        self.last = b""
        self.by_role: dict[str, bytes] = {}

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = url.removeprefix(_BASE)
        self.last_path = path
        try:
            # Whoever asks has its own limit and stops reading there.
            yield from self._source.read(path, 0, 1 << 30)
        except NotThere as error:
            raise DownloadHTTPError(str(error), 404) from error
        # The library makes a DownloadError of anything else, whose cause it is.

    def download_bytes(self, url: str, max_length: int) -> bytes:
        # Not by the library's own way, which goes through a file of the computer's temporary folder.
        self.last, data = b"", bytearray()
        for part in self.fetch(url):
            data += part
            if len(data) > max_length:
                raise DownloadLengthMismatchError(f"{url} has more than {max_length} bytes")
        self.last = self.by_role[_role_of(self.last_path)] = bytes(data)
        _demand_single_keys(self.last)
        return self.last


def _demand_single_keys(data: bytes) -> None:
    """Raises RepositoryError for JSON that says a thing twice: which of the two was signed would be each reader's own
    choice (RFC 8259 section 4). What isn't JSON at all is told by who reads it."""
    with contextlib.suppress(ValueError, RecursionError):
        json.loads(data, object_pairs_hook=_single)


def _single(pairs: list[tuple[str, Any]]) -> None:
    seen = set[str]()
    for key, _ in pairs:
        # In one pass, at the first repeat: it is done for bytes that nobody has signed yet, and there may be megabytes.
        if key in seen:
            raise RepositoryError(f"it says {shown(key)!r} twice")
        seen.add(key)


# --- metadata as plain JSON: for words about what was refused, and never to decide by ------------------


def _content(data: bytes) -> dict[str, Any]:
    """{} when it isn't even JSON."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _signed_part(data: bytes) -> dict[str, Any]:
    signed = _content(data).get("signed") if data else None
    return signed if isinstance(signed, dict) else {}


def _signers_of(data: bytes) -> frozenset[str]:
    return frozenset(str(signature.get("keyid")) for signature in _content(data).get("signatures", []))


def _root_owner(data: bytes) -> _Owner:
    role = _signed_part(data).get("roles", {}).get(Root.type)
    return _Owner.of(role) if role else _Owner()


def _online_keys(root: bytes) -> tuple[frozenset[str], ...]:
    roles = _signed_part(root).get("roles")
    if not isinstance(roles, dict):
        return ()
    return tuple(frozenset(map(str, roles.get(role, {}).get("keyids", ()))) for role in (Timestamp.type, Snapshot.type))


def _version_of(data: bytes) -> int | None:
    version = _signed_part(data).get("version")
    return version if isinstance(version, int) else None


def _role_of(path: str) -> str:
    found = _FILE.fullmatch(path)
    return unquote(found[1]) if found else path


def date_of(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
