"""How much the spool may hold, in memory and on flash: the [spool] section of outrider.toml."""

from __future__ import annotations

from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from telemetry.records import Lane

PAGE_BYTES: Final = 4096


class SpoolLimits(BaseModel):
    """Everything bounded about the spool. What is full drops or evicts, and counts it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(default=256 * 1024 * 1024, gt=0, description="Flash for segments; the oldest go first.")
    segment_bytes: int = Field(
        default=4 * 1024 * 1024,
        ge=4 * PAGE_BYTES,
        le=256 * 1024 * 1024,
        multiple_of=PAGE_BYTES,
        description="Size of one segment file: what is freed or evicted at once.",
    )
    reserve_segments: tuple[int, int, int, int] = Field(
        default=(4, 2, 2, 1), description="Segments of lanes P0 to P3 that no other lane can take."
    )
    queue_records: int = Field(default=16_384, gt=0, description="Records a lane may hold in memory before a commit.")
    queue_bytes: int = Field(
        default=8 * 1024 * 1024, gt=0, description="Bytes of the same. Half of it commits at once."
    )

    keep_s: tuple[int, int, int, int] = Field(
        default=(0, 0, 0, 0),
        description="How long lanes P0 to P3 keep a record that doesn't say so itself, seconds; 0: until it is stored.",
    )

    @model_validator(mode="after")
    def _reserves_fit(self) -> Self:
        if min(self.reserve_segments) < 0 or sum(self.reserve_segments) > self.max_segments:
            raise ValueError(
                f"reserve_segments {self.reserve_segments} must not be negative nor exceed the {self.max_segments}"
                " segments that max_bytes allows"
            )
        if min(self.keep_s) < 0:
            raise ValueError(
                f"keep_s {self.keep_s} must not be negative; 0 keeps a lane's records until they are stored"
            )
        if self.max_segments < len(Lane):
            raise ValueError(f"max_bytes must hold a segment for each lane: at least {len(Lane) * self.segment_bytes}")
        return self

    @property
    def max_segments(self) -> int:
        return self.max_bytes // self.segment_bytes

    def keeps_s(self, lane: Lane, wanted_s: int | None) -> int | None:
        """How long to keep a record that is wanted for so long, or doesn't say; None: until it is stored."""
        return wanted_s if wanted_s is not None else self.keep_s[lane] or None

    def reserve_bytes(self, lane: Lane) -> int:
        return self.reserve_segments[lane] * self.segment_bytes
