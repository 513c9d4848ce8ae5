"""One buffer's work, and what comes of it: values that travel to another process and back."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from ecu.errors import OutriderError
from inference.verdict import Outcome
from telemetry.federated.aggregation import Contribution, ServerRule
from telemetry.federated.line import Line, Waiting, base_digest
from telemetry.federated.payload import decode_delta
from telemetry.federated.plan import Plan

Vector = NDArray[np.float32]


class NotBegun(OutriderError):
    """This plan can't be begun with that package and those crops."""


class Unfit(OutriderError):
    """The package or the crops aren't what the plan began with: nothing can be said of an aggregate."""


@dataclass(frozen=True, slots=True)
class Surface:
    """What of a learnable package a plan must agree with. `base` is the SHA-256 of its parameters."""

    title: str
    graph: str
    layout: str
    base: str
    parameters: bytes


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a candidate's parameters come from, as its package tells it."""

    plan: str
    base: str
    number: int
    vehicles: int
    updates_sha256: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """Of a candidate on labelled crops; `figures` is the judge's whole verdict as JSON."""

    outcome: Outcome
    words: str
    figures: bytes = b"null"


class Workbench(Protocol):
    """What is done with packages, in another process. An InferenceError of `build` or `judge` speaks against the
    candidate; what is nobody's fault is Unfit."""

    def look(self, package: Path, crops: Path) -> Surface:
        """Raises InferenceError also for crops that can't judge this package."""
        ...

    def build(self, live: Path, parameters: Vector, version: str, crops: Path, learned: Lineage) -> dict[str, bytes]:
        """A whole package: each file's bytes by its name."""
        ...

    def judge(self, live: Path, candidate: dict[str, bytes], crops: Path) -> Judgement: ...


@dataclass(frozen=True, slots=True)
class Taken:
    """A vehicle's update in a buffer. `staleness`: aggregates between its base and the newest."""

    vehicle: str
    seq: int
    payload: bytes
    sha256: str
    staleness: int


@dataclass(frozen=True, slots=True)
class Order:
    """The line as it stands, and the updates of the buffer that was closed."""

    plan: Plan
    attempt: int
    version: str
    number: int
    package: str
    crops: str
    parameters: bytes
    velocity: bytes
    updates: tuple[Taken, ...]

    def line(self) -> Line:
        """As telemetry/federated has it."""
        parameters = vector(self.parameters)
        waiting = {one.vehicle: Waiting(self._contribution(one), one.sha256) for one in self.updates}
        bases = {base_digest(parameters): self.number - 1}
        return Line(self.plan, parameters, vector(self.velocity), bases, waiting=waiting)

    def _contribution(self, one: Taken) -> Contribution:
        delta = decode_delta(one.payload, self.plan.parameters, self.plan.keep)
        return Contribution(one.vehicle, delta, one.staleness)


class Told(msgspec.Struct, frozen=True):
    """verdict.json: docs/formats/federated.md has its keys. `judge` is what the judge said, with its figures."""

    plan: str
    attempt: int
    number: int
    model: str
    version: str
    base: str
    made: str
    outcome: str
    words: str
    updates: dict[str, str]
    judge: msgspec.Raw
    schema: int = 1


@dataclass(frozen=True, slots=True)
class Made:
    """The line after the aggregate, were it taken; `files` is the candidate where it passed, else empty."""

    parameters: bytes
    velocity: bytes
    digest: str
    told: Told
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return self.told.outcome == Outcome.PASSED


@dataclass(frozen=True, slots=True)
class Rule:
    """The server's own part of an aggregate; a plan's `clip` is the rest."""

    momentum: float
    rate: float

    def of(self, plan: Plan) -> ServerRule:
        return ServerRule(plan.clip, self.momentum, self.rate)


def vector(data: bytes) -> Vector:
    return np.frombuffer(data, "<f4").astype(np.float32)


def raw(values: Vector) -> bytes:
    return values.astype("<f4").tobytes()


def updates_digest(order: Order) -> str:
    """SHA-256 over the updates' digests, in rising order, one a line."""
    lines = "".join(f"{digest}\n" for digest in sorted(one.sha256 for one in order.updates))
    return hashlib.sha256(lines.encode()).hexdigest()
