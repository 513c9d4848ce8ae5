"""A drive as one MCAP file (mcap.dev/spec): tracks, signals, positions, records and the log; never a picture.

Messages are JSON with JSON Schemas. `foxglove.*` schemas have the fields and types that Foxglove publishes for them, so
that Foxglove and Lichtblick draw them as they are; `outrider.*` are our own. All times are boot time.

| topic | schema |
|---|---|
| /camera/front/annotations | foxglove.ImageAnnotations |
| /camera/front/tracks | outrider.Tracks |
| /vehicle/location | foxglove.LocationFix |
| /signals/<VSS path with slashes> | outrider.Signal |
| /records | outrider.Record |
| /log | foxglove.Log |
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from mcap.writer import CompressionType, Writer

from ecu.clock import SECOND_NS
from simulator.boxes import Box

Json = dict[str, Any]

# Okabe and Ito's colours, which people with any kind of colour vision tell apart.
_COLOURS: Final = ("e69f00", "56b4e9", "009e73", "f0e442", "0072b2", "d55e00", "cc79a7")
_LINE_LOOP: Final = 2
_APPROXIMATED: Final = 1


class Level(IntEnum):
    """foxglove.LogLevel."""

    DEBUG = 1
    INFO = 2
    WARNING = 3
    ERROR = 4
    FATAL = 5


class DriveMcap:
    """Writes one drive. The same calls give the same bytes.

        with DriveMcap(folder / "drive.mcap") as drive:
            drive.annotations(t_ns, frame_id, boxes)

    Leaving the block finishes the file, also after an error: what was written until then can be read.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._writer = Writer(self._file, compression=CompressionType.ZSTD)
        self._writer.start(profile="", library="outrider")
        self._encode = msgspec.json.Encoder().encode
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._counts: dict[int, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            self._writer.finish()

    def annotations(self, t_ns: int, frame_id: int, tracks: Sequence[Box]) -> None:
        """What was in view in one frame: once to be drawn over an image, once to be plotted and counted."""
        stamp = _stamp(t_ns)
        drawn = {
            "circles": [],
            "points": [_outline(stamp, track) for track in tracks],
            "texts": [_caption(stamp, track) for track in tracks],
        }
        self._add("/camera/front/annotations", "foxglove.ImageAnnotations", t_ns, drawn)
        counted = {"timestamp": stamp, "frame_id": frame_id, "tracks": [_plain(track) for track in tracks]}
        self._add("/camera/front/tracks", "outrider.Tracks", t_ns, counted)

    def signals(self, t_ns: int, values: Mapping[str, float]) -> None:
        """Signals by VSS path, each on a channel of its own. JSON has no infinities and no NaN: those are left out."""
        for path, value in sorted(values.items()):
            if not math.isfinite(value):
                continue
            message = {"timestamp": _stamp(t_ns), "path": path, "value": value}
            self._add("/signals/" + path.replace(".", "/"), "outrider.Signal", t_ns, message)

    def location(self, t_ns: int, latitude: float, longitude: float, altitude_m: float, accuracy_m: float) -> None:
        """A position in degrees (WGS 84), good to `accuracy_m` in each direction (one standard deviation)."""
        variance = accuracy_m * accuracy_m
        fix = {
            "timestamp": _stamp(t_ns),
            "frame_id": "vehicle",
            "latitude": latitude,
            "longitude": longitude,
            "altitude": altitude_m,
            "position_covariance": [variance, 0.0, 0.0, 0.0, variance, 0.0, 0.0, 0.0, variance],
            "position_covariance_type": _APPROXIMATED,
        }
        self._add("/vehicle/location", "foxglove.LocationFix", t_ns, fix)

    def record(self, t_ns: int, kind: str, fields: Mapping[str, Any]) -> None:
        """A record as it was offered for the cloud; `fields` are JSON values."""
        self._add("/records", "outrider.Record", t_ns, {"timestamp": _stamp(t_ns), "kind": kind, "fields": fields})

    def log(self, t_ns: int, level: Level, name: str, message: str) -> None:
        """`name` is the process that says it."""
        said = {"level": int(level), "message": message, "name": name, "file": "", "line": 0}
        self._add("/log", "foxglove.Log", t_ns, {"timestamp": _stamp(t_ns), **said})

    def _add(self, topic: str, schema: str, t_ns: int, message: Json) -> None:
        channel = self._channel(topic, schema)
        sequence = self._counts[channel] = self._counts.get(channel, -1) + 1
        self._writer.add_message(channel, t_ns, self._encode(message), t_ns, sequence)

    def _channel(self, topic: str, schema: str) -> int:
        if topic not in self._channels:
            self._channels[topic] = self._writer.register_channel(topic, "json", self._schema(schema))
        return self._channels[topic]

    def _schema(self, name: str) -> int:
        if name not in self._schemas:
            text = self._encode(SCHEMAS[name])
            self._schemas[name] = self._writer.register_schema(name, "jsonschema", text)
        return self._schemas[name]


# --- messages --------------------------------------------------------------------------------------------------------


def _stamp(t_ns: int) -> Json:
    sec, nsec = divmod(t_ns, SECOND_NS)
    return {"sec": sec, "nsec": nsec}


def _outline(stamp: Json, track: Box) -> Json:
    x1, y1, x2, y2 = track.box
    colour = _colour(track.track_id)
    return {
        "timestamp": stamp,
        "type": _LINE_LOOP,
        "points": [{"x": x, "y": y} for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))],
        "outline_color": colour,
        "outline_colors": [],
        "fill_color": {**colour, "a": 0.1},
        "thickness": 2.0,
        "metadata": _metadata(track),
    }


def _caption(stamp: Json, track: Box) -> Json:
    return {
        "timestamp": stamp,
        "position": {"x": track.box[0], "y": track.box[1]},
        "text": f"{track.label} {track.track_id}  {track.score:.2f}",
        "font_size": 14.0,
        "text_color": {"r": 1.0, "g": 1.0, "b": 1.0, "a": 1.0},
        "background_color": {"r": 0.0, "g": 0.0, "b": 0.0, "a": 0.6},
        "metadata": _metadata(track),
    }


def _metadata(track: Box) -> list[Json]:
    values = {"track_id": str(track.track_id), "label": track.label, "score": f"{track.score:.3f}"}
    return [{"key": key, "value": value} for key, value in values.items()]


def _plain(track: Box) -> Json:
    x1, y1, x2, y2 = track.box
    box = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
    return {"id": track.track_id, "label": track.label, "score": track.score, **box}


def _colour(track_id: int) -> Json:
    code = _COLOURS[track_id % len(_COLOURS)]
    red, green, blue = (int(code[i : i + 2], 16) / 255 for i in (0, 2, 4))
    return {"r": red, "g": green, "b": blue, "a": 1.0}


# --- schemas (Foxglove's: docs.foxglove.dev/docs/sdk/schemas) --------------------------------------------------------


def _object(title: str, optional: tuple[str, ...] = (), /, **properties: Json) -> Json:
    required = [name for name in properties if name not in optional]
    return {"title": title, "type": "object", "properties": properties, "required": required}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _one_of(title: str, **values: int) -> Json:
    return {"title": title, "oneOf": [{"title": name, "const": value} for name, value in values.items()]}


_NUMBER: Final[Json] = {"type": "number"}
_STRING: Final[Json] = {"type": "string"}
_COUNT: Final[Json] = {"type": "integer", "minimum": 0}
_TIME: Final[Json] = {
    "title": "time",
    "type": "object",
    "properties": {"sec": _COUNT, "nsec": {**_COUNT, "maximum": 999_999_999}},
}
_COLOR: Final = _object("foxglove.Color", r=_NUMBER, g=_NUMBER, b=_NUMBER, a=_NUMBER)
_POINT2: Final = _object("foxglove.Point2", x=_NUMBER, y=_NUMBER)
_VECTOR3: Final = _object("foxglove.Vector3", x=_NUMBER, y=_NUMBER, z=_NUMBER)
_METADATA: Final = _list(_object("foxglove.KeyValuePair", key=_STRING, value=_STRING))
_CIRCLE: Final = _object(
    "foxglove.CircleAnnotation",
    timestamp=_TIME,
    position=_POINT2,
    diameter=_NUMBER,
    thickness=_NUMBER,
    fill_color=_COLOR,
    outline_color=_COLOR,
    metadata=_METADATA,
)
_POINTS: Final = _object(
    "foxglove.PointsAnnotation",
    timestamp=_TIME,
    type=_one_of("foxglove.PointsAnnotationType", UNKNOWN=0, POINTS=1, LINE_LOOP=2, LINE_STRIP=3, LINE_LIST=4),
    points=_list(_POINT2),
    outline_color=_COLOR,
    outline_colors=_list(_COLOR),
    fill_color=_COLOR,
    thickness=_NUMBER,
    metadata=_METADATA,
)
_TEXT: Final = _object(
    "foxglove.TextAnnotation",
    timestamp=_TIME,
    position=_POINT2,
    text=_STRING,
    font_size=_NUMBER,
    text_color=_COLOR,
    background_color=_COLOR,
    metadata=_METADATA,
)
_TRACK: Final = _object(
    "outrider.Track",
    id={"type": "integer"},
    label=_STRING,
    score={**_NUMBER, "minimum": 0, "maximum": 1},
    x=_NUMBER,
    y=_NUMBER,
    width=_NUMBER,
    height=_NUMBER,
)
SCHEMAS: Final[Mapping[str, Json]] = {
    schema["title"]: schema
    for schema in (
        _object("foxglove.ImageAnnotations", circles=_list(_CIRCLE), points=_list(_POINTS), texts=_list(_TEXT)),
        _object(
            "foxglove.LocationFix",
            ("heading", "velocity", "color", "metadata"),
            timestamp=_TIME,
            frame_id=_STRING,
            latitude=_NUMBER,
            longitude=_NUMBER,
            altitude=_NUMBER,
            position_covariance={**_list(_NUMBER), "minItems": 9, "maxItems": 9},
            position_covariance_type=_one_of(
                "foxglove.PositionCovarianceType", UNKNOWN=0, APPROXIMATED=1, DIAGONAL_KNOWN=2, KNOWN=3
            ),
            heading=_NUMBER,
            velocity=_VECTOR3,
            color=_COLOR,
            metadata=_METADATA,
        ),
        _object(
            "foxglove.Log",
            timestamp=_TIME,
            level=_one_of("foxglove.LogLevel", UNKNOWN=0, DEBUG=1, INFO=2, WARNING=3, ERROR=4, FATAL=5),
            message=_STRING,
            name=_STRING,
            file=_STRING,
            line=_COUNT,
        ),
        _object("outrider.Tracks", timestamp=_TIME, frame_id=_COUNT, tracks=_list(_TRACK)),
        _object("outrider.Signal", timestamp=_TIME, path=_STRING, value=_NUMBER),
        _object("outrider.Record", timestamp=_TIME, kind=_STRING, fields={"type": "object"}),
    )
}
