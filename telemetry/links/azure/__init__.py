"""A link to our receiver through Azure IoT Hub. Only `engine` loads the SDK, and nobody loads that before a connect."""

from __future__ import annotations

from telemetry.links.azure.link import HubLink
from telemetry.links.azure.tls import hub_context

__all__ = ["HubLink", "hub_context"]
