"""What the daemon's part of signals asks of its process."""

from __future__ import annotations

from pathlib import Path
from random import Random

from agent.config import AgentConfig
from agent.perception import Supervision
from agent.signals.findings import on_campaigns
from agent.signals.messages import PicturesWanted, SignalsStatus
from agent.signals.room import SignalRoom, SignalRoomStatus, signal_settings
from agent.signals.side import SignalSideStatus
from ecu.clock import SteppingClock
from telemetry.signals import vss


def test_where_there_are_zones_the_agent_hears_where_the_vehicle_is_whatever_it_captures() -> None:
    zones = [{"latitude": 48.0, "longitude": 11.0, "radius_m": 200}]
    for privacy, hears in (({}, False), ({"zones": zones}, True)):
        config = AgentConfig.model_validate({"capture": {"signals": [vss.SPEED]}, "privacy": privacy})
        told = signal_settings(config, realtime=True).told
        assert ({vss.LATITUDE, vss.LONGITUDE} <= set(told)) is hears


def test_a_clip_is_asked_for_as_of_its_triggers_instant(tmp_path: Path) -> None:
    asked: list[tuple[str, int, int, int]] = []
    room = SignalRoom(
        tmp_path, signal_settings(AgentConfig(), realtime=True), lambda kind: (), SteppingClock(9_000), lambda: 0,
        Supervision(Random(1), {}), lambda t_ns, values: None, lambda record: None,
        lambda why, t_ns, before, after: asked.append((why, t_ns, before, after)), lambda what, detail: None,
    )  # fmt: skip
    room.on_pictures_wanted(PicturesWanted("harsh", 3, 8_000, 1, 2))
    assert asked == [("harsh 3", 8_000, 1, 2)]


def test_clips_can_be_had_where_there_is_a_camera_and_pictures_are_wanted() -> None:
    for camera, pictures in (("", True), ("v4l2:/dev/video0", False), ("v4l2:/dev/video0", True)):
        config = AgentConfig.model_validate({"camera": {"source": camera}, "objects": {"enabled": pictures}})
        assert signal_settings(config, realtime=True).has_camera is (bool(camera) and pictures)


def test_what_no_campaign_counts_is_said_in_words() -> None:
    lost = SignalsStatus("", {"unsaid": 3, "short": 4, "received": 9}, (), 0)
    side = SignalSideStatus(1, "", "", 1, 0, 0, 0, 0, 0, lost)
    words = [finding.words for finding in on_campaigns(SignalRoomStatus("", "", "", side))]
    assert words == [
        "3 messages of the signals process found no room.",
        "4 frames were shorter than the plan says.",
    ]
