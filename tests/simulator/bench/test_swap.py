"""What is measured of a swap is what happens: real models, real workers, and a lost frame would be seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator.bench.ota import swap
from simulator.bench.ota.swap import Look, left_out
from simulator.demo.updateclaims import LEFT_OUT_BAR


def seen(*frames: tuple[int, bool]) -> list[Look]:
    return [Look(frame, is_new, 0.0) for frame, is_new in frames]


def test_frames_that_neither_model_saw_at_a_swap_are_counted_and_others_arent() -> None:
    assert left_out(seen((1, False), (2, True), (9, True), (10, False))) == [0, 0]
    assert left_out(seen((1, False), (8, True), (11, False))) == [6, 2]
    assert left_out(seen((1, False), (8, False))) == []


@pytest.mark.soak
async def test_swaps_lose_nothing_and_the_good_model_is_back_within_the_second(tmp_path: Path) -> None:
    counts = await swap.swapped_in_lockstep(tmp_path, 2)
    assert counts.captured == counts.processed > 20
    real = await swap.rolled_back(tmp_path, 2)
    assert len(real.back_s) == 2
    assert 0 < max(real.back_s) <= swap.BACK_WITHIN_S
    assert real.counts.lost_to_fault == 0
    assert len(real.left_out) == 4
    assert max(real.left_out) <= LEFT_OUT_BAR
