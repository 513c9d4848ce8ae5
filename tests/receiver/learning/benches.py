"""Workbenches for tests: one of four numbers, whose judge goes by the first; and one of the real network and crops."""

from __future__ import annotations

import hashlib
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from inference.errors import PackageRefused
from inference.verdict import Outcome
from receiver.learning.order import Judgement, Lineage, Surface, Vector, raw, vector
from telemetry.federated.line import base_digest
from telemetry.federated.plan import LabelSource, Plan

START = np.array([0.0, 1.0, 2.0, 3.0], np.float32)
GRAPH, LAYOUT = "1" * 64, "2" * 64
FILE = "parameters.bin"


def plan_of(start: Vector = START, **changes: Any) -> Plan:
    """Of a package whose parameters these are."""
    return Plan(
        name="lights-1", model="light-state@1.0", base=base_digest(start), graph=GRAPH, layout=LAYOUT,
        parameters=len(start), source=LabelSource.CONFIRMED, steps=8, batch=32, learning_rate=0.05, clip=10.0,
        keep=4, min_examples=8, updates=5, max_staleness=1, not_after=2_000_000_000,
    ).model_copy(update=changes)  # fmt: skip


def package_in(folder: Path, parameters: Vector = START) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_bytes(raw(parameters))
    return folder


@dataclass(frozen=True, slots=True)
class FourNumbers:
    """PASSED where the first number is 0 or more, FAILED below -1, UNDECIDED between; below -5 nothing can be built."""

    def look(self, package: Path, crops: Path) -> Surface:
        try:
            parameters = (package / FILE).read_bytes()
        except OSError as error:
            raise PackageRefused(f"There is no package in {package}.") from error
        return Surface("light-state@1.0", GRAPH, LAYOUT, hashlib.sha256(parameters).hexdigest(), parameters)

    def build(self, live: Path, parameters: Vector, version: str, crops: Path, learned: Lineage) -> dict[str, bytes]:
        if parameters[0] < -5:
            raise PackageRefused("A value is beyond what INT8 holds.")
        return {FILE: raw(parameters), "model.json": msgspec.json.encode({"version": version, "learned": learned})}

    def judge(self, live: Path, candidate: dict[str, bytes], crops: Path) -> Judgement:
        first = float(vector(candidate[FILE])[0])
        outcome = Outcome.PASSED if first >= 0 else Outcome.FAILED if first < -1 else Outcome.UNDECIDED
        return Judgement(outcome, f"the first number is {first:g}.", msgspec.json.encode({"first": first}))


@dataclass(frozen=True, slots=True)
class Stuck(FourNumbers):
    """Its judge tells that it has begun, and never ends."""

    fifo: str = ""

    def judge(self, live: Path, candidate: dict[str, bytes], crops: Path) -> Judgement:
        with open(self.fifo, "w") as begun:
            begun.write("begun")
        signal.pause()
        raise AssertionError
