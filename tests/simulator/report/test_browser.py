"""In a real browser: no error on the console, and the moving drive shows the tracks of its moment."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from simulator.report.drive import keyframes
from simulator.report.html import render
from tests.simulator.report.synthetic import drive, evidence

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=4000",
)  # fmt: skip

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
]


def visit(folder: Path, page: str, script: str = "") -> tuple[str, list[str]]:
    """The page's DOM after four seconds of its own time, and what it said on the console."""
    (folder / "page.html").write_text(page.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder}/profile", "--dump-dom", f"file://{folder}/page.html"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return run.stdout, [line for line in run.stderr.splitlines() if ":CONSOLE:" in line]


def answer(dom: str) -> Any:
    found = re.search(r'data-answer="([^"]*)"', dom)
    assert found is not None
    return json.loads(unescape(found[1]))


def test_the_page_says_nothing_on_the_console_and_comes_to_life(tmp_path: Path) -> None:
    dom, said = visit(tmp_path, render(evidence()))
    assert said == []
    assert 'id="drive" class="moving"' in dom


def test_the_slider_shows_the_tracks_of_its_moment(tmp_path: Path) -> None:
    frame = keyframes(drive().frames)[300]
    script = f"""
      const slider = document.getElementById("time");
      slider.value = {round(100 * frame.t_s)};
      slider.dispatchEvent(new Event("input"));
      const tracks = [...document.querySelectorAll("#tracks .track")].map((group) => [
        group.querySelector("text").textContent,
        ...["x", "y", "width", "height"].map((name) => Number(group.querySelector("rect").getAttribute(name))),
      ]);
      document.body.dataset.answer = JSON.stringify({{tracks, said: slider.getAttribute("aria-valuetext")}});
    """
    dom, said = visit(tmp_path, render(evidence()), script)
    assert said == []
    shown = answer(dom)
    seen = {name: box for name, *box in shown["tracks"]}
    assert set(seen) == {f"{box.label} {box.track_id}" for box in frame.boxes}
    for box in frame.boxes:
        x1, y1, x2, y2 = (round(edge) for edge in box.box)
        assert seen[f"{box.label} {box.track_id}"] == [x1, y1, x2 - x1, y2 - y1]
    assert shown["said"].startswith(f"{frame.t_s:.1f} seconds, {len(frame.boxes)} tracks in view")


def test_play_moves_time_and_pause_stops_it(tmp_path: Path) -> None:
    script = """
      const play = document.getElementById("play"), slider = document.getElementById("time"), seen = [slider.value];
      const note = () => seen.push(Number(slider.value), play.textContent);
      // A headless page is seldom painted; this is a display of 50 Hz.
      window.requestAnimationFrame = (draw) => setTimeout(() => draw(performance.now()), 20);
      play.click();
      setTimeout(() => { note(); play.click(); note(); }, 1500);
      setTimeout(() => { note(); document.body.dataset.answer = JSON.stringify(seen); }, 2500);
    """
    dom, said = visit(tmp_path, render(evidence()), script)
    assert said == []
    before, playing, while_playing, *paused = answer(dom)
    assert int(before) + 140 <= playing <= int(before) + 160
    assert (while_playing, paused) == ("Pause", [playing, "Play", playing, "Play"])


def test_an_empty_run_makes_no_error_either(tmp_path: Path) -> None:
    bare = evidence()
    page = render(type(bare)(bare.title, bare.summary, bare.when, bare.mode, bare.host, bare.verdict))
    assert visit(tmp_path, page)[1] == []


def test_the_check_itself_hears_the_console(tmp_path: Path) -> None:
    assert len(visit(tmp_path, render(evidence()), "nobody.home()")[1]) == 1
