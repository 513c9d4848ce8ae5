"""Where a block lies, and which records it is: what the uplink holds while it sends."""

from __future__ import annotations

from dataclasses import dataclass

from telemetry.records import Lane, Purpose


@dataclass(frozen=True, slots=True)
class BlockRef:
    """One block in the spool. `serial`, `index` and `page` say where; they order a lane's blocks, oldest first."""

    lane: Lane
    epoch: bytes
    base_seq: int
    count: int
    purpose: Purpose
    wire_bytes: int
    serial: int
    index: int
    page: int

    @property
    def end_seq(self) -> int:
        """One past the last record."""
        return self.base_seq + self.count
