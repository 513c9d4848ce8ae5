"""A small vehicle for the tests of campaigns: its signals, samples of them, and an engine that shows what it tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import numpy as np

from ecu.clock import MILLISECOND_NS
from telemetry.capture.campaigns.admission import Admitted, admit
from telemetry.capture.campaigns.book import CampaignBook, MemoryShelf
from telemetry.capture.campaigns.campaign import CampaignSet
from telemetry.capture.campaigns.engine import CampaignEngine, EngineOutput
from telemetry.capture.campaigns.floor import CampaignFloor
from telemetry.capture.campaigns.rowring import RowRing
from telemetry.capture.campaigns.telling import ClipWanted
from telemetry.capture.samplering import SampleRing
from telemetry.privacy.policy import Position, PrivacyPolicy
from telemetry.records import Event, Purpose, Record, SignalBlock, Triggered
from telemetry.signals.schema import Columns, Form, Group, Schema, SignalSpec

SPEED, PEDAL, GEAR, TEMPERATURE = "Vehicle.Speed", "Vehicle.Pedal", "Vehicle.Gear", "Vehicle.Temperature"
LATITUDE = "Vehicle.CurrentLocation.Latitude"
MOTION, BRAKES, CABIN, PLACE = 0, 1, 2, 3

SCHEMA = Schema(
    (
        Group("motion", (SignalSpec(SPEED, Form.INT, 0.1, minimum=0, maximum=250), SignalSpec(GEAR, Form.INT)), 20_000),
        Group("brakes", (SignalSpec(PEDAL, Form.UINT, 0.5),), 50_000),
        Group("cabin", (SignalSpec(TEMPERATURE, Form.FLOAT),), 1_000_000),
        Group("place", (SignalSpec(LATITUDE, Form.FLOAT),), 100_000),
    )
)
FLOOR = CampaignFloor(shortest_period_ms=100, ring_bytes=1 << 26, bytes_per_day=1 << 40, flash_bytes_per_day=1 << 40)
OPEN = PrivacyPolicy(consents=frozenset(Purpose), position=Position.EXACT)
NEVER = 4_000_000_000
MS = MILLISECOND_NS
E = TypeVar("E", bound=Event)


def campaign(name: str, trigger: Mapping[str, Any], *paths: str | Mapping[str, Any], **more: Any) -> dict[str, Any]:
    signals = [path if isinstance(path, Mapping) else {"path": path} for path in paths]
    plain = {
        "revision": 1,
        "purpose": "driving",
        "lane": "p1",
        "not_after": NEVER,
        "budget": {"bytes_per_day": 1 << 34},
    }
    return {"name": name, "trigger": dict(trigger), "signals": signals, **plain, **more}


def campaigns(*those: Mapping[str, Any], revision: int = 1) -> CampaignSet:
    return CampaignSet.model_validate_json(msgspec.json.encode({"revision": revision, "campaigns": those}))


def periodic(ms: int = 1000) -> dict[str, Any]:
    return {"kind": "periodic", "period_ms": ms}


def when(condition: str, **more: Any) -> dict[str, Any]:
    return {"kind": "on_condition", "when": condition, "cooldown_ms": 0, **more}


def anomaly(signal: str, test: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"kind": "on_anomaly", "signal": signal, "anomaly": dict(test), "cooldown_ms": 0, **more}


def rows(group: int, t_ms: Sequence[float], *values: Sequence[Any]) -> Columns:
    """Times in milliseconds, values raw, one sequence a signal."""
    specs = SCHEMA.groups[group].signals
    arrays = tuple(np.array(column, spec.form.dtype) for column, spec in zip(values, specs, strict=True))
    return Columns(group, (np.array(t_ms, np.float64) * MS).astype(np.int64), arrays)


@dataclass(frozen=True, slots=True)
class Block:
    """What the tests' `pack` makes: all samples as they are, to be read again."""

    t_ns: int
    data: bytes


def pack(parts: Sequence[Columns]) -> list[Block]:
    told = [
        [part.group, part.t_ns.tolist(), [None if column is None else column.tolist() for column in part.values]]
        for part in parts
    ]
    return [Block(min(int(part.t_ns[0]) for part in parts), msgspec.msgpack.encode(told))]


def samples(record: Record) -> list[tuple[int, str, float]]:
    """Of a block: (t_ns, path, raw) in the order of time."""
    assert isinstance(record.event, SignalBlock)
    found = []
    for group, times, columns in msgspec.msgpack.decode(record.event.columns):
        for spec, column in zip(SCHEMA.groups[group].signals, columns, strict=True):
            found += [(t, spec.path, value) for t, value in zip(times, column or (), strict=column is not None)]
    return sorted(found, key=lambda sample: sample[:2])


@dataclass
class Vehicle:
    """An engine, and all that it told."""

    floor: CampaignFloor = FLOOR
    privacy: PrivacyPolicy = OPEN
    book: CampaignBook = field(default_factory=lambda: CampaignBook(None, MemoryShelf(), -1))
    records: list[Record] = field(default_factory=list)
    clips: list[ClipWanted] = field(default_factory=list)
    now_ns: int = -1
    has_camera: bool = True

    def __post_init__(self) -> None:
        self.engine = CampaignEngine(SCHEMA, pack, self.book, has_camera=self.has_camera)

    def admitted(self, *those: Mapping[str, Any]) -> Admitted:
        return admit(campaigns(*those), SCHEMA, self.floor, self.privacy, None)

    def adopt(self, *those: Mapping[str, Any]) -> Vehicle:
        self._heard(self.engine.adopt(self.admitted(*those), self.now_ns))
        return self

    def feed(self, until_ms: float, *parts: Columns, hot_only: bool = False) -> None:
        until_ns = int(until_ms * MS)
        self._heard(self.engine.feed(parts, until_ns, hot_only=hot_only))
        if not hot_only:
            self.now_ns = until_ns

    def close(self) -> None:
        self._heard(self.engine.close(self.now_ns))

    def _heard(self, told: EngineOutput) -> None:
        self.records += told.records
        self.clips += told.clips

    # --- what it told ---------------------------------------------------------------------------------

    def samples(self, name: str | None = None) -> list[tuple[int, str, float]]:
        return [sample for record in self.of(SignalBlock, name) for sample in samples(record)]

    def times_ms(self, path: str, name: str | None = None) -> list[float]:
        return [t / MS for t, told, _ in self.samples(name) if told == path]

    def triggers_ms(self, name: str | None = None) -> list[float]:
        return [record.captured_ns / MS for record in self.of(Triggered, name)]

    def told(self, kind: type[E], name: str | None = None) -> list[E]:
        """Events of that kind, in order."""
        told = [record.event for record in self.records if isinstance(record.event, kind)]
        return [event for event in told if name in (None, getattr(event, "campaign", None))]

    def of(self, kind: type[Event], name: str | None = None) -> list[Record]:
        wanted = self.told(kind, name)
        return [record for record in self.records if any(record.event is event for event in wanted)]

    def untold(self, name: str, reason: str) -> int:
        return self.engine.counts()[name].get(f"untold_{reason}", 0)


def retained_bytes(engine: CampaignEngine) -> int:
    """The memory that all rings take now; admission bounds it."""
    rings: list[RowRing | SampleRing] = [stream.ring for runner in engine._runners for stream in runner.teller.streams]
    watches = [runner.watch for runner in engine._runners if runner.watch is not None]
    rings += [ring for watch in watches if watch.history is not None for ring in watch.history._rings.values()]
    return sum(array.nbytes for ring in rings for array in _arrays_of(ring))


def _arrays_of(ring: RowRing | SampleRing) -> Sequence[np.ndarray[Any, Any]]:
    if isinstance(ring, RowRing):
        return ring._t, *ring._values
    return ring._t_ns, ring._values, ring._changed
