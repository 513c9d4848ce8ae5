"""What a release says of itself besides its files: where it comes from, how good it is, what can run it.

All of it may be missing. What a model package's own manifest says (docs/formats/model-package.md: precision,
calibration data, golden canvases, accuracy, licence) isn't said here again; here stands what the vehicle must know
before it has the package, and what the one who signs wants to see.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from ota.kinds import Kind
from ota.ranges import MOST_CHARACTERS, RANGE_PATTERN

MOST_RELEASE: Final = 1 << 53
MOST_BYTES: Final = 1 << 40

_PART: Final = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"
FileName = Annotated[str, StringConstraints(pattern=rf"^{_PART}(/{_PART}){{0,15}}$", max_length=200)]
"""Relative, with no step that a file system could take for another place, and none hidden."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,47}$")]
Hardware = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,47}$")]
ReleaseNumber = Annotated[int, Field(ge=1, le=MOST_RELEASE)]
Line = Annotated[str, StringConstraints(pattern=r"^[^\p{C}\p{Zl}\p{Zp}]+$", max_length=200)]
"""One line of text that a terminal may show."""
Text = Annotated[str, StringConstraints(pattern=r"^([^\p{C}\p{Zl}\p{Zp}]|\n)+$", max_length=4000)]
MetricName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9 _.@/:-]{0,63}$")]
Range = Annotated[str, StringConstraints(pattern=RANGE_PATTERN, max_length=MOST_CHARACTERS)]
Commit = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
AbiTag = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,95}$")]
Rxswin = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._/-]{0,63}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Lineage(Part):
    """Where a release comes from. `parent` is the digest of the release that it was made from, `datasets` are digests
    of what it was trained on, rising."""

    parent: Sha256 | None = None
    datasets: Annotated[tuple[Sha256, ...], Field(max_length=64)] = ()
    training_run: Line | None = None
    git_commit: Commit | None = None
    federated_round: Annotated[int, Field(ge=0, le=MOST_RELEASE)] | None = None

    @model_validator(mode="after")
    def _has_one_form(self) -> Lineage:
        demand_rising("datasets", self.datasets)
        return self


class Quantization(Part):
    """For what has no model.json to say it. `calibration` is the digest of what the quantizer saw; with
    `pinned_scales` they are the parent's, so that a fine-tuned model differs little from it."""

    scheme: Line
    per_channel: bool = False
    calibration: Sha256 | None = None
    pinned_scales: bool = False


class Metric(Part):
    """One number and the interval that it lies in, over `n` objects of the evaluation set of that digest."""

    name: MetricName
    value: Finite
    low: Finite
    high: Finite
    n: Annotated[int, Field(ge=1, le=MOST_RELEASE)]
    evaluation: Sha256
    better: Literal["higher", "lower"] = "higher"

    @model_validator(mode="after")
    def _lies_within(self) -> Metric:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"{self.name} is {self.value}, and not between {self.low} and {self.high}")
        return self


class Golden(Part):
    """Which of the files holds inputs with their known outputs, and how far off the vehicle's may be. For what has no
    model.json to say it."""

    file: FileName
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Runtime(Part):
    """What can run it. A runtime itself says its `abi` ("cp311-linux_x86_64") and the digest of the third-party wheels
    that it needs, which come along when it `brings_dependencies`."""

    python: Range | None = None
    onnxruntime: Range | None = None
    outrider: Range | None = None
    abi: AbiTag | None = None
    dependencies: Sha256 | None = None
    brings_dependencies: bool = False


class FrameBudget(Part):
    hardware: Hardware
    p99_ms: Annotated[float, Field(gt=0, le=1e6)]


class Budgets(Part):
    """What it may cost: CPU time as a multiple of what the live release takes, resident memory, and the time for a
    frame by hardware, rising by its name."""

    cpu_relative: Annotated[float, Field(gt=0, le=100)] | None = None
    memory_bytes: Annotated[int, Field(ge=1, le=MOST_BYTES)] | None = None
    frames: Annotated[tuple[FrameBudget, ...], Field(max_length=32)] = ()

    @model_validator(mode="after")
    def _has_one_form(self) -> Budgets:
        demand_rising("frames", [its.hardware for its in self.frames])
        return self


class Peer(Part):
    """Releases `least` to `most` of another bundle; without one of these there is no limit at that end."""

    kind: Annotated[Kind, Field(strict=False)]
    name: Name
    least: ReleaseNumber | None = None
    most: ReleaseNumber | None = None

    @property
    def words(self) -> str:
        ends = [f"from {self.least}"] * (self.least is not None) + [f"up to {self.most}"] * (self.most is not None)
        return f"{self.kind} {self.name}, " + (f"release {' '.join(ends)}" if ends else "any release")

    def covers(self, kind: Kind, name: str, release: int) -> bool:
        is_it = (kind, name) == (self.kind, self.name)
        return is_it and (self.least or 1) <= release <= (self.most or MOST_RELEASE)

    @model_validator(mode="after")
    def _is_some(self) -> Peer:
        if (self.least or 1) > (self.most or MOST_RELEASE):
            raise ValueError(f"no release of {self.name} is from {self.least} on and up to {self.most}")
        return self


class Sbom(Part):
    """The bill of materials (CycloneDX JSON): its name, and the hash under which the repository keeps it, be it one of
    the bundle's files or not."""

    name: FileName
    sha256: Sha256
    size: Annotated[int, Field(ge=1, le=MOST_BYTES)]


def demand_rising(what: str, names: Sequence[object]) -> None:
    """Raises ValueError: one way to write a set, or equal releases had two digests."""
    if any(str(a) >= str(b) for a, b in pairwise(names)):
        raise ValueError(f"{what} aren't in rising order, or one is there twice")
