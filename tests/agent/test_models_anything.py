"""Models on trial, whatever happens in whatever order: somebody is live, and every frame is accounted for."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.agent.puppets import (
    SLOTS,
    PuppetWorker,
    Stage,
    Watch,
    on_stage,
)
from tests.agent.virtualtime import in_virtual_time, passes, settled

CANDIDATE = Path("candidate")


EVENTS = (
    "frame", "frame", "live sees", "live sees", "candidate sees", "candidate sees", "beside dies", "live dies",
    "try", "swap", "leave", "camera dies",
)  # fmt: skip


@settings(max_examples=80)
@given(st.lists(st.sampled_from(EVENTS), max_size=40))
@example(["try", "frame", "live sees", "frame", "swap", "candidate sees", "live sees"])
@example(["try", "frame", "swap", "live dies", "candidate sees", "frame"])
@example(["try", "frame", "swap", "leave", "frame", "live sees"])
@example(["try", "frame", "candidate sees", "leave", "live sees"])
@example(["try", "frame", "candidate sees", "beside dies", "live sees"])
@example(["try", "swap", "swap", "frame", "live sees"])
def test_whatever_happens_in_a_trial_each_frame_has_one_fate_and_one_model(events: list[str]) -> None:
    @in_virtual_time
    async def scenario() -> None:
        with tempfile.TemporaryDirectory(prefix="outrider-trial-") as folder:
            async with on_stage(Path(folder)) as stage:
                await Anything(stage).happens(events)

    scenario()


class Anything:
    """Does what it is told, if it can be done just now, and holds the stage to its laws after each."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._seen_by: list[Path] = []
        self._swap: asyncio.Future[int] | None = None
        self._switches: list[tuple[int, Path]] = [(0, stage.live.package)]

    async def happens(self, events: Sequence[str]) -> None:
        for event in events:
            await self._does(event, self._stage.perception.status().trial is not None)
            await settled()
            self._take_the_swap()
            self._laws()
        if self._swap is not None:
            self._swap.cancel()

    async def _does(self, event: str, is_trying: bool) -> None:
        stage, beside = self._stage, self._beside
        match event:
            case "frame":
                stage.camera.captures()
            case "live sees" if stage.live.owes:
                self._seen_by.append(stage.live.package)
                stage.live.sees(1)
            case "candidate sees" if beside is not None and beside.owes:
                beside.sees(2)
            case "beside dies" if beside is not None:
                beside.dies()
            case "live dies":
                stage.live.dies()
            case "camera dies":
                stage.camera.dies()
            case "try" if not is_trying:
                stage.perception.try_beside(CANDIDATE / str(len(stage.workers)), Watch())
            case "swap" if is_trying and self._swap is None:
                self._swap = asyncio.ensure_future(stage.perception.swap())
            case "leave":
                await stage.perception.leave_beside()
        if "dies" in event:
            await passes(20.0)

    @property
    def _beside(self) -> PuppetWorker | None:
        """Whoever is alive of another model than the live one's."""
        others = (one for one in self._stage.workers if one.package != self._stage.live.package)
        return next((one for one in others if not one.is_reaped), None)

    def _take_the_swap(self) -> None:
        if self._swap is not None and self._swap.done():
            if self._swap.exception() is None:
                self._switches.append((self._swap.result(), self._stage.live.package))
            self._swap = None

    def _laws(self) -> None:
        stage, counts = self._stage, self._stage.frames
        assert counts.holds, counts
        ids = [seen.frame_id for seen in stage.seen]
        assert ids == sorted(set(ids))
        # The latest of them: two switches between the same two frames begin with the same one.
        by = [[package for first_id, package in self._switches if first_id <= frame_id][-1] for frame_id in ids]
        assert by == self._seen_by
        numbers = [track.track_id for seen in stage.seen for track in seen.tracks]
        assert numbers == sorted(set(numbers))
        held = {one.asked.slot for one in (stage.live, self._beside) if one is not None and one.owes}
        waiting = counts.in_flight - stage.live.owes
        assert 0 <= waiting <= 1
        assert len(stage.camera.leases) + len(held) + waiting == SLOTS
