"""Whom an update is believed from: both Uptane repositories verified in full, and that they agree about this vehicle.

Full verification (Uptane standard 2.1.0 section 5.4.4.2) by two clients of python-tuf, one a repository, and what TUF
leaves open: that the director's metadata names this vehicle, that both name the same bytes, that nothing sinks below
floors which survive a power cut, and a clock that is an argument. The metadata cache is one file, replaced whole after
everything held; a refusal changes nothing on disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
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

from ecu.clock import SECOND_NS, Clock
from ecu.disk import Disk, DiskError, DiskFault, DiskFull, replace_file
from ota.apart import shared_key
from ota.errors import Attack, FetchError, NotThere, OtaError, TrustError
from ota.floors import Floors
from ota.kinds import Kind
from ota.layout import DIRECTOR, IMAGE, SIGNED_AT_FIELD, VEHICLE_FIELD, published, target_path
from ota.source import Source

ANY_HARDWARE: Final = "any"
_CACHE: Final = "metadata.cache"
_BASE: Final = "repository:"
_MOST_VERSION: Final = 1 << 53
_SHA256_BYTES: Final = 32
_EXPIRED: Final = re.compile(r".*?(\S+?)(?:\.json)? is expired")


class ClockUntrusted(OtaError):
    """The clock is before what verified metadata says: whether anything expired can't be told yet."""


@dataclass(frozen=True, slots=True)
class Roots:
    """The first root of each repository, from the factory or the pairing file; never from the network."""

    director: bytes
    image: bytes


@dataclass(frozen=True, slots=True)
class Vehicle:
    """Whom the director must name, and what the release must be made for."""

    name: str
    hardware: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A release that both repositories say this vehicle is to have: where its manifest is, and its exact bytes."""

    kind: Kind
    target: str
    release: int
    length: int
    sha256: str
    hardware: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look at both repositories found: offers, the metadata they follow from, and what is a floor once all of
    it held: versions by "repository/role#keys", and the second at which the newest timestamp was signed."""

    offers: tuple[Offer, ...]
    files: Mapping[str, bytes]
    versions: Mapping[str, int]
    signed_at_s: int


def _anything(offers: Sequence[Offer]) -> None:
    """Every offer passes."""


class Trust:
    """One vehicle's view. Raises TrustError, FetchError, ClockUntrusted, FloorsLost and DiskError.

    python-tuf works below `scratch`, the computer's temporary folder unless told otherwise; nothing stays there.
    """

    def __init__(
        self, disk: Disk, roots: Roots, vehicle: Vehicle, floors: Floors, clock: Clock, scratch: Path | None = None
    ) -> None:
        self._disk = disk
        self._roots = roots
        self._vehicle = vehicle
        self._floors = floors
        self._clock = clock
        self._scratch = scratch

    def refresh(self, source: Source, demand: Callable[[Sequence[Offer]], None] = _anything) -> tuple[Offer, ...]:
        """What this vehicle is to have, at most one release a kind. Metadata floors are raised when all of it held, and
        `demand`, which may refuse the offers, let them pass."""
        now_s = self._clock.wall_ns() // SECOND_NS
        if now_s < self._floors.signed_at_s:
            raise ClockUntrusted(
                f"The clock says {_date(now_s)}, but metadata was signed on {_date(self._floors.signed_at_s)}. "
                "Updates wait until the time is known."
            )
        try:
            look = self._look(source, now_s)
        except OSError as error:
            # Not the source's, which raises none, but of the folder that python-tuf works in.
            raise DiskError(
                f"Metadata can't be unpacked in the computer's temporary folder: {error.strerror or error}. Updates "
                "wait until it has space and may be written (TMPDIR)."
            ) from error
        self._floors.demand_current(look.versions)
        demand(look.offers)
        self._settle(look, now_s)
        return look.offers

    def _look(self, source: Source, now_s: int) -> _Look:
        with tempfile.TemporaryDirectory(prefix="outrider-tuf-", dir=self._scratch) as scratch:
            _unpack(self._cached(), Path(scratch))
            director = _Repository(DIRECTOR, self._roots.director, Path(scratch), source, now_s)
            image = _Repository(IMAGE, self._roots.image, Path(scratch), source, now_s)
            return _Look(
                offers=self._agreed(director.targets, image),
                files=_pack(Path(scratch)),
                versions={**director.versions(), **image.versions()},
                signed_at_s=max(director.signed_at_s, image.signed_at_s),
            )

    def _agreed(self, directed: Targets, image: _Repository) -> tuple[Offer, ...]:
        named = directed.unrecognized_fields.get(VEHICLE_FIELD)
        if named != self._vehicle.name:
            raise TrustError(
                Attack.WRONG_VEHICLE, f"the director's targets are for {named}, this is {self._vehicle.name}"
            )
        if directed.delegations is not None:
            raise TrustError(Attack.MALFORMED, "the director's targets delegate, which a director's never do")
        if shared := shared_key(_public_keys(image.targets)):
            raise TrustError(Attack.WRONG_SIGNER, f"in the image repository {shared}")
        offers = [self._offer(target, image) for _, target in sorted(directed.targets.items())]
        kinds = [offer.kind for offer in offers]
        if len(set(kinds)) != len(kinds):
            raise TrustError(Attack.MALFORMED, f"the director names two releases of one kind: {', '.join(kinds)}")
        return tuple(offers)

    def _offer(self, wanted: TargetFile, image: _Repository) -> Offer:
        kind = _kind_of(wanted.path)
        target = image.target(wanted.path)
        if target is None:
            raise TrustError(
                Attack.ARBITRARY_SOFTWARE, f"the director names {wanted.path}, which no {kind} key has signed"
            )
        if (wanted.length, wanted.hashes) != (target.length, target.hashes) or wanted.custom != target.custom:
            raise TrustError(
                Attack.ARBITRARY_SOFTWARE,
                f"director and image repository disagree about {wanted.path}: {_brief(wanted)} and {_brief(target)}",
            )
        custom = _custom_of(target)
        if not {ANY_HARDWARE, self._vehicle.hardware} & set(custom.hardware):
            raise TrustError(
                Attack.WRONG_HARDWARE,
                f"{wanted.path} is for {', '.join(custom.hardware)}, this is {self._vehicle.hardware}",
            )
        sha256 = target.hashes.get("sha256", "")
        if published(target_path(target.path, sha256), self._vehicle.name) is None:
            raise TrustError(Attack.MALFORMED, f"{target.path} has a name or a SHA-256 that nobody can ask for")
        return Offer(kind, target.path, custom.release, target.length, sha256, tuple(custom.hardware))

    def _settle(self, look: _Look, now_s: int) -> None:
        # A clock that is wrong by years must not be made a floor by one who signs with it.
        self._floors.raise_metadata(look.versions, min(look.signed_at_s, now_s))
        packed = msgspec.msgpack.encode(dict(look.files))
        encoded = hashlib.sha256(packed).digest() + packed
        if encoded != self._read_cache():
            # On a full disk everything is fetched again at the next look.
            with contextlib.suppress(DiskFull):
                replace_file(self._disk, _CACHE, encoded)

    def _cached(self) -> dict[str, bytes]:
        """What the last refresh verified; nothing when it is damaged: then everything is fetched again."""
        encoded = self._read_cache()
        digest, packed = encoded[:_SHA256_BYTES], encoded[_SHA256_BYTES:]
        if hashlib.sha256(packed).digest() != digest:
            return {}
        try:
            return msgspec.msgpack.decode(packed, type=dict[str, bytes])
        except msgspec.DecodeError:  # of another version of this runtime
            return {}

    def _read_cache(self) -> bytes:
        try:
            return self._disk.read(_CACHE) if self._disk.exists(_CACHE) else b""
        except DiskFault:
            return b""


def _public_keys(targets: Targets) -> dict[str, frozenset[str]]:
    """Of each kind. A key is known by what it is, not by the id that whoever lists it gives it."""
    delegations = targets.delegations
    roles = (delegations.roles or {}) if delegations is not None else {}
    keys = delegations.keys if delegations is not None else {}
    return {
        name: frozenset(str(keys[key].keyval.get("public", "")).strip() for key in role.keyids)
        for name, role in roles.items()
    }


class _Custom(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    release: int
    hardware: list[str]


@dataclass(frozen=True, slots=True)
class _TopLevel:
    """The four roles as they were verified just now."""

    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets


class _Repository:
    """One TUF client over a folder that lives as long as the look, its errors told by attack. Made, it is refreshed."""

    def __init__(self, name: str, root: bytes, folder: Path, source: Source, now_s: int) -> None:
        self._name = name
        self._folder = folder / name
        self._folder.mkdir(exist_ok=True)
        self._fetcher = _Fetcher(source)
        self._root = root
        self._now_s = now_s
        with self._told_by_attack():
            self._client = self._refreshed()
        # Read at once, before a delegated role may be kept under one of these names.
        self._top = _TopLevel(
            Metadata[Root].from_bytes(self._kept("root")).signed,
            Metadata[Timestamp].from_bytes(self._kept("timestamp")).signed,
            Metadata[Snapshot].from_bytes(self._kept("snapshot")).signed,
            Metadata[Targets].from_bytes(self._kept("targets")).signed,
        )

    @property
    def targets(self) -> Targets:
        return self._top.targets

    @property
    def signed_at_s(self) -> int:
        """When its timestamp says that it was signed; 0 when it says nothing."""
        stamp = self._top.timestamp.unrecognized_fields.get(SIGNED_AT_FIELD)
        # A boolean is an int to Python, and no number to the floors that it would be kept in.
        return stamp if type(stamp) is int else 0

    def target(self, path: str) -> TargetFile | None:
        """What the kinds' roles say about it; None when none of them, or not its own, names it."""
        with self._told_by_attack():
            return self._client.get_targetinfo(path)

    def versions(self) -> dict[str, int]:
        """Verified versions by "repository/role#keys": with other keys a role begins anew, or a rotation after a theft
        of keys could never bring versions back to where they should be."""
        root = self._top.root
        versions = {f"{self._name}/root": root.version}
        for role, signed in (
            ("timestamp", self._top.timestamp), ("snapshot", self._top.snapshot), ("targets", self._top.targets),
        ):  # fmt: skip
            versions[f"{self._name}/{role}#{_keys_digest(root.roles[role].keyids)}"] = signed.version
        delegations = self._top.targets.delegations
        kinds = delegations.roles or {} if delegations is not None else {}
        for kind in Kind:
            if kind in kinds and (version := self._version_by_todays_keys(kind)) is not None:
                versions[f"{self._name}/{kind}#{_keys_digest(kinds[kind].keyids)}"] = version
        for role, version in versions.items():
            if type(version) is not int or version > _MOST_VERSION:
                raise TrustError(
                    Attack.MALFORMED, f"the version of {role.partition('#')[0]} is no number up to {_MOST_VERSION}"
                )
        return versions

    def _version_by_todays_keys(self, kind: Kind) -> int | None:
        """None when nobody asked for the kind in this look and what an earlier one kept is by other keys: it must not
        become the floor of the keys that came in their place."""
        try:
            kept = Metadata[Targets].from_bytes(self._kept(kind))
            self._top.targets.verify_delegate(kind, kept.signed_bytes, kept.signatures)
        except RepositoryError:
            return None
        return kept.signed.version

    def _refreshed(self) -> Updater:
        client = Updater(str(self._folder), f"{_BASE}{self._name}/", fetcher=self._fetcher, bootstrap=self._root)
        # The library takes the computer's clock when it is made; ours is an argument (a test holds it to this).
        client._trusted_set.reference_time = datetime.fromtimestamp(self._now_s, UTC)
        client.refresh()
        return client

    @contextlib.contextmanager
    def _told_by_attack(self) -> Iterator[None]:
        try:
            yield
        except RepositoryError as error:
            raise self._refusal(error) from error
        except DownloadError as error:
            raise self._let_down(error) from error

    def _let_down(self, error: DownloadError) -> OtaError:
        if isinstance(error, DownloadLengthMismatchError):
            return TrustError(Attack.ENDLESS_DATA, f"{self._fetcher.last_path} goes on beyond its limit")
        return FetchError(str(error))

    def _refusal(self, error: RepositoryError) -> TrustError:
        path, data = self._fetcher.last_path or f"{self._name}/root.json as delivered", self._fetcher.last
        match error:
            case ExpiredMetadataError():
                return TrustError(Attack.FREEZE, self._expired(str(error)))
            case UnsignedMetadataError():
                return self._unsigned(path, data)
            case BadVersionNumberError():
                seen = self._seen_version(path)
                offered = _version_of(data)
                if offered is not None and seen is not None and offered < seen:
                    return TrustError(Attack.ROLLBACK, f"offered {path} version {offered}, seen {seen}")
                return TrustError(Attack.MIX_AND_MATCH, f"{path}: {error}")
            case LengthOrHashMismatchError():
                return TrustError(Attack.MIX_AND_MATCH, f"{path}: {error}")
            case _:
                return TrustError(Attack.MALFORMED, f"{path}: {error}")

    def _expired(self, words: str) -> str:
        told = _EXPIRED.fullmatch(words)
        role = told[1] if told else "metadata"
        data = self._fetcher.by_role.get(role) or self._kept(role)
        ended = _signed_part(data).get("expires", "?") if data else "?"
        return f"{self._name}/{role} expired on {ended}, today is {_date(self._now_s)}"

    def _unsigned(self, path: str, data: bytes) -> TrustError:
        role = _role_of(path)
        ids = {str(signature.get("keyid")) for signature in _content(data).get("signatures", [])}
        owners = self._owners()
        wanted = owners.get(role, frozenset())
        if ids & wanted:
            return TrustError(Attack.TAMPERED, f"{path} isn't what its {role} key signed, or too few have signed it")
        by = sorted(other for other, keys in owners.items() if keys & ids)
        return TrustError(
            Attack.WRONG_SIGNER, f"{path} is signed by {'the ' + by[0] + ' key' if by else 'a stranger'}, not by {role}"
        )

    def _owners(self) -> dict[str, frozenset[str]]:
        """The key ids of each role, as far as they are known by now."""
        roles: dict[str, frozenset[str]] = {}
        for name in ("root", "targets"):
            data = self._kept(name)
            signed = _signed_part(data) if data else {}
            if name == "targets":
                listed = (signed.get("delegations") or {}).get("roles", [])
                roles |= {str(role["name"]): frozenset(role["keyids"]) for role in listed}
            else:
                roles |= {role: frozenset(its["keyids"]) for role, its in signed.get("roles", {}).items()}
        return roles

    def _kept(self, role: str) -> bytes:
        path = self._folder / f"{role}.json"
        return path.read_bytes() if path.is_file() else b""

    def _seen_version(self, path: str) -> int | None:
        return _version_of(self._kept(_role_of(path)))


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
        except FetchError as error:
            raise DownloadError(str(error)) from error

    def download_bytes(self, url: str, max_length: int) -> bytes:
        # Not by the library's own way, which goes through a file of the computer's temporary folder.
        self.last, data = b"", bytearray()
        for part in self.fetch(url):
            data += part
            if len(data) > max_length:
                raise DownloadLengthMismatchError(f"{url} has more than {max_length} bytes")
        self.last = self.by_role[_role_of(self.last_path)] = bytes(data)
        return self.last


def _kind_of(path: str) -> Kind:
    kind = path.partition("/")[0]
    if kind not in set(Kind):
        raise TrustError(Attack.MALFORMED, f"the director names {path}, which is of no kind that is known here")
    return Kind(kind)


def _custom_of(target: TargetFile) -> _Custom:
    try:
        custom = msgspec.convert(target.custom, _Custom)
    except msgspec.ValidationError as error:
        raise TrustError(Attack.MALFORMED, f"{target.path} says no release and hardware: {error}") from error
    return custom


def _brief(target: TargetFile) -> str:
    return f"{target.length} bytes, SHA-256 {target.hashes.get('sha256', 'none')[:12]}"


# --- metadata files as they are kept -----------------------------------------------------------------


def _pack(folder: Path) -> dict[str, bytes]:
    """Every metadata file below the folder, by its relative path; the links that python-tuf makes aren't files."""
    paths = sorted(path for path in folder.rglob("*.json") if not path.is_symlink())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def _unpack(files: Mapping[str, bytes], folder: Path) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _keys_digest(keys: Sequence[str]) -> str:
    return hashlib.sha256("".join(sorted(keys)).encode()).hexdigest()[:16]


def _content(data: bytes) -> dict[str, Any]:
    """Metadata as plain JSON, for words about what was refused; {} when it isn't even that."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _signed_part(data: bytes) -> dict[str, Any]:
    signed = _content(data).get("signed")
    return signed if isinstance(signed, dict) else {}


def _version_of(data: bytes) -> int | None:
    version = _signed_part(data).get("version")
    return version if isinstance(version, int) else None


def _role_of(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".json").rpartition(".")[2]


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
