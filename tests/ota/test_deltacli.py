"""`outrider ota delta`, as far as it goes without a terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from ecu.errors import EnvironmentFault
from ota.deltacli import bytes_to_read, deltas_table, make
from ota.errors import RepositoryFault
from ota.repository.alone import alone
from ota.repository.deltas import Delta
from tests.ota.differing import SIZE, contents
from tests.ota.fleet import Fleet


def test_it_makes_what_vehicles_ask_for_and_its_bar_ends_at_its_end(fleet: Fleet) -> None:
    old, new = (fleet.release(f"{number}.0", number, files=dict(contents(number))) for number in (1, 2))
    told = list[int]()
    (made,) = make(fleet.repo, old.target, new.target, told.append)
    assert (made.file, made.full_bytes) == ("model.onnx", SIZE)
    assert sum(told) == bytes_to_read(fleet.repo, old.target, new.target) == SIZE
    with alone(fleet.repo), pytest.raises(EnvironmentFault, match="at work"):
        make(fleet.repo, old.target, new.target, told.append)


def test_a_folder_that_is_no_repository_is_said(tmp_path: Path) -> None:
    with pytest.raises(RepositoryFault, match="There is no repository"):
        make(tmp_path, "model/a-1.0.json", "model/a-2.0.json", lambda size: None)


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_says_what_was_saved_and_where_nothing_was(columns: int) -> None:
    console = Console(width=columns, record=True, file=io.StringIO())
    console.print(deltas_table([Delta("model.onnx", 22_813_999, 2_149_123), Delta("new.bin", 1_000, None)]))
    text = console.export_text()
    assert "9.4 %" in text
    assert "the full file is as good" in text
    assert all(len(line) <= columns for line in text.splitlines())
