"""Plots put things at their times: counts keep their value, bands lie where the faults were, letters don't touch."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from simulator.report.evidence import Fault, Latency, Line, Spool
from simulator.report.plots import LETTER_WIDTH, latency_plot, letter, spool_plot, spread, stored_plot, strip, timeline


def paths(markup: str, css: str) -> list[str]:
    return re.findall(rf'<path d="([^"]*)" class="{css}"', markup)


def test_a_count_keeps_its_value_until_the_next_one() -> None:
    plot = spool_plot(Spool((Line("P0", ((0, 0), (5, 100), (10, 0))),)), (), 10)
    top = 1000 - 1000 / 1.12
    assert paths(plot, "line lane0") == [f"M0 1000L500 1000L500 {top:.1f}L1000 {top:.1f}L1000 1000"]


def test_what_waits_lies_between_what_is_durable_and_what_is_stored() -> None:
    plot = stored_plot(Spool((), Line("durable", ((0, 0), (10, 112))), Line("stored", ((0, 0), (10, 56)))), (), 10)
    (gap,) = paths(plot, "gap")
    assert gap.startswith("M0 1000L1000 1000L1000 107.1")
    assert gap.endswith("L1000 553.6L1000 1000L0 1000")
    assert 'aria-label="durable: 112 at the end; stored: 56 at the end"' in plot


def test_every_frames_latency_is_marked_and_the_levels_are_named() -> None:
    plot = latency_plot(Latency(((0, 20), (5, 40), (10, 30)), 30.0, 40.0, 56.0), (), 10)
    (marks,) = paths(plot, "marks")[-1:]
    assert marks.count("M") == 3
    assert {*paths(plot, "level bar")} >= {"M0 107.14H1000"}
    for text in ("half within 30.0 ms", "99 % within 40.0 ms", "bar 56.0 ms"):
        assert text in plot


def test_a_fault_is_a_band_and_a_kill_is_a_line() -> None:
    plot = spool_plot(Spool((Line("P0", ((0, 0),)),)), (Fault("cut", 2, 6), Fault("kill", 8, 8)), 10)
    assert '<rect x="200" y="0" width="400" height="1000" class="band">' in plot
    assert paths(plot, "instant") == ["M800 0V1000"]
    assert 'title="cut" class="fault" style="left:20%">A<' in plot


def test_each_fault_is_in_the_list_by_its_letter_with_its_times() -> None:
    listed = timeline((Fault("cut", 2, 6, "every connection reset"), Fault("kill", 8, 8)), 10)
    text = re.sub("<[^>]+>", " ", listed)
    for words in (" A ", "cut", "2.0 to 6.0 s", "every connection reset", " B ", "kill", "at 8.0 s"):
        assert words in text


@given(st.lists(st.floats(0, 1), max_size=20).map(sorted))
def test_letters_never_touch_and_move_only_where_they_must(places: list[float]) -> None:
    moved = spread(places, LETTER_WIDTH)
    assert all(b - a >= LETTER_WIDTH * 0.999 for a, b in pairwise(moved))
    assert all(new >= old for new, old in zip(moved, places, strict=True))
    assert spread([0.1, 0.5], LETTER_WIDTH) == [0.1, 0.5]


def test_letters_go_on_after_z() -> None:
    assert [letter(n) for n in (0, 25, 26, 27, 52)] == ["A", "Z", "AA", "AB", "BA"]


def test_a_strip_is_filled_from_below() -> None:
    drawn = strip(Line("speed", ((0, 50), (10, 100))), 100, 10, "speed")
    assert paths(drawn, "area") == ["M0 1000L0 500L1000 0L1000 1000"]
    assert strip(Line("speed"), 100, 10, "speed") == ""
