"""What can be worth telling: the closed set of events, the lanes they travel in, the purposes they serve.

An event's fields are the wire's fields (docs/formats/records.md); a purpose is what its owner consented to.
Stamps are boot time; `Record.wall_ns` is what the computer believed the wall clock was, and may be repaired later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from itertools import repeat
from types import MappingProxyType
from typing import Final, TypeVar, Union

import msgspec

from ecu.errors import OutriderError
from telemetry.federated.update import ModelUpdate


class TelemetryError(OutriderError):
    """Anything telemetry can go wrong with. Bugs aren't TelemetryErrors."""


class Lane(IntEnum):
    """Four priorities. A lower one never delays a higher one, and is evicted first."""

    P0 = 0  # now: safety events
    P1 = 1  # soon: what was noticed
    P2 = 2  # steady: periodic summaries
    P3 = 3  # bulk: pictures, updates of learning


COMMIT_WITHIN_NS: Final[dict[Lane, int]] = {
    Lane.P0: 50_000_000,
    Lane.P1: 200_000_000,
    Lane.P2: 1_000_000_000,
    Lane.P3: 2_000_000_000,
}
"""How soon a record is durable: the most a power cut can take from each lane."""

COMMIT_AFTER_NS: Final[dict[Lane, int]] = {
    Lane.P0: 20_000_000,
    Lane.P1: 170_000_000,
    Lane.P2: 950_000_000,
    Lane.P3: 1_900_000_000,
}
"""How long a record waits for others before its commit begins: what is left until then is for flash."""


class Purpose(IntEnum):
    """What a record is for. Consent, keys and purging go by purpose; the numbers are on the wire."""

    SAFETY = 1
    DRIVING = 2
    PERCEPTION = 3
    OPERATION = 4
    LEARNING = 5


class TimeSource(StrEnum):
    """Why wall time is believed."""

    UNPROVEN = "unproven"  # the computer's own clock says so
    CERTIFICATES = "certificates"  # a receiver's certificate holds by it
    RECEIVER = "receiver"  # the receiver said and signed it


class Event(msgspec.Struct, frozen=True, tag_field="kind"):
    """Root of what can be told."""


E = TypeVar("E", bound=Event)


class VehicleSummary(Event, frozen=True, tag="vehicle_summary"):
    """Signals by VSS path (COVESA VSS 4), last known value each; units are VSS's own."""

    signals: dict[str, float]


class PerceptionSummary(Event, frozen=True, tag="perception_summary"):
    """What the camera's view held since the last summary."""

    camera: str
    last_frame_id: int
    frames: int
    tracks: int
    classes: dict[str, int]
    mean_score: float


class NewTrack(Event, frozen=True, tag="new_track"):
    """Something was seen for long enough to be believed. `box` is xyxy in pixels of the camera's frame."""

    camera: str
    frame_id: int
    track_id: int
    label: str
    score: float
    box: tuple[float, float, float, float]


class LowConfidence(Event, frozen=True, tag="low_confidence"):
    """A steady track that the detector isn't sure of: the frames worth learning from."""

    camera: str
    frame_id: int
    track_id: int
    label: str
    score: float


class HardBrake(Event, frozen=True, tag="hard_brake"):
    """Deceleration beyond the limit. `speed_kmh` is at the start, None when unknown or withheld; `signals` are the
    other last known values by VSS path, position among them if the vehicle told it."""

    deceleration_ms2: float
    speed_kmh: float | None
    signals: dict[str, float]


class Health(Event, frozen=True, tag="health"):
    """The runtime's own faults: a worker replaced, a camera lost, the clock mistrusted."""

    what: str
    detail: str


class UpdateReport(Event, frozen=True, omit_defaults=True, tag="update_report"):
    """What became of a release on this vehicle. `what` is "refused", "slow" when its source trickles, the state its
    trial reached, or "damaged" when it was kept and another boots now; `attack` is the attack class of the first two,
    else empty, and so are the others where they aren't known. `manifest` is the vehicle's signed version manifest just
    then (docs/formats/version-manifest.md), left out where there is none."""

    what: str
    unit: str
    title: str
    digest: str
    attack: str
    words: str
    manifest: bytes = b""


class PictureTaken(Event, frozen=True, tag="picture_taken"):
    """A redacted picture is on flash and follows by its own way (docs/formats/objects.md). `sha256` is the JPEG's, in
    hex; `width` and `height` in pixels; `covered`: regions made unrecognizable; `reason`: what it was taken for."""

    camera: str
    frame_id: int
    sha256: str
    bytes: int
    width: int
    height: int
    covered: int
    reason: str


class Learned(Event, frozen=True, tag="learned"):
    """What this vehicle learned from its own examples (docs/formats/federated.md)."""

    update: ModelUpdate


class ClockAnchor(Event, frozen=True, tag="clock_anchor"):
    """Ties boot time to wall time: at `boot_ns` of the boot named `boot` this computer held wall time for `wall_ns`,
    for a reason (TimeSource) that makes it right within `within_ms`, which is 0 where nothing does. `epochs`, in hex by
    lane's name, are those of the spool since its last opening: their records are of this boot."""

    boot: str
    boot_ns: int
    wall_ns: int
    source: str
    within_ms: int
    epochs: dict[str, str]


class SignalBlock(Event, frozen=True, tag="signal_block"):
    """Samples that a campaign wanted (docs/formats/columns.md); `captured_ns` of its record is the first one's time."""

    campaign: str
    revision: int
    columns: bytes


class Triggered(Event, frozen=True, tag="triggered"):
    """A campaign's trigger, at the record's `captured_ns`. `number` counts the campaign's triggers since the vehicle
    began with it, and ties blocks and pictures to this one; `signals` are the last known values of what the campaign
    wants, by VSS path."""

    campaign: str
    revision: int
    number: int
    why: str
    signals: dict[str, float]


class LastKnownState(Event, frozen=True, tag="last_known_state"):
    """The last value of each signal that a campaign wants, by VSS path, and how old it is, milliseconds."""

    campaign: str
    revision: int
    signals: dict[str, tuple[float, int]]


class RecordsLeft(Event, frozen=True, tag="records_left"):
    """Records of this vehicle that will never arrive: `ranges` of numbers (half-open) in one lane's epoch, and why.
    `unranged`: as many more of the lane, whose numbers aren't known any more (their epoch is then empty)."""

    lane: int
    epoch: bytes
    reason: str
    ranges: list[tuple[int, int]]
    unranged: int


AnyEvent = Union[  # noqa: UP007
    VehicleSummary, PerceptionSummary, NewTrack, LowConfidence, HardBrake, Health, UpdateReport, PictureTaken, Learned,
    SignalBlock, Triggered, LastKnownState, RecordsLeft, ClockAnchor,
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Record:
    """One thing worth telling the cloud, before it has a place in a lane.

    `keep_s`: how long it is worth keeping, seconds of powered or suspended time; None: as long as its lane keeps them.
    """

    lane: Lane
    purpose: Purpose
    captured_ns: int
    event: AnyEvent
    keep_s: int | None = None


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Many records of one place at once: the n-th event was captured at the n-th stamp. `keep_s` as a Record's."""

    lane: Lane
    purpose: Purpose
    captured_ns: Sequence[int]
    events: Sequence[AnyEvent]
    keep_s: int | None = None

    def __post_init__(self) -> None:
        if len(self.captured_ns) != len(self.events):
            raise ValueError(f"{len(self.events)} events have {len(self.captured_ns)} stamps")


PLACES: Final[Mapping[type[Event], tuple[Lane, Purpose]]] = MappingProxyType(
    {
        HardBrake: (Lane.P0, Purpose.SAFETY),
        NewTrack: (Lane.P1, Purpose.PERCEPTION),
        LowConfidence: (Lane.P1, Purpose.PERCEPTION),
        Health: (Lane.P1, Purpose.OPERATION),
        UpdateReport: (Lane.P1, Purpose.OPERATION),
        RecordsLeft: (Lane.P1, Purpose.OPERATION),
        ClockAnchor: (Lane.P1, Purpose.OPERATION),
        VehicleSummary: (Lane.P2, Purpose.DRIVING),
        PerceptionSummary: (Lane.P2, Purpose.PERCEPTION),
        PictureTaken: (Lane.P3, Purpose.PERCEPTION),
        Learned: (Lane.P3, Purpose.LEARNING),
    }
)
"""Where each kind travels and what it is for."""


def record_of(captured_ns: int, event: AnyEvent) -> Record:
    """The event in the place that its kind has."""
    lane, purpose = PLACES[type(event)]
    return Record(lane, purpose, captured_ns, event)


_encoder = msgspec.msgpack.Encoder(order="deterministic")
_event_decoder: msgspec.msgpack.Decoder[AnyEvent] = msgspec.msgpack.Decoder(AnyEvent)


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """A record as it lies in a block: the wire's form of it."""

    captured_ns: int
    wall_ns: int
    event: msgspec.Raw


class _Fresh(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A Stored whose event has no bytes yet."""

    captured_ns: int
    wall_ns: int
    event: AnyEvent


_stored_decoder = msgspec.msgpack.Decoder(list[Stored])
_raw_decoder = msgspec.msgpack.Decoder(list[msgspec.Raw])


def kind_of(event: Event) -> str:
    """The event's name on the wire, e.g. "hard_brake"."""
    return tag_of(type(event))


def tag_of(kind: type[Event]) -> str:
    """As `kind_of`, of the kind itself."""
    return str(kind.__struct_config__.tag)


def encode_event(event: AnyEvent) -> bytes:
    """The event's canonical bytes: the same event always gives the same ones (law 7)."""
    return _encoder.encode(event)


def decode_event(data: bytes) -> AnyEvent:
    """Raises msgspec.DecodeError (ValidationError is one) for all bytes that aren't an event of this version."""
    with _decode_errors_only():
        return _event_decoder.decode(data)


def events_in(records: Iterable[Stored], kind: type[E]) -> Iterator[E]:
    """Those of one kind, without reading the many others; what another version wrote is passed over."""
    tag = tag_of(kind).encode()
    for record in records:
        if tag not in bytes(record.event):
            continue
        try:
            event = decode_event(record.event)
        except msgspec.DecodeError:
            continue
        if isinstance(event, kind):
            yield event


def encode_records(records: Sequence[Stored]) -> bytes:
    return _encoder.encode(records)


def encode_one(captured_ns: int, wall_ns: int, event: AnyEvent) -> bytes:
    """A record as it lies in a list of them."""
    return _encoder.encode(_Fresh(captured_ns, wall_ns, event))


def encode_run(captured_ns: Sequence[int], wall_ns: int, events: Sequence[AnyEvent]) -> bytes:
    """Records as they lie in a list, one behind the other."""
    listed = _encoder.encode(list(map(_Fresh, captured_ns, repeat(wall_ns), events)))
    return listed[len(list_head(len(events))) :]


def list_head(count: int) -> bytes:
    """What precedes that many records in a list (MessagePack's array formats, the shortest)."""
    if count < 16:
        return bytes([0x90 | count])
    return b"\xdc" + count.to_bytes(2, "big") if count < 1 << 16 else b"\xdd" + count.to_bytes(4, "big")


def first_of_run(wanted: int, count: int, run: bytes) -> bytes:
    """The first `wanted` of the `count` records in it."""
    return b"".join(bytes(raw) for raw in _raw_decoder.decode(list_head(count) + run)[:wanted])


def digests_of_run(count: int, run: bytes) -> list[bytes]:
    """`record_digest` of each record in it."""
    return [hashlib.sha256(raw).digest() for raw in _raw_decoder.decode(list_head(count) + run)]


def record_digest(record: Stored) -> bytes:
    """SHA-256 of the record's own bytes in a block: what a witness compares at both ends of the way."""
    return hashlib.sha256(_encoder.encode(record)).digest()


def count_records(data: bytes) -> int:
    """How many records the list says it has, before any is made of it (MessagePack's array formats). Raises
    msgspec.DecodeError when `data` begins no list."""
    match data[:1]:
        case b"\xdc":
            return int.from_bytes(data[1:3], "big")
        case b"\xdd":
            return int.from_bytes(data[1:5], "big")
        case first if b"\x90" <= first <= b"\x9f":
            return first[0] & 0x0F
        case _:
            raise msgspec.DecodeError("it begins no array")


def decode_records(data: bytes) -> list[Stored]:
    """Raises msgspec.DecodeError (ValidationError is one) when `data` isn't a list of records."""
    with _decode_errors_only():
        return _stored_decoder.decode(data)


@contextmanager
def _decode_errors_only() -> Iterator[None]:
    """msgspec has other errors of its own for text that isn't UTF-8 and for nesting without end."""
    try:
        yield
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
