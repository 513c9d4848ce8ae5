"""The drive, drawn: tracks' boxes over an empty road, from the tracks alone. Nobody is shown.

The first frame is drawn here; `assets/drive.js` draws the others into the same groups from `replay_data`.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Sequence
from statistics import median
from typing import Final

from simulator.boxes import Box
from simulator.report.evidence import Drive, Fault, Frame, Line, Point, Waypoint
from simulator.report.markup import Markup, element, number
from simulator.report.plots import letter

COLOURS: Final = 6
MAX_BOXES: Final = 7_000
MAX_FRAMES: Final = 3_000
"""What the replay keeps of a long drive: it shows every n-th frame and moves between them."""
MAX_SAMPLES: Final = 2_000
FINEST_S: Final = 0.25
METRES_PER_DEGREE: Final = math.radians(6_371_008.8)
NEAREST_M: Final = 5.0
NAME_PX: Final = 10.0
"""About the width of one letter of a track's name."""
MOST_SKY: Final = 0.34
LEAST_SKY: Final = 0.16
_USUAL_HORIZON: Final = 0.55
_FEWEST_BOXES: Final = 24


def horizon(boxes: Sequence[Box], height_px: int) -> float:
    """The row of the horizon in pixels.

    On a flat road a vehicle's height in the picture is in proportion to how far its foot is below the horizon: the
    resistant line through (height, foot) meets height 0 there (Tukey's three-group line, with its outer groups).
    """
    usual = _USUAL_HORIZON * height_px
    if len(boxes) < _FEWEST_BOXES:
        return usual
    by_height = sorted((box.box[3] - box.box[1], box.box[3]) for box in boxes)
    third = len(by_height) // 3
    low, high = _middle(by_height[:third]), _middle(by_height[-third:])
    rise_px = high[0] - low[0]
    if rise_px < 0.02 * height_px:
        return usual
    slope = (high[1] - low[1]) / rise_px
    row = median(foot - slope * tall for tall, foot in by_height)
    return row if 0.3 * height_px < row < 0.75 * height_px and slope > 0 else usual


def _middle(group: Sequence[Point]) -> Point:
    return median(x for x, _ in group), median(y for _, y in group)


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
    frames = keyframes(drive.frames)
    boxes = [box for frame in frames for box in frame.boxes]
    row, top = horizon(boxes, drive.height_px), sky(boxes, drive.height_px)
    first = frames[first_with_tracks(frames)].boxes if frames else ()
    return element(
        "svg",
        _ground(drive.width_px, drive.height_px, row, top),
        element("g", element("path", d=_marks(drive.width_px, drive.height_px, row)), id="marks"),
        element("g", id="trails"),
        element("g", _boxed(first), id="tracks"),
        viewBox=f"0 {number(top)} {drive.width_px} {number(drive.height_px - top)}",
        class_="road",
        role="img",
        aria_label="Boxes of the tracks in view over an empty road",
    )


def sky(boxes: Sequence[Box], height_px: int) -> float:
    """Where the drawing begins: above what was seen, but not much sky for the sake of one tall neighbour."""
    row = horizon(boxes, height_px)
    highest = min((box.box[1] for box in boxes), default=0.0) - 0.09 * height_px
    return max(0.0, min(max(highest, row - MOST_SKY * height_px), row - LEAST_SKY * height_px))


def _ground(width: int, height: int, row: float, top: float) -> list[Markup]:
    middle = width / 2
    edges = [f"M{number(middle)} {number(row)}L{number(x)} {height}" for x in (-0.28 * width, 1.28 * width)]
    verge = f"M{number(middle)} {number(row)}L{number(-0.28 * width)} {height}H{number(1.28 * width)}Z"
    return [
        element("defs", _fading("haze", "land"), _fading("tarmac", "surface")),
        element("rect", x=0, y=top, width=width, height=height - top, class_="sky"),
        element("rect", x=0, y=row, width=width, height=height - row, fill="url(#haze)"),
        element("path", d=verge, fill="url(#tarmac)"),
        element("path", d="".join(edges), class_="edge"),
        element("path", d=f"M0 {number(row)}H{width}", class_="horizon"),
    ]


def _fading(name: str, css: str) -> Markup:
    """The farther, the paler."""
    stops = [element("stop", offset=offset, class_=kind) for offset, kind in (("0", f"{css} far"), ("0.5", css))]
    return element("linearGradient", stops, id=name, x1="0", y1="0", x2="0", y2="1")


def _marks(width: int, height: int, row: float) -> str:
    """Lane marks 3 m long, 12 m apart, 1.8 m to either side; the picture's lower edge is 5 m away."""

    def corner(x_m: float, z_m: float) -> str:
        x = width / 2 + 0.26 * width / 1.8 * x_m * NEAREST_M / z_m
        return f"{number(x)} {number(row + (height - row) * NEAREST_M / z_m)}"

    return "".join(
        f"M{corner(x - 0.07, z)}L{corner(x - 0.07, z + 3)}L{corner(x + 0.07, z + 3)}L{corner(x + 0.07, z)}Z"
        for z in range(6, 110, 12)
        for x in (-1.8, 1.8)
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


def route_map(drive: Drive) -> Markup:
    """The cells in which the vehicle said to be, and the way through them; north is up."""
    cells = _cells(arrivals(drive.route))
    side = drive.cell_m or 100.0
    xs, ys = [x for x, _ in cells], [y for _, y in cells]
    margin = 0.55 * side
    left, top = min(xs) - margin, min(ys) - margin
    drawn = [
        [
            element("rect", x=x - side / 2, y=y - side / 2, width=side, height=side, class_="cell")
            for x, y in sorted(set(cells))
        ],
        element("path", d="M" + "L".join(f"{number(x)} {number(y)}" for x, y in cells), class_="way"),
        element("circle", cx=cells[0][0], cy=cells[0][1], r=side * 0.11, class_="here", id="here"),
    ]
    label = f"Route through {len(set(cells))} cells of {side:,.0f} metres, north up"
    view = " ".join(number(edge) for edge in (left, top, max(xs) + margin - left, max(ys) + margin - top))
    return element("svg", drawn, viewBox=view, class_="map", role="img", aria_label=label)


def arrivals(route: Sequence[Waypoint]) -> list[Waypoint]:
    """The first waypoint of each stay in a cell."""
    return [
        place
        for i, place in enumerate(route)
        if i == 0 or (place.latitude, place.longitude) != (route[i - 1].latitude, route[i - 1].longitude)
    ]


def _cells(route: Sequence[Waypoint]) -> list[Point]:
    """Metres east and south of the first waypoint."""
    if not route:
        return []
    north, east = route[0].latitude, route[0].longitude
    shrink = math.cos(math.radians(north))  # of a degree of longitude
    return [
        (
            round((place.longitude - east) * METRES_PER_DEGREE * shrink, 1),
            round((north - place.latitude) * METRES_PER_DEGREE, 1),
        )
        for place in route
    ]


# --- the replay ------------------------------------------------------------------------------------------------------


def replay_data(drive: Drive, faults: Sequence[Fault], end_s: float) -> str:
    """JSON for `drive.js`, safe inside a script element. Times in hundredths of a second, boxes in whole pixels."""
    frames = keyframes(drive.frames)
    names = sorted({(box.track_id, box.label) for frame in frames for box in frame.boxes})
    index = {name: i for i, name in enumerate(names)}
    every_s = max(FINEST_S, end_s / MAX_SAMPLES)
    stays = arrivals(drive.route)
    data = {
        "width": drive.width_px,
        "height": drive.height_px,
        "horizon": round(horizon([box for frame in frames for box in frame.boxes], drive.height_px)),
        "end": end_s,
        "start": first_with_tracks(frames),
        "tracks": [[f"{label} {track_id}", colour_index(track_id)] for track_id, label in names],
        "times": [round(100 * frame.t_s) for frame in frames],
        "boxes": [[_packed(index[box.track_id, box.label], box) for box in frame.boxes] for frame in frames],
        "every": every_s,
        "speed": _sampled(drive.speed_kmh, end_s, every_s),
        "brake": _sampled(drive.brake_percent, end_s, every_s),
        "route": [[round(place.t_s, 2), *cell] for place, cell in zip(stays, _cells(stays), strict=True)],
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
