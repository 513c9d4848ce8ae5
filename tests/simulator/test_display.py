"""The terminal shows what the scene says, in the space there is, and a pipe gets plain lines."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from ecu.clock import MILLISECOND_NS, SteppingClock
from simulator.boxes import Box
from simulator.claims import Verdict
from simulator.display import (
    Happening,
    LaneDepth,
    Law,
    LineDisplay,
    LiveDisplay,
    Process,
    Scene,
    SilentDisplay,
    State,
    View,
    Way,
    open_display,
    render,
    render_claims,
    render_verdict,
    sketch,
)
from tests.simulator.report.synthetic import verdict

VIEW = View(960, 540, (Box(1, "car", 0.9, (600, 330, 760, 440)), Box(2, "truck", 0.9, (300, 270, 400, 360))))
SCENE = Scene(
    elapsed_s=24.2,
    total_s=61.0,
    phase="The link is cut",
    why="What was noticed waits on flash until the receiver has it.",
    phase_number=3,
    phases=6,
    processes=(
        Process("agent", 4121, State.UP),
        Process("worker, live", 4133, State.RESTARTED),
        Process("camera", None, State.KILLED),
    ),
    view=VIEW,
    frames_per_s=24.93,
    p50_ms=23.8,
    p99_ms=41.25,
    link=Way.CUT,
    lanes=tuple(LaneDepth(f"P{n}", waiting) for n, waiting in enumerate((4, 1261, 96, 0))),
    durable=1843,
    stored=1312,
    laws=(Law("records: 604 = 604", True), Law("frames: 590 = 589", False), Law("altered", None)),
    happenings=tuple(Happening(float(n), f"event {n}") for n in range(9)),
)


def drawn(what: RenderableType, width: int = 100, height: int = 36) -> str:
    console = Console(file=io.StringIO(), record=True, width=width, height=height, color_system=None)
    console.print(what, height=height)
    return console.export_text()


def rows(text: str) -> list[str]:
    """Without the space at either end: what people would read aloud."""
    return [line.strip() for line in text.splitlines()]


def test_the_heading_says_what_happens_and_why_it_matters() -> None:
    lines = rows(drawn(render(SCENE)))
    assert re.fullmatch(r"3/6  The link is cut +24 of 61 s", lines[2])
    assert lines[3] == "What was noticed waits on flash until the receiver has it."


def test_every_number_of_the_scene_is_on_the_screen() -> None:
    text = drawn(render(SCENE))
    for said in (
        "agent         up         4121",
        "worker, live  restarted  4133",
        "camera        killed",
        "24.9",
        "23.8 ms",
        "41.2 ms",
        "1,843 durable on the vehicle, 1,312 stored",
        "The link is cut",
        "P1    1,261",
        "P3        0",
        "✓ records: 604 = 604",
        "✗ frames: 590 = 589",
        "· altered",
    ):
        assert said in text, said


def test_the_newest_happenings_are_kept() -> None:
    text = drawn(render(SCENE))
    assert [n for n in range(9) if f"event {n}" in text] == [4, 5, 6, 7, 8]


def test_a_scene_that_has_just_begun_can_be_drawn() -> None:
    text = drawn(render(Scene(0.0, 60.0, "Starting", "Everything begins.")))
    for said in ("The camera hasn't started.", "not yet", "Not counted yet.", "0 durable on the vehicle, 0 stored"):
        assert said in text


@pytest.mark.parametrize(("width", "height"), [(80, 27), (100, 32), (220, 60), (40, 10)])
def test_it_fits_the_terminal_whatever_its_size(width: int, height: int) -> None:
    lines = drawn(render(SCENE), width, height).splitlines()
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)


# --- the sketch ------------------------------------------------------------------------------------------------------


def picture(view: View, width: int = 60, height: int = 14) -> list[str]:
    return [line.plain for line in sketch(view, width, height)]


def test_each_track_is_a_box_with_its_name_where_it_was_seen() -> None:
    lines = picture(VIEW)
    assert sum("╭car 1" in line for line in lines) == 1
    assert sum("╭2" in line or "╭truck" in line for line in lines) == 1
    row = next(line for line in lines if "car 1" in line)
    assert row.index("╭car 1") == round(600 / 960 * 59)
    assert row.index("╮", row.index("car 1")) == round(760 / 960 * 59)


def test_a_nearer_track_covers_a_farther_one() -> None:
    near, far = Box(1, "car", 0.9, (300, 300, 600, 500)), Box(2, "car", 0.9, (400, 320, 500, 400))
    lines = picture(View(960, 540, (near, far)))
    assert not any("2" in line for line in lines)


@given(
    st.lists(
        st.builds(Box, st.integers(0, 999), st.text(max_size=8), st.just(0.5), st.tuples(*[st.floats(-2e3, 2e3)] * 4))
    ),
    st.integers(1, 120),
    st.integers(5, 50),
)
def test_any_boxes_leave_a_picture_of_its_size(boxes: list[Box], width: int, height: int) -> None:
    lines = picture(View(960, 540, tuple(boxes)), width, height)
    assert [len(line) for line in lines] == [width] * height
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", "".join(lines))


# --- the verdict -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", [False, True])
def test_the_table_holds_every_claim_in_words(failing: bool) -> None:
    text = drawn(render_claims(verdict(failing=failing).claims), width=400)
    for claim in verdict(failing=failing).claims:
        assert claim.name in text
        assert claim.measured in text
        assert claim.bar in text
        assert (claim.why in text) == (not claim.ok)
    assert text.count("FAILED") == (2 if failing else 0)


def test_the_last_line_is_the_verdict() -> None:
    assert rows(drawn(render_verdict(verdict()))).count("All 12 claims held in 61.4 s.") == 1
    assert rows(drawn(render_verdict(verdict(failing=True)))).count("2 of 12 claims failed in 61.4 s.") == 1
    assert "nothing is proved" in drawn(render_verdict(Verdict((), 1.0)))


# --- where it goes ---------------------------------------------------------------------------------------------------


def test_off_a_terminal_each_phase_is_one_plain_line() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80)
    with open_display(console, SteppingClock()) as display:
        assert isinstance(display, LineDisplay)
        for elapsed_s in (0.0, 0.1, 5.0):
            display.show(replace(SCENE, elapsed_s=elapsed_s))
        display.show(replace(SCENE, elapsed_s=9.0, phase_number=4, phase="The link is back\x1b[2J", why="It drains."))
    assert out.getvalue() == (
        "   0.0 s  3/6  The link is cut: What was noticed waits on flash until the receiver has it.\n"
        "   9.0 s  4/6  The link is back [2J: It drains.\n"
    )
    display.conclude(verdict())
    assert "All 12 claims held in 61.4 s." in out.getvalue()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", out.getvalue())


def test_beside_json_there_is_nothing() -> None:
    out = io.StringIO()
    with open_display(Console(file=out), SteppingClock(), silent=True) as display:
        assert isinstance(display, SilentDisplay)
        display.show(SCENE)
    display.conclude(verdict())
    assert out.getvalue() == ""


def test_a_terminal_is_redrawn_at_most_eight_times_a_second_but_at_once_for_a_new_phase() -> None:
    out, clock = io.StringIO(), SteppingClock()
    console = Console(file=out, width=100, height=36, force_terminal=True)
    with open_display(console, clock) as display:
        assert isinstance(display, LiveDisplay)
        sizes = []
        for at_ms in range(0, 1_000, 10):
            clock.advance(at_ms * MILLISECOND_NS)
            display.show(replace(SCENE, elapsed_s=at_ms))
            sizes.append(len(out.getvalue()))
        assert 6 <= len(set(sizes)) <= 8
        before = len(out.getvalue())
        display.show(replace(SCENE, phase="The link is back"))
        assert len(out.getvalue()) > before


def test_the_terminal_is_given_back_even_after_an_error() -> None:
    out = io.StringIO()
    console = Console(file=out, width=100, height=36, force_terminal=True)
    display = open_display(console, SteppingClock())
    with pytest.raises(ZeroDivisionError), display:
        raise ZeroDivisionError
    assert out.getvalue().rindex("\x1b[?1049l") > out.getvalue().index("\x1b[?1049h")
    assert out.getvalue().rindex("\x1b[?25h") > out.getvalue().index("\x1b[?25l")
