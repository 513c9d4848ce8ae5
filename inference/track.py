"""Detections into tracks with stable numbers: BYTE's two-stage association (Zhang et al., arXiv:2110.06864).

A track first meets the sure detections of its class, then the unsure ones (an object half hidden scores low but is
still there), and last a sure one of another class in nearly its own place (a detector wavers between car and truck).
Boxes move by an alpha-beta filter, the steady state of a constant-velocity Kalman filter (Kalata, IEEE TAES-20, 1984).
Pairs are taken greedily by overlap; equals by the older track, then the surer detection. No chance, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.detections import Detections, iou, surest_first

_MIN_SIDE = 1.0


@dataclass(frozen=True, slots=True)
class TrackerParams:
    """Scores and overlaps are fractions of 1, ages are frames of the source, gains are per frame."""

    score_sure: float = 0.40
    score_unsure: float = 0.20
    iou_sure: float = 0.20
    iou_unsure: float = 0.50
    iou_other_class: float = 0.60
    hits_to_confirm: int = 3
    max_age: int = 12
    max_tracks: int = 200
    gain_position: float = 0.70
    gain_velocity: float = 0.25


@dataclass(frozen=True, slots=True)
class Track:
    """One object followed over frames.

    `box` is xyxy in pixels, `age` the frames since it was last seen (0: in this one), `hits` the frames it was seen in,
    `score` the one it was last seen with, `label` the class it was most surely seen as so far.
    """

    track_id: int
    label: int
    score: float
    box: tuple[float, float, float, float]
    age: int
    hits: int
    confirmed: bool


@dataclass(slots=True)
class _Followed:
    """A track's state between frames. `box` and `velocity` are centre x, y, width, height."""

    track_id: int
    box: NDArray[np.float64]
    velocity: NDArray[np.float64]
    belief: dict[int, float]
    label: int
    score: float
    age: int
    hits: int


class Tracker:
    """Follows one camera's objects. Numbers count up from `first_id` and never come back, not even after `reset`."""

    def __init__(self, params: TrackerParams | None = None, first_id: int = 1) -> None:
        self._params = params or TrackerParams()
        self._next_id = first_id
        self._followed: list[_Followed] = []
        self.not_followed = 0
        """Sure detections that got no track because `max_tracks` were alive."""

    @property
    def next_id(self) -> int:
        """The number the next new track gets."""
        return self._next_id

    def reset(self) -> None:
        """Forgets every track: the scene starts anew."""
        self._followed = []

    def update(self, detections: Detections, steps: int = 1) -> tuple[Track, ...]:
        """The tracks alive after this frame, by number; `steps` frames of the source lie since the last update.

        Give it detections down to `score_unsure`. A track not yet confirmed dies at its first miss, any other when it
        is older than `max_age`.
        """
        if steps < 1:
            raise ValueError(f"{steps} frames can't lie between two updates")
        seen = detections.pick(surest_first(detections)).at_least(self._params.score_unsure)
        self._coast(steps)
        self._begin(seen, self._associate(seen))
        self._followed = [track for track in self._followed if self._stays(track)]
        return tuple(self._shown(track) for track in self._followed)

    def _coast(self, steps: int) -> None:
        for track in self._followed:
            track.box = track.box + track.velocity * steps
            track.box[2:] = np.maximum(track.box[2:], _MIN_SIDE)
            track.age += steps

    def _associate(self, seen: Detections) -> NDArray[np.bool_]:
        """Feeds each track the detection it goes with; returns which detections are left."""
        params, free = self._params, np.ones(len(seen), np.bool_)
        if not self._followed or not len(seen):
            return free
        idle = np.ones(len(self._followed), np.bool_)
        overlap = iou(_corners(np.stack([track.box for track in self._followed])), seen.boxes)
        same = np.array([track.label for track in self._followed])[:, None] == seen.labels[None]
        sure = (seen.scores >= np.float32(params.score_sure))[None]
        for may_meet, least in (
            (same & sure, params.iou_sure),
            (same & ~sure, params.iou_unsure),
            (~same & sure, params.iou_other_class),
        ):
            open_pairs = may_meet & idle[:, None] & free[None]
            for row, column in _pair(np.where(open_pairs, overlap, 0.0), least):
                idle[row] = free[column] = False
                self._feed(self._followed[row], seen, column)
        return free

    def _feed(self, track: _Followed, seen: Detections, which: int) -> None:
        residual = _centred(seen.boxes[which]) - track.box
        track.box = track.box + self._params.gain_position * residual
        track.velocity = track.velocity + self._params.gain_velocity / track.age * residual
        label, track.score = int(seen.labels[which]), float(seen.scores[which])
        track.belief[label] = track.belief.get(label, 0.0) + track.score
        track.label = max(track.belief, key=lambda known: (track.belief[known], -known))
        track.age = 0
        track.hits += 1

    def _begin(self, seen: Detections, free: NDArray[np.bool_]) -> None:
        room = max(self._params.max_tracks - len(self._followed), 0)
        unmet = np.flatnonzero(free & (seen.scores >= np.float32(self._params.score_sure))).tolist()
        self.not_followed += len(unmet[room:])
        for which in unmet[:room]:
            label, score = int(seen.labels[which]), float(seen.scores[which])
            self._followed.append(
                _Followed(self._next_id, _centred(seen.boxes[which]), np.zeros(4), {label: score}, label, score, 0, 1)
            )
            self._next_id += 1

    def _stays(self, track: _Followed) -> bool:
        return track.age == 0 or (self._is_confirmed(track) and track.age <= self._params.max_age)

    def _is_confirmed(self, track: _Followed) -> bool:
        return track.hits >= self._params.hits_to_confirm

    def _shown(self, track: _Followed) -> Track:
        x1, y1, x2, y2 = _corners(track.box[None])[0].tolist()
        confirmed = self._is_confirmed(track)
        return Track(track.track_id, track.label, track.score, (x1, y1, x2, y2), track.age, track.hits, confirmed)


def _pair(overlap: NDArray[np.floating], least: float) -> list[tuple[int, int]]:
    """Disjoint (row, column) pairs at or above `least`, the greatest overlap first; equals by row, then column."""
    rows, columns = np.nonzero(overlap >= least)
    order = np.argsort(-overlap[rows, columns], kind="stable")
    pairs: list[tuple[int, int]] = []
    rows_used: set[int] = set()
    columns_used: set[int] = set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in rows_used and column not in columns_used:
            rows_used.add(row)
            columns_used.add(column)
            pairs.append((row, column))
    return pairs


def _centred(box: NDArray[np.floating]) -> NDArray[np.float64]:
    corner, opposite = box[:2].astype(np.float64), box[2:].astype(np.float64)
    return np.concatenate([(corner + opposite) / 2, np.maximum(opposite - corner, _MIN_SIDE)])


def _corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
