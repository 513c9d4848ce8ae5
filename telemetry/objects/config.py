"""How much of flash and network large objects may take: the [objects] section of outrider.toml."""

from __future__ import annotations

from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from telemetry.objects.wire import MAX_SLICE_BYTES

MAX_OBJECT_BYTES: Final = 16 * 1024 * 1024


class ObjectsConfig(BaseModel):
    """Everything bounded about objects. What doesn't fit is dropped or evicted, and counted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=True, description="Keep event pictures and bring them to the receiver.")
    max_bytes: int = Field(default=64 * 1024 * 1024, gt=0, description="Flash for objects; the oldest go first.")
    object_bytes: int = Field(
        default=1024 * 1024, gt=0, le=MAX_OBJECT_BYTES, description="Largest object; larger ones are dropped."
    )
    slice_bytes: int = Field(
        default=256 * 1024,
        ge=1024,
        le=MAX_SLICE_BYTES,
        description="Most sent at once; a slow network gets a quarter of a second of it.",
    )
    bytes_per_s: float = Field(
        default=512 * 1024, ge=1024, description="Most that objects take of the network, bytes a second."
    )

    @model_validator(mode="after")
    def _one_fits(self) -> Self:
        if self.object_bytes > self.max_bytes // 2:
            raise ValueError(f"max_bytes must hold at least two objects of object_bytes: {2 * self.object_bytes}")
        return self
