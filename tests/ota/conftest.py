"""A fleet that was founded once, and a copy of it for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ota.fleet import Fleet


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return Fleet(tmp_path_factory.mktemp("founded") / "fleet")


@pytest.fixture
def fleet(founded: Fleet, tmp_path: Path) -> Fleet:
    return founded.copy(tmp_path / "fleet")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"
