"""Whom an update is believed from: both Uptane repositories verified in full, and that they agree about this vehicle.

Full verification (Uptane standard 2.1.0 section 5.4.4.2) by two clients of python-tuf, one a repository, and what TUF
leaves open: that the director's metadata names this vehicle, that both name the same bytes, that nothing sinks below
floors which survive a power cut, and a clock that is an argument. The metadata cache is one file, replaced whole after
everything held; a refusal changes nothing on disk.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from tuf.api.metadata import TargetFile, Targets

from ecu.clock import SECOND_NS, Clock
from ecu.disk import Disk, DiskError, DiskFault, DiskFull, replace_file
from ecu.scratch import scratch_folder
from ota.apart import shared_key
from ota.errors import Flaw, OtaError, TrustError
from ota.floors import Floors
from ota.kinds import Kind
from ota.layout import DIRECTOR, IMAGE, VEHICLE_FIELD, published, target_path
from ota.source import Source
from ota.tufclient import TufRepository, date_of

ANY_HARDWARE: Final = "any"
_CACHE: Final = "metadata.cache"
_SHA256_BYTES: Final = 32


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

    python-tuf works below `scratch`, a folder in memory or the computer's temporary one unless told otherwise; nothing
    stays there.
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
                f"The clock says {date_of(now_s)}, but metadata was signed on {date_of(self._floors.signed_at_s)}. "
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
        with scratch_folder("outrider-metadata-", self._scratch) as scratch:
            _unpack(self._cached(), scratch)
            director = TufRepository(DIRECTOR, self._roots.director, scratch / DIRECTOR, source, now_s)
            image = TufRepository(IMAGE, self._roots.image, scratch / IMAGE, source, now_s)
            return _Look(
                offers=self._agreed(director.targets, image),
                files=_pack(scratch),
                versions={**director.versions(), **image.versions(tuple(Kind))},
                signed_at_s=max(director.signed_at_s, image.signed_at_s),
            )

    def _agreed(self, directed: Targets, image: TufRepository) -> tuple[Offer, ...]:
        named = directed.unrecognized_fields.get(VEHICLE_FIELD)
        if named != self._vehicle.name:
            flaw = Flaw.OTHER_VEHICLE if isinstance(named, str) else Flaw.NO_VEHICLE
            raise TrustError(flaw, f"the director's targets are for {named}, this is {self._vehicle.name}")
        if directed.delegations is not None:
            raise TrustError(Flaw.DELEGATING_DIRECTOR, "the director's targets delegate, which a director's never do")
        if shared := shared_key(_public_keys(image.targets)):
            raise TrustError(Flaw.JUDGE_IN_OWN_CAUSE, f"in the image repository {shared}")
        offers = [self._offer(target, image) for _, target in sorted(directed.targets.items())]
        kinds = [offer.kind for offer in offers]
        if len(set(kinds)) != len(kinds):
            raise TrustError(Flaw.TWO_OF_A_KIND, f"the director names two releases of one kind: {', '.join(kinds)}")
        return tuple(offers)

    def _offer(self, wanted: TargetFile, image: TufRepository) -> Offer:
        kind = _kind_of(wanted.path)
        target = image.target(wanted.path)
        if target is None:
            raise TrustError(Flaw.DIRECTOR_ALONE, f"the director names {wanted.path}, which no {kind} key has signed")
        if (flaw := _disagreement(wanted, target)) is not None:
            raise TrustError(
                flaw,
                f"director and image repository disagree about {wanted.path}: {_brief(wanted)} and {_brief(target)}",
            )
        custom = _custom_of(target)
        if not {ANY_HARDWARE, self._vehicle.hardware} & set(custom.hardware):
            raise TrustError(
                Flaw.OTHER_HARDWARE,
                f"{wanted.path} is for {', '.join(custom.hardware)}, this is {self._vehicle.hardware}",
            )
        sha256 = target.hashes.get("sha256", "")
        if published(target_path(target.path, sha256), self._vehicle.name) is None:
            raise TrustError(Flaw.UNASKABLE_NAME, f"{target.path} has a name or a SHA-256 that nobody can ask for")
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
        name: frozenset(str(keys[key].keyval.get("public", "")).strip() for key in role.keyids if key in keys)
        for name, role in roles.items()
    }


class _Custom(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    release: int
    hardware: list[str]


def _kind_of(path: str) -> Kind:
    kind = path.partition("/")[0]
    if kind not in set(Kind):
        raise TrustError(Flaw.UNKNOWN_KIND, f"the director names {path}, which is of no kind that is known here")
    return Kind(kind)


def _custom_of(target: TargetFile) -> _Custom:
    try:
        custom = msgspec.convert(target.custom, _Custom)
    except msgspec.ValidationError as error:
        raise TrustError(Flaw.NO_CUSTOM, f"{target.path} says no release and hardware: {error}") from error
    return custom


def _disagreement(wanted: TargetFile, target: TargetFile) -> Flaw | None:
    """In what two repositories differ about one target."""
    if wanted.length != target.length:
        return Flaw.OTHER_LENGTH
    if wanted.hashes != target.hashes:
        return Flaw.OTHER_HASH
    return None if wanted.custom == target.custom else Flaw.OTHER_CUSTOM


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
