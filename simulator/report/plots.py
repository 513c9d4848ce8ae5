"""Plots over the run's time: SVG that stretches with the page, under labels that don't.

Every plot shares one time axis, so that a fault's band stands in the same place in all of them. The drawing is in
permille of its frame; text lies over it as HTML and keeps its size on a telephone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from simulator.report.axes import Axis, spans, thinned, value_axis
from simulator.report.evidence import Fault, Latency, Line, Point, Spool
from simulator.report.markup import Content, Markup, element, join, number

FULL: Final = 1000.0
LETTER_WIDTH: Final = 0.024
"""Of a narrow plot's width."""
LEVEL_NAMES: Final = {"p50": "half within", "p99": "99 % within", "bar": "bar"}
LANE_NAMES: Final = {"P0": "now", "P1": "soon", "P2": "steady", "P3": "bulk"}


def letter(index: int) -> str:
    """A, B, ... Z, AA: how a fault is named where there is no room for its label."""
    before, last = divmod(index, 26)
    return (letter(before - 1) if before else "") + chr(ord("A") + last)


# --- whole plots -----------------------------------------------------------------------------------------------------


def timeline(faults: Sequence[Fault], end_s: float) -> Markup:
    """All faults on the time axis that every plot shares, and what each letter stands for."""
    drawn = [_lasting(fault, end_s) for fault in faults]
    summary = f"{len(faults)} faults over {end_s:.0f} seconds, listed below"
    strip = _frame(summary, Axis(0.0, end_s), Axis(0.0, 1.0), faults, [], drawn, css="low")
    rows = [_timeline_row(index, fault) for index, fault in enumerate(faults)]
    return join([strip, element("ol", rows, class_="timeline")])


def latency_plot(latency: Latency, faults: Sequence[Fault], end_s: float) -> Markup:
    """A mark a frame (a stroke from the fastest to the slowest where many fall together), p50, p99 and the bar."""
    if not latency.points:
        return _nothing("No frame's latency was measured.")
    levels = {"p50": latency.p50_ms, "p99": latency.p99_ms, "bar": latency.bar_ms}
    known = {name: value for name, value in levels.items() if value is not None}
    time, scale = Axis(0.0, end_s), value_axis([*(ms for _, ms in latency.points), *known.values()])
    drawn = [_marks(latency.points, time, scale), *(_level(value, scale, name) for name, value in known.items())]
    names = [(f"level {name}", f"{LEVEL_NAMES[name]} {value:.1f} ms") for name, value in known.items()]
    summary = "Latency of each frame in milliseconds over the run; " + ", ".join(
        f"{name} {value:.1f} ms" for name, value in known.items()
    )
    plot = _frame(summary, time, scale, faults, drawn, unit="ms", css="tall")
    return element("figure", legend([("marks", "a frame"), *names]), plot)


def spool_plot(spool: Spool, faults: Sequence[Fault], end_s: float) -> Markup:
    """Records that wait on the vehicle, lane by lane."""
    lanes = [lane for lane in spool.lanes if lane.points]
    if not lanes:
        return _nothing("No spool depth was measured.")
    time = Axis(0.0, end_s)
    scale = Axis(0.0, 1.12 * max(1.0, *(value for lane in lanes for _, value in lane.points)))
    drawn = [_path(_stairs(lane.points), time, scale, f"line lane{index}") for index, lane in enumerate(lanes)]
    peaks = ", ".join(f"{lane.name} at most {max(v for _, v in lane.points):,.0f}" for lane in lanes)
    return _frame(f"Records waiting in the spool by lane: {peaks}", time, scale, faults, drawn[::-1], unit="waiting")


def stored_plot(spool: Spool, faults: Sequence[Fault], end_s: float) -> Markup:
    """What became durable and what is stored; the space between is what a theft of the vehicle would cost."""
    lines = [line for line in (spool.durable, spool.stored) if line.points]
    if not lines:
        return _nothing("Nothing was stored.")
    time = Axis(0.0, end_s)
    scale = Axis(0.0, 1.12 * max(1.0, *(value for line in lines for _, value in line.points)))
    drawn = [_between(spool, time, scale)] if len(lines) == 2 else []
    drawn += [
        _path(_stairs(line.points), time, scale, "line stored" if line is spool.stored else "line durable")
        for line in lines
    ]
    summary = "; ".join(f"{line.name}: {line.points[-1][1]:,.0f} at the end" for line in lines)
    return _frame(summary, time, scale, faults, drawn, unit="records")


def strip(line: Line, top: float, end_s: float, css: str) -> Markup:
    """A low plot without axes, filled from below."""
    time, scale = Axis(0.0, end_s), Axis(0.0, top)
    points = thinned(line.points)
    if not points:
        return Markup("")
    area = [(points[0][0], 0.0), *points, (points[-1][0], 0.0)]
    return _svg(_path(area, time, scale, "area"), _path(points, time, scale, "line"), css=css)


def legend(entries: Sequence[tuple[str, str]]) -> Markup:
    """(css class, text): a sample of each line beside its name."""
    return element("ul", [element("li", _sample(css), " ", text) for css, text in entries], class_="legend")


# --- the frame -------------------------------------------------------------------------------------------------------


def _frame(
    summary: str,
    time: Axis,
    scale: Axis,
    faults: Sequence[Fault],
    drawn: Sequence[Markup],
    over: Sequence[Markup] = (),
    unit: str | None = None,
    css: str = "",
) -> Markup:
    svg = _svg(_grid(scale) if unit else [], [_band(fault, time) for fault in faults], drawn)
    labels = [_value_labels(scale, unit) if unit else [], _time_labels(time), _fault_letters(faults, time)]
    return element("div", svg, labels, over, class_=f"plot {css}".strip(), role="img", aria_label=summary)


def _svg(*drawn: Content, css: str = "") -> Markup:
    box = f"0 0 {number(FULL)} {number(FULL)}"
    return element("svg", drawn, viewBox=box, preserveAspectRatio="none", aria_hidden="true", class_=css or None)


def _nothing(sentence: str) -> Markup:
    return element("p", sentence, class_="nothing")


def _grid(scale: Axis) -> list[Markup]:
    heights = [FULL * (1 - scale.place(tick)) for tick in scale.ticks(4)]
    return [element("path", d=f"M0 {number(y)}H{number(FULL)}", class_="grid") for y in heights]


def _value_labels(scale: Axis, unit: str) -> list[Markup]:
    ticks = scale.ticks(4)
    texts = [f"{tick:,g} {unit}" if tick == ticks[-1] else f"{tick:,g}" for tick in ticks]
    return [
        element("span", text, class_="tick y", style=_bottom(scale.place(tick)))
        for tick, text in zip(ticks, texts, strict=True)
        if scale.place(tick) > 0.03
    ]


def _time_labels(time: Axis) -> list[Markup]:
    return [
        element(
            "span",
            f"{tick:g} s" if tick == 0 else f"{tick:g}",
            class_="tick x" + (" odd" if index % 2 else ""),
            style=f"left:{number(100 * time.place(tick))}%",
        )
        for index, tick in enumerate(time.ticks(12))
        if time.place(tick) < 0.985
    ]


def _band(fault: Fault, time: Axis) -> Markup:
    x, end = (FULL * time.place(t_s) for t_s in (fault.start_s, fault.end_s))
    if end - x < 1.0:
        return element("path", d=f"M{number(x)} 0V{number(FULL)}", class_="instant")
    return element("rect", x=x, y=0, width=end - x, height=FULL, class_="band")


def _fault_letters(faults: Sequence[Fault], time: Axis) -> list[Markup]:
    """Each above its fault's start, moved right where two would touch."""
    in_time = sorted(enumerate(faults), key=lambda fault: fault[1].start_s)
    places = spread([time.place(fault.start_s) for _, fault in in_time], LETTER_WIDTH)
    return [
        element("abbr", letter(index), title=fault.label, class_="fault", style=f"left:{number(100 * place)}%")
        for (index, fault), place in zip(in_time, places, strict=True)
    ]


def spread(places: Sequence[float], apart: float) -> list[float]:
    """Rising places, moved up where two would be less than `apart` from each other."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + apart) if moved else place)
    return moved


def _lasting(fault: Fault, end_s: float) -> Markup:
    left, right = (100 * Axis(0.0, end_s).place(t_s) for t_s in (fault.start_s, fault.end_s))
    kind = "instant" if fault.end_s <= fault.start_s else None
    return element("i", class_=kind, style=f"left:{number(left)}%;width:{number(right - left)}%", aria_hidden="true")


def _timeline_row(index: int, fault: Fault) -> Markup:
    instant = fault.end_s <= fault.start_s
    when = f"at {fault.start_s:.1f} s" if instant else f"{fault.start_s:.1f} to {fault.end_s:.1f} s"
    name = element("p", element("b", fault.label), " ", element("span", when, class_="when"))
    detail = element("p", fault.detail, class_="why") if fault.detail else ""
    return element("li", element("span", letter(index), class_="letter"), element("div", name, detail))


# --- what is drawn in it ---------------------------------------------------------------------------------------------


def _at(point: Point, time: Axis, scale: Axis) -> str:
    return f"{number(FULL * time.place(point[0]), 1)} {number(FULL * (1 - scale.place(point[1])), 1)}"


def _path(points: Sequence[Point], time: Axis, scale: Axis, css: str) -> Markup:
    return element("path", d="M" + "L".join(_at(point, time, scale) for point in points), class_=css)


def _stairs(points: Sequence[Point]) -> list[Point]:
    """A count keeps its value until the next one."""
    stairs: list[Point] = []
    for t_s, value in thinned(points):
        if stairs and stairs[-1][1] != value:
            stairs.append((t_s, stairs[-1][1]))
        stairs.append((t_s, value))
    return stairs


def _between(spool: Spool, time: Axis, scale: Axis) -> Markup:
    around = [*_stairs(spool.durable.points), *reversed(_stairs(spool.stored.points))]
    return _path(around, time, scale, "gap")


def _marks(points: Sequence[Point], time: Axis, scale: Axis) -> Markup:
    strokes = (
        f"M{_at((t_s, low), time, scale)}V{number(FULL * (1 - scale.place(high)), 1)}"
        for t_s, low, high in spans(points)
    )
    return element("path", d="".join(strokes), class_="marks")


def _level(value: float, scale: Axis, css: str) -> Markup:
    return element("path", d=f"M0 {number(FULL * (1 - scale.place(value)))}H{number(FULL)}", class_=f"level {css}")


def _bottom(height: float) -> str:
    return f"bottom:{number(100 * height)}%"


def _sample(css: str) -> Markup:
    path = element("path", d="M0 4H24", class_=css)
    return element("svg", path, viewBox="0 0 24 8", width=24, height=8, aria_hidden="true")
