"""Law 2 as an account: one fate a frame, whatever dies and comes back."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.frames import FrameAccount, FrameCounts, read_frame_counts
from ecu.clock import boot_id
from ecu.ledger import Ledger
from inference.camera import LEDGER_NAMES


class FrameLife(RuleBasedStateMachine):
    """A camera and an agent that both may die at any time."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="outrider-frames-")
        self.camera_path = Path(self.folder.name) / "camera.ledger"
        self.agent_path = Path(self.folder.name) / "frames.ledger"
        self.account = FrameAccount(self.camera_path, self.agent_path)
        self.camera = Ledger.open(self.camera_path, LEDGER_NAMES, boot_id().encode())
        self.captured = self.told = self.held = 0

    def teardown(self) -> None:
        if hasattr(self, "camera"):
            self.camera.close()
            self.account.close()
            self.folder.cleanup()

    @rule()
    def capture(self) -> None:
        self.camera.add(captured=1)
        self.captured += 1

    @rule()
    def tell(self) -> None:
        if self.told < self.captured:
            self.account.received()
            self.told += 1
            self.held += 1

    @rule(fate=st.sampled_from(["processed", "dropped_by_policy", "dropped_late", "lost_to_fault"]))
    def meet_a_fate(self, fate: str) -> None:
        if self.held:
            getattr(self.account, fate)()
            self.held -= 1

    @rule()
    def camera_dies(self) -> None:
        self.camera.close()
        self.account.settle_loss(still_held=self.held)
        self.told = self.captured
        self.camera = Ledger.open(self.camera_path, LEDGER_NAMES, boot_id().encode())

    @rule()
    def agent_dies(self) -> None:
        self.camera.close()
        self.account.close()
        self.account = FrameAccount(self.camera_path, self.agent_path)
        self.told, self.held = self.captured, 0
        self.camera = Ledger.open(self.camera_path, LEDGER_NAMES, boot_id().encode())

    @invariant()
    def law_2_holds(self) -> None:
        if not hasattr(self, "account"):
            return
        counts = self.account.counts()
        assert counts.holds, counts
        assert counts.captured == self.captured
        assert counts.in_flight == self.held
        assert counts.underway == self.captured - self.told
        assert self.account.next_frame_id == self.told
        assert read_frame_counts(self.camera_path, self.agent_path) == counts


TestFrameLife = FrameLife.TestCase
TestFrameLife.settings = settings(max_examples=40, stateful_step_count=30)


def test_a_lost_ledger_on_either_side_begins_both_anew(tmp_path: Path) -> None:
    for lost in ("camera.ledger", "frames.ledger"):
        folder = tmp_path / lost
        folder.mkdir()
        account = FrameAccount(folder / "camera.ledger", folder / "frames.ledger")
        with contextlib.closing(Ledger.open(folder / "camera.ledger", LEDGER_NAMES, boot_id().encode())) as camera:
            camera.add(captured=5)
            for _ in range(5):
                account.received()
            account.close()
        (folder / lost).unlink()
        account = FrameAccount(folder / "camera.ledger", folder / "frames.ledger")
        counts = account.counts()
        account.close()
        assert counts.holds
        assert counts.captured == counts.received == 0


def test_a_frame_with_two_fates_breaks_law_2_although_the_sum_is_right() -> None:
    counts = FrameCounts(
        captured=1, received=1, processed=2, dropped_by_policy=0, dropped_late=0, lost_to_fault=0, in_flight=-1
    )
    assert not counts.holds
