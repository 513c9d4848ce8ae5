"""The drive file reads back as written, each message fits the schema it names, and nobody's picture is in it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcap.reader import make_reader

from ecu.clock import SECOND_NS
from simulator.boxes import Box
from simulator.mcapfile import SCHEMAS, DriveMcap, Level

BOXES = [Box(7, "car", 0.91, (600.5, 400.0, 700.0, 480.25)), Box(8, "truck", 0.55, (100.0, 300.0, 240.0, 420.0))]


TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "number": (int, float),
}  # fmt: skip


def violations(schema: dict[str, Any], value: Any, where: str = "$") -> Iterator[str]:
    """What `value` breaks of the part of JSON Schema that our schemas use; unknown properties count too."""
    if "oneOf" in schema:
        if value not in [option["const"] for option in schema["oneOf"]]:
            yield f"{where}: {value!r} is none of the values"
    elif not isinstance(value, TYPES[schema["type"]]):
        yield f"{where}: {value!r} is no {schema['type']}"
    elif isinstance(value, int | float):
        if not schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf):
            yield f"{where}: {value!r} is out of range"
    elif isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
            yield f"{where}: {len(value)} items"
        for i, item in enumerate(value):
            yield from violations(schema["items"], item, f"{where}[{i}]")
    elif "properties" in schema:
        assert isinstance(value, dict)
        yield from _object_violations(schema, value, where)


def _object_violations(schema: dict[str, Any], value: dict[str, Any], where: str) -> Iterator[str]:
    known = schema["properties"]
    yield from (f"{where}: no {name}" for name in schema.get("required", []) if name not in value)
    yield from (f"{where}: {name} isn't in the schema" for name in value if name not in known)
    for name in known.keys() & value.keys():
        yield from violations(known[name], value[name], f"{where}.{name}")


def write_everything(path: Path) -> None:
    with DriveMcap(path) as drive:
        drive.log(1_000, Level.INFO, "agent", "ready")
        for frame in range(50):
            t_ns = frame * 40_000_000
            drive.annotations(t_ns, frame, BOXES if frame % 2 else [])
            drive.signals(t_ns + 1, {"Vehicle.Speed": 61.5 + frame, "Vehicle.Chassis.Brake.PedalPosition": 0.0})
        drive.location(5 * SECOND_NS + 17, 37.77, -122.42, 12.0, 500.0)
        drive.record(6 * SECOND_NS, "hard_brake", {"deceleration_ms2": 6.2, "speed_kmh": 70.0, "signals": {}})


def messages(path: Path) -> Iterator[tuple[str, str, int, dict[str, Any]]]:
    with path.open("rb") as file:
        for schema, channel, message in make_reader(file).iter_messages():
            assert schema is not None
            assert channel.message_encoding == "json"
            assert schema.encoding == "jsonschema"
            content = json.loads(message.data)
            assert not list(violations(json.loads(schema.data), content))
            yield channel.topic, schema.name, message.log_time, content


def test_every_message_fits_the_schema_it_names(tmp_path: Path) -> None:
    write_everything(tmp_path / "drive.mcap")
    found = list(messages(tmp_path / "drive.mcap"))
    assert len(found) == 50 * 4 + 3
    assert {(topic, schema) for topic, schema, _, _ in found} == {
        ("/camera/front/annotations", "foxglove.ImageAnnotations"),
        ("/camera/front/tracks", "outrider.Tracks"),
        ("/signals/Vehicle/Speed", "outrider.Signal"),
        ("/signals/Vehicle/Chassis/Brake/PedalPosition", "outrider.Signal"),
        ("/vehicle/location", "foxglove.LocationFix"),
        ("/records", "outrider.Record"),
        ("/log", "foxglove.Log"),
    }


def test_every_stamp_is_the_time_of_its_message(tmp_path: Path) -> None:
    write_everything(tmp_path / "drive.mcap")
    for _, _, t_ns, content in messages(tmp_path / "drive.mcap"):
        assert content["timestamp"] == _stamp(t_ns) if "timestamp" in content else True
        for drawn in content.get("points", []) + content.get("texts", []):
            assert drawn["timestamp"] == _stamp(t_ns)


def _stamp(t_ns: int) -> dict[str, int]:
    return {"sec": t_ns // SECOND_NS, "nsec": t_ns % SECOND_NS}


def test_a_track_is_drawn_where_it_was_seen(tmp_path: Path) -> None:
    with DriveMcap(tmp_path / "drive.mcap") as drive:
        drive.annotations(0, 3, BOXES)
    by_topic = {topic: content for topic, _, _, content in messages(tmp_path / "drive.mcap")}
    drawn, counted = by_topic["/camera/front/annotations"], by_topic["/camera/front/tracks"]
    corners = [(p["x"], p["y"]) for p in drawn["points"][0]["points"]]
    assert corners == [(600.5, 400.0), (700.0, 400.0), (700.0, 480.25), (600.5, 480.25)]
    assert drawn["points"][0]["type"] == 2
    assert drawn["points"][0]["outline_color"] != drawn["points"][1]["outline_color"]
    assert drawn["texts"][1]["text"] == "truck 8  0.55"
    assert counted["frame_id"] == 3
    assert counted["tracks"][1] == {
        "id": 8, "label": "truck", "score": 0.55, "x": 100.0, "y": 300.0, "width": 140.0, "height": 120.0,
    }  # fmt: skip


def test_the_same_calls_give_the_same_bytes(tmp_path: Path) -> None:
    write_everything(tmp_path / "a.mcap")
    write_everything(tmp_path / "b.mcap")
    assert (tmp_path / "a.mcap").read_bytes() == (tmp_path / "b.mcap").read_bytes()


def test_the_order_in_which_signals_are_named_changes_nothing(tmp_path: Path) -> None:
    for name, paths in (("a", ["Vehicle.Speed", "Vehicle.X"]), ("b", ["Vehicle.X", "Vehicle.Speed"])):
        with DriveMcap(tmp_path / name) as drive:
            drive.signals(1, dict.fromkeys(paths, 1.0))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@given(st.dictionaries(st.sampled_from(["Vehicle.Speed", "Vehicle.X"]), st.floats(), min_size=1))
def test_any_number_a_vehicle_can_say_leaves_a_readable_file(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, float]
) -> None:
    path = tmp_path_factory.mktemp("m") / "drive.mcap"
    with DriveMcap(path) as drive:
        drive.signals(1, values)
    said = {content["path"]: content["value"] for _, _, _, content in messages(path)}
    assert said == {name: value for name, value in values.items() if math.isfinite(value)}


def test_an_error_in_the_drive_still_leaves_a_file_that_reads(tmp_path: Path) -> None:
    drive = DriveMcap(tmp_path / "drive.mcap")
    drive.log(1, Level.ERROR, "agent", "about to fail")
    with pytest.raises(ZeroDivisionError), drive:
        raise ZeroDivisionError
    assert [content["message"] for _, _, _, content in messages(tmp_path / "drive.mcap")] == ["about to fail"]


def test_no_schema_can_carry_a_picture() -> None:
    assert not [name for name in SCHEMAS if "Image" in name and name != "foxglove.ImageAnnotations"]
    assert "contentEncoding" not in json.dumps(SCHEMAS)


@pytest.mark.parametrize(
    "broken",
    [{"timestamp": {"sec": -1, "nsec": 0}}, {"level": 9}, {"line": 1.5}, {"message": None}, {"colour": "red"}],
)
def test_the_check_itself_finds_what_is_wrong(broken: dict[str, Any]) -> None:
    good = {"timestamp": {"sec": 1, "nsec": 0}, "level": 2, "message": "", "name": "", "file": "", "line": 0}
    assert not list(violations(SCHEMAS["foxglove.Log"], good))
    assert list(violations(SCHEMAS["foxglove.Log"], good | broken))
    del good["name"]
    assert list(violations(SCHEMAS["foxglove.Log"], good))
