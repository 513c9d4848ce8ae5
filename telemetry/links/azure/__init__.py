"""A link to our receiver through Azure IoT Hub. Nothing here loads the SDK but `engine`, and it only when it connects."""

from __future__ import annotations

from telemetry.links.azure.link import HubLink
from telemetry.links.azure.tls import hub_context

__all__ = ["HubLink", "hub_context"]
