"""What may leave the vehicle: consent, deny-list and coarse positions, decided before anything is written (law 5)."""

from telemetry.privacy.pictures import RedactedPicture, Redactor
from telemetry.privacy.policy import Position, PrivacyPolicy, Zone, strictest
from telemetry.privacy.stage import Dropped, Privacy, Reason

__all__ = [
    "Dropped", "Position", "Privacy", "PrivacyPolicy", "Reason", "RedactedPicture", "Redactor",
    "Zone", "strictest",
]  # fmt: skip
