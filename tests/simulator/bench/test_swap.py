"""What is measured of a swap is what happens: real models, real workers, and a lost frame would be seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator.bench.ota import swap


@pytest.mark.soak
async def test_swaps_lose_nothing_and_the_good_model_is_back_within_the_second(tmp_path: Path) -> None:
    counts = await swap.swapped_in_lockstep(tmp_path, 2)
    assert counts.captured == counts.processed > 20
    back, real = await swap.rolled_back(tmp_path, 2)
    assert len(back) == 2
    assert 0 < max(back) <= swap.BACK_WITHIN_S
    assert real.lost_to_fault == 0
