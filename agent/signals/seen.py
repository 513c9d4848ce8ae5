"""What the camera's model sees, as signals: so that a campaign's condition speaks of it as of any other signal.

Vehicle.Outrider.Perception.<Camera>.<Label>.Count   objects of that class in the newest frame
Vehicle.Outrider.Perception.<Camera>.<Label>.Score   the surest one's score, 0..1
Vehicle.Outrider.Perception.<Camera>.LeastScore      the least sure steady object's score, 1 without one
Vehicle.Outrider.Perception.<Camera>.Disagreement    0..1: how much of the newest frame's objects only one of two
                                                     models saw, while another looks on; else not told
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from inference.messages import Seen

ROOT: Final = "Vehicle.Outrider.Perception"


class SeenSignals:
    """Turns one camera's results into values. A class that was seen once is told as 0 from then on, not left out."""

    def __init__(self, camera: str) -> None:
        self._branch = f"{ROOT}.{_named(camera)}"
        self._labels: set[str] = set()

    def values(self, seen: Seen, disagreement: float | None = None) -> dict[str, float]:
        tracks = [track for track in seen.tracks if track.confirmed]
        counts = Counter(track.label for track in tracks)
        self._labels |= counts.keys()
        values = {f"{self._branch}.LeastScore": min((track.score for track in tracks), default=1.0)}
        for label in sorted(self._labels):
            values[f"{self._branch}.{_named(label)}.Count"] = float(counts[label])
            values[f"{self._branch}.{_named(label)}.Score"] = max(
                (track.score for track in tracks if track.label == label), default=0.0
            )
        if disagreement is not None:
            values[f"{self._branch}.Disagreement"] = disagreement
        return values


def _named(name: str) -> str:
    """As VSS writes a branch: traffic_light -> TrafficLight, front-left -> FrontLeft."""
    return "".join(part[:1].upper() + part[1:] for part in name.replace("-", "_").split("_"))
