"""What the daemon's part of signals asks of its process."""

from __future__ import annotations

from agent.config import AgentConfig
from agent.signals.room import signal_settings
from telemetry.signals import vss


def test_where_there_are_zones_the_agent_hears_where_the_vehicle_is_whatever_it_captures() -> None:
    zones = [{"latitude": 48.0, "longitude": 11.0, "radius_m": 200}]
    for privacy, hears in (({}, False), ({"zones": zones}, True)):
        config = AgentConfig.model_validate({"capture": {"signals": [vss.SPEED]}, "privacy": privacy})
        told = signal_settings(config, realtime=True).told
        assert ({vss.LATITUDE, vss.LONGITUDE} <= set(told)) is hears
