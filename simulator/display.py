"""The running demo on a terminal: what happens now, why it matters, and at the end the claims.

`render` is a pure function of a Scene. On a terminal it is redrawn a few times a second; elsewhere each new phase is
one plain line; beside JSON output there is nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from types import TracebackType
from typing import Final, Protocol, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.console import RenderResult as Rendered
from rich.layout import Layout
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ecu.clock import MILLISECOND_NS, Clock
from simulator.boxes import Box
from simulator.claims import Claim, Verdict

REFRESH_NS: Final = 125 * MILLISECOND_NS
QUIET: Final = "bright_black"
GOOD: Final = "green"
BAD: Final = "red"
WARN: Final = "yellow"
TRACK_STYLES: Final = ("cyan", "yellow", "green", "magenta", "blue", "bright_red")
LANE_STYLES: Final[Mapping[str, str]] = {"P0": "yellow", "P1": "blue", "P2": "green", "P3": "magenta"}
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class State(Enum):
    """Of a process, as the demo knows it."""

    STARTING = "starting"
    UP = "up"
    KILLED = "killed"
    RESTARTED = "restarted"
    ENDED = "ended"


class Way(Enum):
    """The link, as the demo made it."""

    OPEN = "open"
    CUT = "cut"
    STALLED = "stalled"
    SLOW = "slow"


@dataclass(frozen=True, slots=True)
class Process:
    """One process; `pid` is None while there is none."""

    name: str
    pid: int | None
    state: State


@dataclass(frozen=True, slots=True)
class View:
    """What the camera's view holds now, in pixels of its frame."""

    width_px: int
    height_px: int
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class LaneDepth:
    """Records of one lane that wait for the receiver."""

    name: str
    waiting: int


@dataclass(frozen=True, slots=True)
class Law:
    """A law with its numbers; `holds` is None until it can be known."""

    text: str
    holds: bool | None = None


@dataclass(frozen=True, slots=True)
class Happening:
    """Something worth a line, `t_s` seconds after the start."""

    t_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Scene:
    """All that is shown at one instant. None is not known yet; `happenings` has the newest last."""

    elapsed_s: float
    total_s: float
    phase: str
    why: str
    phase_number: int = 1
    phases: int = 1
    processes: tuple[Process, ...] = ()
    view: View | None = None
    frames_per_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    link: Way = Way.OPEN
    lanes: tuple[LaneDepth, ...] = ()
    durable: int = 0
    stored: int = 0
    laws: tuple[Law, ...] = ()
    happenings: tuple[Happening, ...] = ()


# --- the picture -----------------------------------------------------------------------------------------------------


def render(scene: Scene) -> RenderableType:
    """The whole picture; it fills the height it is given, 26 lines or more."""
    whole, middle, lower = Layout(), Layout(ratio=1, minimum_size=8), Layout(size=_lower_height(scene))
    middle.split_row(Layout(_titled("In view", _view(scene)), ratio=7), Layout(_processes(scene), ratio=5))
    lower.split_row(Layout(_records(scene), ratio=7), Layout(_laws(scene), ratio=5))
    whole.split_column(Layout(_heading(scene), size=4), middle, lower, Layout(_happenings(scene), size=6))
    return Padding(whole, (1, 2, 0, 2))


def _lower_height(scene: Scene) -> int:
    return 5 + max(len(scene.lanes), len(scene.laws), 1)


def _titled(title: str, content: RenderableType) -> RenderableType:
    return Padding(Group(Text(title, style=QUIET), content), (1, 2, 0, 0))


def _heading(scene: Scene) -> RenderableType:
    line = Table.grid(expand=True)
    line.add_column(ratio=1)
    line.add_column(justify="right")
    phase = Text.assemble((f"{scene.phase_number}/{scene.phases}  ", QUIET), (_plain(scene.phase), "bold"))
    line.add_row(phase, Text(f"{scene.elapsed_s:.0f} of {scene.total_s:.0f} s", style=QUIET))
    bar = ProgressBar(total=max(scene.total_s, 0.001), completed=scene.elapsed_s, complete_style="cyan", style=QUIET)
    whole = Table.grid(expand=True)
    for row in (bar, line, Text(_plain(scene.why), style="italic")):
        whole.add_row(row)
    return whole


def _view(scene: Scene) -> RenderableType:
    if scene.view is None:
        return Text("The camera hasn't started.", style=QUIET)
    return Sketch(scene.view)


def _processes(scene: Scene) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    for process in scene.processes:
        pid = Text("" if process.pid is None else str(process.pid), style=QUIET)
        table.add_row(Text(_plain(process.name)), _state(process.state), pid)
    return _titled("Processes", Group(table, Text(""), _pace(scene)))


def _state(state: State) -> Text:
    style = {State.KILLED: f"bold {BAD}", State.RESTARTED: WARN, State.UP: GOOD}.get(state, QUIET)
    return Text(state.value, style=style)


def _pace(scene: Scene) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, value, unit in (
        ("Frames a second", scene.frames_per_s, ""),
        ("Half within", scene.p50_ms, " ms"),
        ("99 % within", scene.p99_ms, " ms"),
    ):
        table.add_row(Text(name, style=QUIET), "not yet" if value is None else f"{value:.1f}{unit}")
    return table


def _records(scene: Scene) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(width=2)
    table.add_column(width=7, justify="right")
    table.add_column(ratio=1)
    most = max([50, *(lane.waiting for lane in scene.lanes)])
    for lane in scene.lanes:
        style = LANE_STYLES.get(lane.name, "cyan")
        bar = ProgressBar(total=most, completed=lane.waiting, complete_style=style, finished_style=style, style="black")
        table.add_row(Text(_plain(lane.name), style=style), f"{lane.waiting:,}", bar)
    summary = Text.assemble(
        f"{scene.durable:,} durable on the vehicle, ", (f"{scene.stored:,} stored", "bold"), " at the receiver"
    )
    return _titled("Waiting for the receiver", Group(table, summary, _link(scene.link)))


def _link(way: Way) -> Text:
    style = {Way.OPEN: GOOD, Way.SLOW: WARN}.get(way, f"bold {BAD}")
    return Text.assemble("The link is ", (way.value, style))


def _laws(scene: Scene) -> RenderableType:
    lines = [Text.assemble(_mark(law.holds), " ", _plain(law.text)) for law in scene.laws]
    return _titled("Laws", Group(*(lines or [Text("Not counted yet.", style=QUIET)])))


def _mark(holds: bool | None) -> tuple[str, str]:
    if holds is None:
        return "·", QUIET
    return ("✓", GOOD) if holds else ("✗", f"bold {BAD}")


def _happenings(scene: Scene) -> RenderableType:
    newest = scene.happenings[-5:]
    table = Table.grid(padding=(0, 2, 0, 0))
    for happening in newest:
        style = "" if happening is newest[-1] else QUIET
        table.add_row(Text(f"{happening.t_s:6.1f} s", style=QUIET), Text(_plain(happening.text), style=style))
    return table


def _plain(text: str) -> str:
    """Without anything that could move a cursor."""
    return _CONTROL.sub(" ", text)


# --- the view as characters ------------------------------------------------------------------------------------------


class Sketch:
    """The tracks as boxes of line characters over a road, as large as the space it gets."""

    SKY = 0.34  # of the frame's height, left out: nothing drives there

    def __init__(self, view: View) -> None:
        self._view = view

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Rendered:
        height = max(5, (options.height or 15) - 1)
        yield from sketch(self._view, options.max_width, height)


class _Canvas:
    """Rows of styled characters; whatever is drawn outside is left out."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._cells = [[(" ", "")] * width for _ in range(height)]

    def put(self, x: int, y: int, text: str, style: str) -> None:
        for i, char in enumerate(text):
            if 0 <= x + i < self.width and 0 <= y < self.height:
                self._cells[y][x + i] = (char, style)

    def lines(self) -> list[Text]:
        return [Text.assemble(*_runs(row), no_wrap=True) for row in self._cells]


def _runs(row: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Neighbours of one style together: a terminal is told of each change of style."""
    for style, cells in groupby(row, key=lambda cell: cell[1]):
        yield "".join(char for char, _ in cells), style


def sketch(view: View, width: int, height: int) -> list[Text]:
    """`height` lines of `width` characters; nearer tracks over farther ones."""
    canvas = _Canvas(width, height)
    _draw_road(canvas)
    for box in sorted(view.boxes, key=lambda box: box.box[3]):
        _draw_box(canvas, view, box)
    return canvas.lines()


def _draw_road(canvas: _Canvas) -> None:
    horizon = round(canvas.height * 0.3)
    canvas.put(0, horizon, "─" * canvas.width, QUIET)
    for y in range(horizon + 1, canvas.height):
        away = (y - horizon) / (canvas.height - horizon)
        for side, slope in ((-1, "╱"), (1, "╲")):
            canvas.put(round(canvas.width / 2 + side * away * canvas.width * 0.46), y, slope, QUIET)
            if (y - horizon) % 3 == 1:
                canvas.put(round(canvas.width / 2 + side * away * canvas.width * 0.16), y, slope, QUIET)


def _draw_box(canvas: _Canvas, view: View, track: Box) -> None:
    left, right = (round(x / view.width_px * (canvas.width - 1)) for x in (track.box[0], track.box[2]))
    top, bottom = (_row(canvas, view, y) for y in (track.box[1], track.box[3]))
    right, bottom = max(right, left + 2), max(bottom, top + 1)
    style = TRACK_STYLES[track.track_id % len(TRACK_STYLES)]
    inside = right - left - 1
    canvas.put(left, top, f"╭{'─' * inside}╮", style)
    for y in range(top + 1, bottom):
        canvas.put(left, y, f"│{' ' * inside}│", style)
    canvas.put(left, bottom, f"╰{'─' * inside}╯", style)
    canvas.put(left + 1, top, _name(track, inside), f"bold {style}")


def _row(canvas: _Canvas, view: View, y_px: float) -> int:
    return round((y_px / view.height_px - Sketch.SKY) / (1 - Sketch.SKY) * (canvas.height - 1))


def _name(track: Box, room: int) -> str:
    full, short = f"{_plain(track.label)} {track.track_id}", str(track.track_id)
    return next((name for name in (full, short) if len(name) <= room), "")


# --- the verdict -----------------------------------------------------------------------------------------------------


def render_claims(claims: Sequence[Claim]) -> RenderableType:
    """The claims as a table: what, measured, bar, verdict in a word; and why it matters where one failed."""
    table = Table(box=SIMPLE_HEAD, header_style=QUIET, border_style=QUIET, pad_edge=False, expand=True)
    for title, ratio in (("Claim", 6), ("Measured", 5), ("Bar", 3)):
        table.add_column(title, ratio=ratio)
    table.add_column("Verdict", justify="right", no_wrap=True)
    for claim in claims:
        verdict = Text("✓ held", style=GOOD) if claim.ok else Text("✗ FAILED", style=f"bold {BAD}")
        measured = Text(_plain(claim.measured), style="bold" if claim.ok else f"bold {BAD}")
        table.add_row(_claim_name(claim), measured, Text(_plain(claim.bar), style=QUIET), verdict)
    return table


def _claim_name(claim: Claim) -> Text:
    if claim.ok:
        return Text(_plain(claim.name))
    return Text.assemble((_plain(claim.name), "bold"), "\n", (_plain(claim.why), QUIET))


def render_verdict(verdict: Verdict) -> RenderableType:
    """The table, and the sentence that the exit code says."""
    line = Text(f"{verdict.sentence} in {verdict.seconds:.1f} s.", style=f"bold {GOOD if verdict.ok else BAD}")
    return Group(render_claims(verdict.claims), line)


# --- where it goes ---------------------------------------------------------------------------------------------------


class Display(Protocol):
    """Where a run is watched. `show` is cheap to call often."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, scene: Scene) -> None: ...

    def conclude(self, verdict: Verdict) -> None:
        """After the block: what stays on the screen."""
        ...


class LiveDisplay:
    """Redraws a terminal at most eight times a second, on a screen of its own that leaves the scrollback alone."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._live = Live(console=console, screen=True, auto_refresh=False)
        self._next_ns = 0
        self._phase = ""

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, scene: Scene) -> None:
        now_ns = self._clock.boot_ns()
        if now_ns < self._next_ns and scene.phase == self._phase:
            return
        self._next_ns, self._phase = now_ns + REFRESH_NS, scene.phase
        self._live.update(render(scene), refresh=True)

    def conclude(self, verdict: Verdict) -> None:
        self._console.print(render_verdict(verdict))


class LineDisplay:
    """One plain line for each phase, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._phase: tuple[int, str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, scene: Scene) -> None:
        if (scene.phase_number, scene.phase) == self._phase:
            return
        self._phase = scene.phase_number, scene.phase
        line = f"{scene.elapsed_s:6.1f} s  {scene.phase_number}/{scene.phases}  {scene.phase}: {scene.why}"
        self._console.out(_plain(line), highlight=False)

    def conclude(self, verdict: Verdict) -> None:
        self._console.print(render_verdict(verdict))


class SilentDisplay:
    """Beside JSON on standard output: nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, scene: Scene) -> None: ...

    def conclude(self, verdict: Verdict) -> None: ...


def open_display(console: Console, clock: Clock, *, silent: bool = False) -> Display:
    """What fits the console: live on a terminal, lines elsewhere, nothing when `silent`."""
    if silent:
        return SilentDisplay()
    return LiveDisplay(console, clock) if console.is_terminal else LineDisplay(console)
