"""Law 2 in numbers: captured = processed + dropped_by_policy + dropped_late + in_flight + lost_to_fault, per camera.

The camera's process counts what it captured in a ledger of its own; the agent counts what became of each frame in
another. Both outlive their writers, so the sum holds across kills: what was under way is then lost to the fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ecu.clock import boot_id
from ecu.ledger import Ledger

FATES = ("processed", "dropped_by_policy", "dropped_late", "lost_to_fault")
AGENT_NAMES = ("received", "in_flight", *FATES)


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """One camera's frames since its ledgers began. `captured` is the camera's own count, all else the agent's."""

    captured: int
    received: int
    processed: int
    dropped_by_policy: int
    dropped_late: int
    lost_to_fault: int
    in_flight: int

    @property
    def underway(self) -> int:
        """Captured, and not yet told to the agent."""
        return self.captured - self.received

    @property
    def holds(self) -> bool:
        """Law 2: every frame told to the agent has one fate and no more, and none was told that wasn't captured."""
        fates = self.processed + self.dropped_by_policy + self.dropped_late + self.lost_to_fault
        return min(self.underway, self.in_flight) >= 0 and self.received == fates + self.in_flight


class FrameAccount:
    """The agent's side of one camera's count. One frame moves from in flight to exactly one fate."""

    def __init__(self, camera_ledger: Path, agent_ledger: Path) -> None:
        self.camera_ledger = camera_ledger
        is_new = not agent_ledger.exists()
        self._ledger = Ledger.open(agent_ledger, AGENT_NAMES, boot_id().encode())
        # A power cut or a person may take one ledger and leave the other. Half a count is none: both begin anew.
        if is_new or self._ledger.was_lost or self._captured() < self._ledger.values()["received"]:
            camera_ledger.unlink(missing_ok=True)
            self._ledger.set(**dict.fromkeys(AGENT_NAMES, 0))
        self.settle_loss()

    @property
    def next_frame_id(self) -> int:
        return self._ledger.values()["received"]

    def received(self) -> None:
        self._ledger.add(received=1, in_flight=1)

    def processed(self) -> None:
        self._ledger.add(in_flight=-1, processed=1)

    def dropped_by_policy(self) -> None:
        self._ledger.add(in_flight=-1, dropped_by_policy=1)

    def dropped_late(self) -> None:
        self._ledger.add(in_flight=-1, dropped_late=1)

    def lost_to_fault(self) -> None:
        self._ledger.add(in_flight=-1, lost_to_fault=1)

    def settle_loss(self, still_held: int = 0) -> int:
        """After a process died: all that was under way, but for `still_held` frames, is lost. Returns how many."""
        values = self._ledger.values()
        untold = self._captured() - values["received"]
        dangling = values["in_flight"] - still_held
        self._ledger.add(received=untold, in_flight=-dangling, lost_to_fault=untold + dangling)
        return untold + dangling

    def counts(self) -> FrameCounts:
        values: Mapping[str, int] = self._ledger.values()
        return FrameCounts(captured=self._captured(), **{name: values[name] for name in AGENT_NAMES})

    def close(self) -> None:
        self._ledger.close()

    def _captured(self) -> int:
        counts = Ledger.peek(self.camera_ledger)
        return counts["captured"] if counts is not None else 0


def read_frame_counts(camera_ledger: Path, agent_ledger: Path) -> FrameCounts | None:
    """The counts as the ledgers have them, from outside; None while there are none."""
    camera, agent = Ledger.peek(camera_ledger), Ledger.peek(agent_ledger)
    if camera is None or agent is None:
        return None
    return FrameCounts(captured=camera["captured"], **{name: agent[name] for name in AGENT_NAMES})
