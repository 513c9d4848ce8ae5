"""A release that tells states is tried and kept, and the workers go on with the one before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "what the fleet learned is kept"


@after("agent.perception.settings")
def stays(settings: Any) -> None:
    def with_package(before: Any, role: Any, package: Path) -> Any:
        return before if role is settings.Role.STATES else honest(before, role, package)

    honest = put(settings.PerceptionSettings, "with_package", with_package)
