"""What the vehicle's owner lets all campaigns together cost, whatever they ask for (law 11)."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from telemetry.capture.campaigns.campaign import lane_of
from telemetry.records import Lane

MB: Final = 1_000_000


class CampaignFloor(BaseModel):
    """[campaigns] in outrider.toml. Which purposes may be served is [privacy] consents'."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(default=True, description="Carry out signed campaigns.")
    max_campaigns: int = Field(default=16, ge=0, le=64, description="Campaigns at a time.")
    bytes_per_day: int = Field(
        default=64 * MB, ge=0, description="Most that all campaigns tell in 24 hours; also held to while they run."
    )
    flash_bytes_per_day: int = Field(default=128 * MB, ge=0, description="Most that they write to flash in 24 hours.")
    ring_bytes: int = Field(default=16 * MB, ge=0, description="Most memory for what campaigns retain.")
    evaluations_per_s: int = Field(default=2000, ge=0, description="Most evaluations of conditions and anomalies.")
    work_per_s: int = Field(
        default=20_000, ge=0, description="Most work for all campaigns: answers that conditions ask for, about 20 us."
    )
    lanes: frozenset[Annotated[Lane, BeforeValidator(lane_of)]] = Field(
        default=frozenset(Lane), description="Lanes that campaigns may use: p0, p1, p2, p3. P0 is safety's alone."
    )
    shortest_period_ms: int = Field(
        default=1000, ge=100, description="Shortest period of blocks and of last known states."
    )
    bytes_per_sample: float = Field(default=2.0, gt=0, description="What a sample is taken to cost, encoded.")
    assumed_hz: float = Field(default=100.0, gt=0, le=10_000, description="Rate of signals that don't say theirs.")
    picture_bytes: int = Field(default=200_000, ge=1, description="What a picture is taken to cost.")
