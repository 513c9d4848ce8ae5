"""What the capture rules can be told to do otherwise."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from telemetry.signals import vss


class CaptureConfig(BaseModel):
    """[capture] in outrider.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vehicle_summary_period_ms: int = Field(
        default=50, ge=1, description="One summary of the vehicle's signals in each period."
    )
    perception_summary_period_ms: int = Field(
        default=100, ge=1, description="One summary of each camera in each period."
    )
    signals: tuple[str, ...] = Field(
        default=(vss.SPEED, vss.BRAKE_PEDAL, vss.LONGITUDINAL, vss.LATITUDE, vss.LONGITUDE, vss.HEADING),
        max_length=256,
        description="VSS paths that summaries and events may carry; what isn't named is never told.",
    )
    new_track_hits: int = Field(default=3, ge=1, description="Frames an object is seen in before it is told as new.")
    low_confidence_below: float = Field(
        default=0.5, ge=0, le=1, description="Score under which the detector counts as unsure."
    )
    low_confidence_hits: int = Field(
        default=3, ge=1, description="Frames an object is seen in before its doubts are told."
    )
    low_confidence_cooldown_ms: int = Field(
        default=5_000, ge=0, description="Between two doubts about the same object."
    )
    hard_brake_ms2: float = Field(default=4.0, gt=0, description="Deceleration that is told, m/s^2.")
    hard_brake_release_ms2: float = Field(
        default=2.5, gt=0, description="Deceleration under which a hard brake is over, m/s^2."
    )
    hard_brake_cooldown_ms: int = Field(default=2_000, ge=0, description="Between two hard brakes.")
    max_cameras: int = Field(
        default=8, ge=1, description="Cameras remembered; views of further ones are counted and ignored."
    )
    max_tracks: int = Field(default=256, ge=1, description="Objects remembered for each camera, the last seen ones.")

    @model_validator(mode="after")
    def _releases_below_the_limit(self) -> CaptureConfig:
        if self.hard_brake_release_ms2 > self.hard_brake_ms2:
            raise ValueError("hard_brake_release_ms2 must not be above hard_brake_ms2")
        return self
