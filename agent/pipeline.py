"""Hop 3: what came in becomes records. Pure: the same samples in the same order give the same records (law 7).

Replay and the daemon share it; only where its records go differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from inference.messages import Seen
from telemetry.capture.observations import TrackSeen, View
from telemetry.capture.rules import CaptureRules
from telemetry.privacy.stage import Dropped, Privacy
from telemetry.records import ClockAnchor, Health, Learned, PictureTaken, Purpose, Record, UpdateReport, record_of
from telemetry.signals.state import SignalState


class Pipeline:
    """Signals and views in, records out, each past the privacy stage. `hear` is told of all signals, too."""

    def __init__(
        self,
        camera: str,
        rules: CaptureRules,
        privacy: Privacy,
        hear: Callable[[int, Mapping[str, float]], None] | None = None,
    ) -> None:
        self._camera = camera
        self._rules = rules
        self._privacy = privacy
        self._signals = SignalState()
        self._hear = hear
        self._ignored = 0

    def forget(self, purpose: Purpose) -> None:
        """What a record for it would be made of, as far as it is known already."""
        if purpose in (Purpose.SAFETY, Purpose.DRIVING):
            self._ignored += self._signals.ignored
            self._signals = SignalState()
        elif purpose is Purpose.PERCEPTION:
            self._rules.forget_views()

    def left_out(self) -> dict[str, int]:
        """What never became a record for want of room, by what it was."""
        return {
            "values_of_further_signals": self._ignored + self._signals.ignored,
            "views_of_further_cameras": self._rules.ignored,
            "objects_forgotten": self._rules.forgotten,
        }

    def on_signals(self, t_ns: int, values: dict[str, float]) -> list[Record]:
        self._privacy.hear(t_ns, values)
        self._signals.put(t_ns, values)
        if self._hear is not None:
            self._hear(t_ns, values)
        return list(self._private(self._rules.on_signals(t_ns, self._signals)))

    def on_seen(self, seen: Seen) -> list[Record]:
        view = View(
            camera=self._camera,
            frame_id=seen.frame_id,
            t_ns=seen.t_ns,
            tracks=tuple(TrackSeen(t.track_id, t.label, t.score, t.box, t.hits) for t in seen.tracks if t.confirmed),
        )
        return list(self._private(self._rules.on_view(view)))

    def on_health(self, t_ns: int, what: str, detail: str) -> list[Record]:
        return list(self._private((record_of(t_ns, Health(what=what, detail=detail)),)))

    def on_picture(self, t_ns: int, picture: PictureTaken) -> list[Record]:
        return list(self._private((record_of(t_ns, picture),)))

    def on_learned(self, t_ns: int, learned: Learned) -> list[Record]:
        return list(self._private((record_of(t_ns, learned),)))

    def on_update(self, t_ns: int, report: UpdateReport) -> list[Record]:
        return list(self._private((record_of(t_ns, report),)))

    def on_captured(self, record: Record) -> list[Record]:
        """What a campaign told: its samples have been through the privacy stage where they were cut."""
        return list(self._private((record,)))

    def on_clock(self, t_ns: int, anchor: ClockAnchor) -> list[Record]:
        return list(self._private((record_of(t_ns, anchor),)))

    def _private(self, records: tuple[Record, ...]) -> Iterator[Record]:
        for record in records:
            kept = self._privacy.apply(record)
            if not isinstance(kept, Dropped):
                yield kept
