"""What is worth telling: pure rules from what was seen and signalled to records."""

from telemetry.capture.config import CaptureConfig
from telemetry.capture.observations import TrackSeen, View
from telemetry.capture.rules import CaptureRules

__all__ = ["CaptureConfig", "CaptureRules", "TrackSeen", "View"]
