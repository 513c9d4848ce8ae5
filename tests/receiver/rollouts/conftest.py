from __future__ import annotations

import pytest

from tests.ota.fleet import Fleet


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """A repository with two releases of a model, and nobody who has one."""
    fleet = Fleet(tmp_path_factory.mktemp("published"))
    fleet.release("1.0", 1)
    fleet.release("2.0", 2, b"better")
    fleet.release("2.1", 3, b"weights")
    return fleet
