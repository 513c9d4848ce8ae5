"""What the uplink can be told to do otherwise."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class UplinkConfig(BaseModel):
    """[uplink] in outrider.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    window: int = Field(default=16, ge=2, le=100, description="Blocks under way at once, all lanes together.")
    window_for_p0: int = Field(default=2, ge=0, description="Of these, kept free for P0.")
    unreceipted: int = Field(
        default=256, ge=1, description="Blocks the link took that no receipt came for yet; beyond it only P0 goes on."
    )
    receipt_timeout_s: float = Field(
        default=60.0, gt=0, description="Without a receipt for so long after acceptance, connect again and send again."
    )
    backoff_base_s: float = Field(default=1.0, gt=0, description="The first pause is at most this long, seconds.")
    backoff_cap_s: float = Field(default=300.0, gt=0, description="No pause for the network's sake is longer, seconds.")
    unauthorized_pause_s: float = Field(
        default=60.0, gt=0, description="Pause while this vehicle isn't welcome, seconds."
    )
    throttle_cap_s: float = Field(
        default=3_600.0, gt=0, description="The longest pause the cloud may ask for, seconds."
    )
    last_call_s: float = Field(
        default=3.0, ge=0, le=60, description="At ignition off: how long P0 may take to leave, seconds."
    )
    free_on_acceptance: bool = Field(
        default=False, description="Free records when a broker took them, stored or not: law 6 is then not held."
    )

    @model_validator(mode="after")
    def _leaves_room_for_all(self) -> UplinkConfig:
        if self.window_for_p0 >= self.window:
            raise ValueError("window_for_p0 must be below window, or no other lane is ever sent")
        return self
