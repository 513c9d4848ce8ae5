"""What the daemon's part of signals asks of its process."""

from __future__ import annotations

from agent.config import AgentConfig
from agent.signals.findings import on_campaigns
from agent.signals.messages import SignalsStatus
from agent.signals.room import SignalRoomStatus, signal_settings
from agent.signals.side import SignalSideStatus
from telemetry.signals import vss


def test_where_there_are_zones_the_agent_hears_where_the_vehicle_is_whatever_it_captures() -> None:
    zones = [{"latitude": 48.0, "longitude": 11.0, "radius_m": 200}]
    for privacy, hears in (({}, False), ({"zones": zones}, True)):
        config = AgentConfig.model_validate({"capture": {"signals": [vss.SPEED]}, "privacy": privacy})
        told = signal_settings(config, realtime=True).told
        assert ({vss.LATITUDE, vss.LONGITUDE} <= set(told)) is hears


def test_what_no_campaign_counts_is_said_in_words() -> None:
    lost = SignalsStatus("", {"unsaid": 3, "short": 4, "received": 9}, (), 0)
    side = SignalSideStatus(1, "", "", 1, 0, 0, 0, 0, 0, lost)
    words = [finding.words for finding in on_campaigns(SignalRoomStatus("", "", "", side))]
    assert words == [
        "3 messages of the signals process found no room.",
        "4 frames were shorter than the plan says.",
    ]
