"""A slice of the soak for machines that have no hour: some cases of each long test, others every time.

OUTRIDER_SOAK_SLICE=2 keeps two cases of each soak test of this folder; OUTRIDER_SEED says which (0 when it is not set).
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from random import Random

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept = os.environ.get("OUTRIDER_SOAK_SLICE")
    if kept is None:
        return
    long = [item for item in items if HERE in item.path.parents and item.get_closest_marker("soak")]
    drawn = drawn_cases([item.nodeid for item in long], int(kept), os.environ.get("OUTRIDER_SEED", "0"))
    left_out = [item for item in long if item.nodeid not in drawn]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def drawn_cases(node_ids: list[str], each: int, seed: str) -> set[str]:
    """At most `each` cases of every test, by `seed` alone: neither the order nor other tests matter."""
    cases: dict[str, list[str]] = defaultdict(list)
    for node_id in node_ids:
        cases[node_id.partition("[")[0]].append(node_id)
    return {
        drawn
        for test, ids in cases.items()
        for drawn in Random(f"{seed} {test}").sample(sorted(ids), min(each, len(ids)))
    }
