"""What docs/uptane.md calls met is shown by a test that is there; what isn't met says why."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs/uptane.md").read_text().splitlines()
    if re.match(r"\| 5\.", line)
]


@cache
def named_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1][:40]}")
def test_a_met_requirement_names_a_test_that_is_there_and_another_says_why(row: list[str]) -> None:
    _, _, met, shown = row
    named = re.fullmatch(r"`(tests/[a-z_/]+\.py)::(test_[a-z0-9_]+)`", shown)
    if met.startswith("met") or shown:
        assert named is not None, f"{met!r} without a test"
        assert named[2] in named_in(named[1])
    else:
        assert met.startswith(("not met: ", "not met by ", "partly: ", "none here")), met


def test_every_section_of_the_standard_that_demands_something_is_there() -> None:
    sections = {row[0] for row in ROWS}
    assert len(ROWS) >= 60
    assert {"5.1.1", "5.2.5", "5.3.2.1", "5.4.1", "5.4.2.1", "5.4.3.4", "5.4.4.2", "5.4.4.7"} <= sections
