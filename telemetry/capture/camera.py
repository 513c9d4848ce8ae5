"""What is worth telling about one camera: new objects, doubts, and a summary of each period."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ecu.clock import MILLISECOND_NS
from telemetry.capture.config import CaptureConfig
from telemetry.capture.observations import TrackSeen, View
from telemetry.capture.period import Period
from telemetry.records import AnyEvent, LowConfidence, NewTrack, PerceptionSummary


@dataclass(slots=True)
class _Remembered:
    hits: int = 0
    told: bool = False
    doubted_ns: int | None = None


class CameraWatch:
    """Remembers the `max_tracks` objects seen last; an object forgotten and seen again is a new one (`forgotten`)."""

    def __init__(self, config: CaptureConfig) -> None:
        self.forgotten = 0
        self._config = config
        self._cooldown_ns = config.low_confidence_cooldown_ms * MILLISECOND_NS
        self._period = Period(config.perception_summary_period_ms * MILLISECOND_NS)
        self._tally = _Tally(config.max_tracks)
        self._tracks: dict[int, _Remembered] = {}  # the one seen last comes last
        self._last_ns = -1

    def on_view(self, view: View) -> Iterator[AnyEvent]:
        """What the view tells, nothing for one that isn't newer than the last."""
        if view.t_ns <= self._last_ns:
            return
        self._last_ns = view.t_ns
        for track in view.tracks:
            yield from self._on_track(view, track, self._remember(track))
        self._tally.add(view)
        if self._period.begins_at(view.t_ns):
            yield self._tally.summary(view)
            self._tally = _Tally(self._config.max_tracks)

    def _remember(self, track: TrackSeen) -> _Remembered:
        known = self._tracks.pop(track.track_id, None)
        # Fewer hits than before: the tracker started anew and gave the number to another object.
        memory = known if known is not None and known.hits <= track.hits else _Remembered()
        memory.hits = track.hits
        if len(self._tracks) >= self._config.max_tracks:
            del self._tracks[next(iter(self._tracks))]
            self.forgotten += 1
        self._tracks[track.track_id] = memory
        return memory

    def _on_track(self, view: View, track: TrackSeen, memory: _Remembered) -> Iterator[AnyEvent]:
        if track.hits >= self._config.new_track_hits and not memory.told:
            memory.told = True
            yield NewTrack(view.camera, view.frame_id, track.track_id, track.label, track.score, track.box)
        if self._is_doubtful(view.t_ns, track, memory):
            memory.doubted_ns = view.t_ns
            yield LowConfidence(view.camera, view.frame_id, track.track_id, track.label, track.score)

    def _is_doubtful(self, t_ns: int, track: TrackSeen, memory: _Remembered) -> bool:
        cools = memory.doubted_ns is not None and t_ns - memory.doubted_ns < self._cooldown_ns
        steady = track.hits >= self._config.low_confidence_hits
        return steady and track.score < self._config.low_confidence_below and not cools


class _Tally:
    """What was seen since the last summary."""

    def __init__(self, max_tracks: int) -> None:
        self._max_tracks = max_tracks
        self._frames = 0
        self._sightings = 0
        self._score_sum = 0.0
        self._labels: dict[int, str] = {}

    def add(self, view: View) -> None:
        self._frames += 1
        for track in view.tracks:
            self._sightings += 1
            self._score_sum += track.score
            if track.track_id in self._labels or len(self._labels) < self._max_tracks:
                self._labels[track.track_id] = track.label

    def summary(self, last: View) -> PerceptionSummary:
        mean = self._score_sum / self._sightings if self._sightings else 0.0
        classes = dict(sorted(Counter(self._labels.values()).items()))
        return PerceptionSummary(last.camera, last.frame_id, self._frames, len(self._labels), classes, mean)
