"""Where two models disagree goes two ways in the agent: a health record, and a wish for a picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

from agent.config import AgentConfig
from agent.parts import Hears, Parts
from simulator.demo.demo import DRIVE


class Ears:
    """Hears of health alone; nobody tells it anything else here."""

    def __init__(self) -> None:
        self.health: list[tuple[str, str]] = []

    def on_health(self, what: str, detail: str) -> None:
        self.health.append((what, detail))

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


async def test_an_alarm_becomes_a_health_record_and_a_disputed_frame_a_wish_that_is_counted(tmp_path: Path) -> None:
    config = AgentConfig.model_validate({"camera": {"source": f"video:{DRIVE}"}, "link": {"kind": "none"}})
    ears = Ears()
    parts = Parts(config, tmp_path / "state", os.environ, cast("Hears", ears))
    try:
        heard = parts.doubt_heard()
        heard.alarm("model drive 2.0: agreement 0.20")
        assert ears.health == [("models_disagree", "model drive 2.0: agreement 0.20")]
        assert parts.side is not None
        heard.picture("models_disagree 0.83")
        counts = parts.side.counts()
        assert (counts.wanted, counts.waiting) == (1, 1)
    finally:
        if parts.perception is not None:
            await parts.perception.stop()
        await parts.keeper.close(0)
        parts.counters.close()
        if parts.object_counters is not None:
            parts.object_counters.close()
        parts.drive_time.close()
