"""A signing desk for those tests of the agent that need one."""

from __future__ import annotations

from tests.ota.conftest import fleet, founded

__all__ = ["fleet", "founded"]
