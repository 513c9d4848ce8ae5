"""The drive, drawn: tracks' boxes over an empty road, from the tracks alone. Nobody is shown.

The first frame is drawn here; `assets/drive.js` draws the others into the same groups from `replay_data`.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from simulator.boxes import Box
from simulator.report.evidence import Drive, Fault, Frame, Line
from simulator.report.ground import Ground, infer
from simulator.report.markup import Markup, element, number
from simulator.report.plots import letter
from simulator.report.routemap import arrivals, cells_m

COLOURS: Final = 6
MAX_BOXES: Final = 7_000
MAX_FRAMES: Final = 3_000
"""What the replay keeps of a long drive: it shows every n-th frame and moves between them."""
MAX_SAMPLES: Final = 2_000
FINEST_S: Final = 0.25
NEAREST_M: Final = 5.0
NAME_PX: Final = 10.0
"""About the width of one letter of a track's name."""


def colour_index(track_id: int) -> int:
    return track_id % COLOURS


def keyframes(frames: Sequence[Frame]) -> Sequence[Frame]:
    """Every n-th frame from the first on, few enough for the page to stay small."""
    boxes = sum(len(frame.boxes) for frame in frames)
    return frames[:: max(1, math.ceil(boxes / MAX_BOXES), math.ceil(len(frames) / MAX_FRAMES))]


def first_with_tracks(frames: Sequence[Frame]) -> int:
    """Where the replay stands before anybody moves it."""
    return next((i for i, frame in enumerate(frames) if frame.boxes), 0)


# --- the drawing -----------------------------------------------------------------------------------------------------


def road(drive: Drive) -> Markup:
    """The road, and the tracks of the first frame that has any."""
    frames, ground = keyframes(drive.frames), ground_of(drive)
    first = frames[first_with_tracks(frames)].boxes if frames else ()
    return element(
        "svg",
        _land(ground),
        element("g", element("path", d=_marks(ground)), id="marks"),
        element("g", _boxed(first), id="tracks"),
        viewBox=f"0 {number(ground.top)} {ground.width} {number(ground.height - ground.top)}",
        class_="road",
        role="img",
        aria_label="Boxes of the tracks in view over an empty road",
    )


def ground_of(drive: Drive) -> Ground:
    boxes = [box for frame in keyframes(drive.frames) for box in frame.boxes]
    return infer(boxes, drive.width_px, drive.height_px)


def _land(ground: Ground) -> list[Markup]:
    middle, row = number(ground.width / 2), number(ground.horizon)
    left, right = (number(ground.width / 2 + edge_m * ground.metre_px) for edge_m in ground.edges_m)
    whole, below = ground.height - ground.top, ground.height - ground.horizon
    return [
        element("defs", _fading("haze", "land"), _fading("tarmac", "surface")),
        element("rect", x=0, y=ground.top, width=ground.width, height=whole, class_="sky"),
        element("rect", x=0, y=ground.horizon, width=ground.width, height=below, fill="url(#haze)"),
        element("path", d=f"M{middle} {row}L{left} {ground.height}H{right}Z", fill="url(#tarmac)"),
        element("path", d=f"M{left} {ground.height}L{middle} {row}L{right} {ground.height}", class_="edge"),
        element("path", d=f"M0 {row}H{ground.width}", class_="horizon"),
    ]


def _fading(name: str, css: str) -> Markup:
    """The farther, the paler."""
    stops = [element("stop", offset=offset, class_=kind) for offset, kind in (("0", f"{css} far"), ("0.5", css))]
    return element("linearGradient", stops, id=name, x1="0", y1="0", x2="0", y2="1")


def _marks(ground: Ground) -> str:
    """Lane marks 3 m long every 12 m, as if the picture's lower edge were 5 m away; `drive.js` moves them."""

    def corner(across_m: float, away_m: float) -> str:
        near = NEAREST_M / away_m
        x = ground.width / 2 + across_m * ground.metre_px * near
        return f"{number(x, 1)} {number(ground.horizon + (ground.height - ground.horizon) * near, 1)}"

    return "".join(
        f"M{corner(x - 0.07, z)}L{corner(x - 0.07, z + 3)}L{corner(x + 0.07, z + 3)}L{corner(x + 0.07, z)}Z"
        for z in range(6, 110, 12)
        for x in ground.lines_m
    )


def _boxed(boxes: Sequence[Box]) -> list[Markup]:
    """Farthest first; who is hidden by a nearer one's name goes without."""
    named = _named(boxes)
    return [_box(box, box in named) for box in sorted(boxes, key=lambda box: box.box[3])]


def _box(track: Box, named: bool) -> Markup:
    x1, y1, x2, y2 = track.box
    wide, tall = x2 - x1, y2 - y1
    return element(
        "g",
        element("ellipse", cx=(x1 + x2) / 2, cy=y2, rx=wide * 0.58, ry=max(2.0, wide * 0.05), class_="shadow"),
        element("rect", x=x1, y=y1, width=wide, height=tall, rx=min(6.0, tall / 6)),
        element("text", f"{track.label} {track.track_id}", x=x1, y=y1 - 8, display=None if named else "none"),
        class_=f"track c{colour_index(track.track_id)}",
    )


def _named(boxes: Sequence[Box]) -> list[Box]:
    taken: list[Box] = []
    for box in sorted(boxes, key=lambda box: -box.box[3]):
        left, above, wide = box.box[0], box.box[1], NAME_PX * len(f"{box.label} {box.track_id}")
        if all(abs(above - other.box[1]) > 22 or abs(left - other.box[0]) > wide for other in taken):
            taken.append(box)
    return taken


# --- the replay ------------------------------------------------------------------------------------------------------


def replay_data(drive: Drive, faults: Sequence[Fault], end_s: float) -> str:
    """JSON for `drive.js`, safe inside a script element. Times in hundredths of a second, boxes in whole pixels."""
    frames, ground = keyframes(drive.frames), ground_of(drive)
    names = sorted({(box.track_id, box.label) for frame in frames for box in frame.boxes})
    index = {name: i for i, name in enumerate(names)}
    every_s = max(FINEST_S, end_s / MAX_SAMPLES)
    stays = arrivals(drive.route)
    data = {
        "width": ground.width,
        "height": ground.height,
        "horizon": round(ground.horizon, 1),
        "metre": round(ground.metre_px, 1),
        "lines": ground.lines_m,
        "end": end_s,
        "start": first_with_tracks(frames),
        "tracks": [[f"{label} {track_id}", colour_index(track_id)] for track_id, label in names],
        "times": [round(100 * frame.t_s) for frame in frames],
        "boxes": [[_packed(index[box.track_id, box.label], box) for box in frame.boxes] for frame in frames],
        "every": every_s,
        "speed": _sampled(drive.speed_kmh, end_s, every_s),
        "brake": _sampled(drive.brake_percent, end_s, every_s),
        "route": [[round(place.t_s, 2), *cell] for place, cell in zip(stays, cells_m(stays), strict=True)],
        "faults": [[letter(i), fault.label, fault.start_s, fault.end_s] for i, fault in enumerate(faults)],
    }
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _packed(track: int, box: Box) -> list[int]:
    return [track, *(round(edge) for edge in box.box)]


def _sampled(line: Line, end_s: float, every_s: float) -> list[float]:
    """The last value known at each of evenly spaced instants; empty when nothing is known."""
    if not line.points:
        return []
    times = [t_s for t_s, _ in line.points]
    instants = (n * every_s for n in range(math.ceil(end_s / every_s) + 1))
    return [round(line.points[max(0, bisect_right(times, t_s) - 1)][1], 1) for t_s in instants]
