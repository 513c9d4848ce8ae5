"""What a run leaves behind to be judged by: plain values, all times in seconds since the run began.

The report draws from this alone. There is no place in it for a picture, but for one that the cloud has: a covered one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from simulator.boxes import Box
from simulator.claims import Verdict

Point = tuple[float, float]
"""(seconds, value)."""


@dataclass(frozen=True, slots=True)
class Host:
    """Where it ran: numbers mean nothing without it."""

    cpu: str
    cores: int
    system: str
    python: str
    onnxruntime: str
    isa: str


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done to the vehicle, and when it was undone; a kill is an instant (`end_s` = `start_s`)."""

    label: str
    start_s: float
    end_s: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One quantity over time, in the order of time."""

    name: str
    points: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True)
class Latency:
    """From the camera's exposure to the result, a point a frame, in milliseconds. None is not measured."""

    points: tuple[Point, ...] = ()
    p50_ms: float | None = None
    p99_ms: float | None = None
    bar_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Spool:
    """Records that wait on flash, a line a lane; and in all, how many became durable and how many are stored."""

    lanes: tuple[Line, ...] = ()
    durable: Line = Line("durable on the vehicle")
    stored: Line = Line("stored at the receiver")


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One equation in numbers: `total` should be the sum of `parts`."""

    label: str
    total: int
    parts: tuple[int, ...]

    @property
    def missing(self) -> int:
        """What the parts can't account for."""
        return self.total - sum(self.parts)


@dataclass(frozen=True, slots=True)
class Equation:
    """A conservation law in words, and its rows; each row has a number for every part."""

    total: str
    parts: tuple[str, ...]
    rows: tuple[LedgerRow, ...]

    def __post_init__(self) -> None:
        if any(len(row.parts) != len(self.parts) for row in self.rows):
            raise ValueError(f"{self.total} has the parts {self.parts}, and a row has others")

    @property
    def balances(self) -> bool:
        """Nothing is proved by an equation without rows."""
        return bool(self.rows) and all(row.missing == 0 for row in self.rows)


@dataclass(frozen=True, slots=True)
class Ledger:
    """A law of conservation with its equations."""

    title: str
    sentence: str
    equations: tuple[Equation, ...]

    @property
    def balances(self) -> bool:
        return bool(self.equations) and all(equation.balances for equation in self.equations)


@dataclass(frozen=True, slots=True)
class Frame:
    """The tracks of one camera frame."""

    t_s: float
    frame_id: int
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Waypoint:
    """Where the cloud was told the vehicle is, in degrees: the middle of a cell, not the place."""

    t_s: float
    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class Drive:
    """What can be drawn of a drive without showing anybody. Boxes are in pixels of `width_px` x `height_px`."""

    width_px: int
    height_px: int
    frames: tuple[Frame, ...] = ()
    speed_kmh: Line = Line("speed")
    brake_percent: Line = Line("brake")
    route: tuple[Waypoint, ...] = ()
    cell_m: float = 0.0


@dataclass(frozen=True, slots=True)
class CloudPicture:
    """One of `pictures` stored at the receiver, byte for byte: a JPEG of `width_px` x `height_px` pixels, in which
    `covered` regions are grey. Only a picture that was looked at, and showed nobody, may be one."""

    jpeg: bytes
    width_px: int
    height_px: int
    covered: int
    pictures: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """One run. `mode` is "real speed" or "lockstep"; `summary` is the run in two or three sentences."""

    title: str
    summary: str
    when: datetime
    mode: str
    host: Host
    verdict: Verdict
    faults: tuple[Fault, ...] = ()
    latency: Latency = Latency()
    spool: Spool = Spool()
    ledgers: tuple[Ledger, ...] = ()
    drive: Drive = Drive(1280, 720)
    picture: CloudPicture | None = None

    @property
    def end_s(self) -> float:
        """Where every time axis ends: at the run's end, or a later event that was still written down."""
        return max(self.verdict.seconds, 1.0, *(fault.end_s for fault in self.faults))
