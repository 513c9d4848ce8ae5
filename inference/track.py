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
    iou_echo: float = 0.50
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
    """What is known of a track besides its motion. `belief` sums the scores it was seen with, by class."""

    track_id: int
    label: int
    score: float
    belief: dict[int, float]
    age: int = 0
    hits: int = 1

    def see(self, label: int, score: float) -> None:
        self.score = score
        self.belief[label] = self.belief.get(label, 0.0) + score
        self.label = max(self.belief, key=lambda known: (self.belief[known], -known))
        self.age = 0
        self.hits += 1


class Tracker:
    """Follows one camera's objects. Numbers count up from `first_id` and never come back, not even after `reset`."""

    def __init__(self, params: TrackerParams | None = None, first_id: int = 1) -> None:
        self._params = params or TrackerParams()
        self._next_id = first_id
        self.not_followed = 0
        """Sure detections that got no track because `max_tracks` were alive."""
        self.reset()

    @property
    def next_id(self) -> int:
        """The number the next new track gets."""
        return self._next_id

    def reset(self) -> None:
        """Forgets every track: the scene starts anew."""
        self._followed: list[_Followed] = []
        # One row a track: centre x, y, width, height in pixels, and the same per frame.
        self._places = np.zeros((0, 4))
        self._velocities = np.zeros((0, 4))

    def update(self, detections: Detections, steps: int = 1) -> tuple[Track, ...]:
        """The tracks alive after this frame, by number; `steps` frames of the source lie since the last update.

        Give it detections down to `score_unsure`. A track not yet confirmed dies at its first miss, any other when it
        is older than `max_age`.
        """
        if steps < 1:
            raise ValueError(f"{steps} frames can't lie between two updates")
        seen = self._without_echoes(detections.pick(surest_first(detections)).at_least(self._params.score_unsure))
        places = _centred(seen.boxes)
        self._coast(steps)
        # Before anything is associated: after a long gap what lies where a track would be is another object.
        self._drop_aged()
        pairs = self._associate(seen)
        self._move(pairs, places)
        for row, column in pairs:
            self._followed[row].see(int(seen.labels[column]), float(seen.scores[column]))
        self._drop_lost()
        self._begin(seen, places, {column for _, column in pairs})
        return self._shown()

    def _without_echoes(self, seen: Detections) -> Detections:
        """An unsure box over a sure one of its class is the same object seen twice; it would keep a phantom alive."""
        sure = seen.scores >= np.float32(self._params.score_sure)
        if sure.all():
            return seen
        over = iou(seen.boxes, seen.boxes[sure]) > self._params.iou_echo
        echoes = ~sure & (over & (seen.labels[:, None] == seen.labels[sure])).any(axis=1)
        return seen.pick(~echoes)

    def _coast(self, steps: int) -> None:
        self._places = self._places + self._velocities * steps
        np.maximum(self._places[:, 2:], _MIN_SIDE, out=self._places[:, 2:])
        for track in self._followed:
            track.age += steps

    def _associate(self, seen: Detections) -> list[tuple[int, int]]:
        """Disjoint pairs of a track's row and a detection's index, stage by stage."""
        if not self._followed or not len(seen):
            return []
        params = self._params
        overlap = iou(_corners(self._places), seen.boxes)
        same = np.array([track.label for track in self._followed])[:, None] == seen.labels
        sure = seen.scores >= np.float32(params.score_sure)
        pairs: list[tuple[int, int]] = []
        for may_meet, least in (
            (same & sure, params.iou_sure),
            (same & ~sure, params.iou_unsure),
            (~same & sure, params.iou_other_class),
        ):
            pairs += _pair(overlap, may_meet & (overlap >= least), pairs)
        return pairs

    def _move(self, pairs: list[tuple[int, int]], places: NDArray[np.float64]) -> None:
        if not pairs:
            return
        rows, columns = np.array(pairs).T
        residuals = places[columns] - self._places[rows]
        ages = np.array([self._followed[row].age for row, _ in pairs])[:, None]
        self._places[rows] += self._params.gain_position * residuals
        self._velocities[rows] += self._params.gain_velocity * residuals / ages

    def _drop_aged(self) -> None:
        self._keep([track.age <= self._params.max_age for track in self._followed])

    def _drop_lost(self) -> None:
        self._keep([self._stays(track) for track in self._followed])

    def _keep(self, stays: list[bool]) -> None:
        if not all(stays):
            self._followed = [track for track, kept in zip(self._followed, stays, strict=True) if kept]
            self._places, self._velocities = self._places[stays], self._velocities[stays]

    def _stays(self, track: _Followed) -> bool:
        return track.age == 0 or (self._is_confirmed(track) and track.age <= self._params.max_age)

    def _is_confirmed(self, track: _Followed) -> bool:
        return track.hits >= self._params.hits_to_confirm

    def _begin(self, seen: Detections, places: NDArray[np.float64], taken: set[int]) -> None:
        sure = np.flatnonzero(seen.scores >= np.float32(self._params.score_sure)).tolist()
        unmet = [which for which in sure if which not in taken]
        room = max(self._params.max_tracks - len(self._followed), 0)
        self.not_followed += len(unmet[room:])
        born = unmet[:room]
        for which in born:
            label, score = int(seen.labels[which]), float(seen.scores[which])
            self._followed.append(_Followed(self._next_id, label, score, {label: score}))
            self._next_id += 1
        if born:
            self._places = np.concatenate([self._places, places[born]])
            self._velocities = np.concatenate([self._velocities, np.zeros((len(born), 4))])

    def _shown(self) -> tuple[Track, ...]:
        boxes = _corners(self._places).tolist()
        return tuple(
            Track(t.track_id, t.label, t.score, (x1, y1, x2, y2), t.age, t.hits, self._is_confirmed(t))
            for t, (x1, y1, x2, y2) in zip(self._followed, boxes, strict=True)
        )


def _pair(
    overlap: NDArray[np.floating], may_meet: NDArray[np.bool_], taken: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Disjoint (row, column) pairs that may meet, the greatest overlap first; equals by row, then column."""
    rows, columns = np.nonzero(may_meet)
    order = np.argsort(-overlap[rows, columns], kind="stable")
    rows_used, columns_used = {row for row, _ in taken}, {column for _, column in taken}
    pairs: list[tuple[int, int]] = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in rows_used and column not in columns_used:
            rows_used.add(row)
            columns_used.add(column)
            pairs.append((row, column))
    return pairs


def _centred(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """xyxy -> centre x, y, width, height."""
    corners, opposites = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64)
    return np.concatenate([(corners + opposites) / 2, np.maximum(opposites - corners, _MIN_SIDE)], axis=1)


def _corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
