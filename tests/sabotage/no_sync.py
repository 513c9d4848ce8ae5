"""The spool confirms records that it wrote and never synced."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "confirmed records lost in simulated power cuts"


@after("telemetry.spool.log")
def writes_are_not_synced(log: Any) -> None:
    def commit(self: Any, active: Any, frames: list[bytes]) -> None:
        self._disk.write_at(active.segment.name, active.page * log.PAGE_BYTES, b"".join(frames))

    put(log.SegmentLog, "_commit", commit)
