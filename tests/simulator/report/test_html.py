"""The page holds the whole verdict, fetches nothing, shows nobody, stays small, and can be read by everybody."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from simulator.boxes import Box
from simulator.claims import Verdict, at_most
from simulator.report.evidence import (
    CloudPicture,
    Drive,
    Evidence,
    Fault,
    Frame,
    Latency,
    Ledger,
    Line,
    Spool,
    Waypoint,
)
from simulator.report.html import render
from tests.simulator.report.synthetic import drive, evidence, ledgers, verdict

HOSTILE = "</script></style><img src=x onerror=alert(1)>\"'&<!-- \x00\x1b[31m"
VOID = {"img", "meta", "link", "input"}


class Page(HTMLParser):
    """Checks nesting while it reads."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"script", "style"}:
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.mark.parametrize("failing", [False, True])
def test_every_claim_is_there_with_its_number_bar_and_verdict(failing: bool) -> None:
    page = Page(render(evidence(failing=failing)))
    words = " ".join(page.text)
    for claim in verdict(failing=failing).claims:
        for text in (claim.name, claim.why, claim.bar, *claim.measured.removesuffix(")").split(" (")):
            assert text in words
    rows = [attrs for attrs in page.all("tr") if attrs.get("class") == "failed"]
    assert len(rows) == (2 if failing else 0)


def test_the_headline_is_the_verdict() -> None:
    assert '<h1 class="failed">2 of 12 claims failed.</h1>' in render(evidence(failing=True))
    assert '<h1 class="held">All 12 claims held.</h1>' in render(evidence())


def test_nothing_is_fetched() -> None:
    text = render(evidence(), "drive.mcap")
    page = Page(text)
    assert not re.findall(r"(?i)https?:|@import|url\((?!#)", text)
    assert not any("src" in attrs for _, attrs in page.tags)
    assert [attrs["href"] for _, attrs in page.tags if "href" in attrs] == ["data:,"]
    policies = [attrs["content"] for attrs in page.all("meta") if attrs.get("http-equiv")]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"]


def test_nobody_is_shown() -> None:
    text = render(evidence())
    assert not re.findall(r"(?i)<(img|image|video|canvas|picture|object|embed|iframe)\b|data:image|base64", text)


def test_the_stored_picture_is_in_the_page_itself_byte_for_byte() -> None:
    picture = CloudPicture(b"\xff\xd8 covered \xff\xd9", 960, 540, covered=3, pictures=12)
    page = Page(render(replace(evidence(), picture=picture)))
    (image,) = page.all("img")
    assert image["src"] == "data:image/jpeg;base64," + b64encode(picture.jpeg).decode()
    assert image["alt"]
    assert (image["width"], image["height"]) == ("960", "540")


def test_without_one_the_page_says_so() -> None:
    assert "No picture that shows nobody was stored" in render(evidence())


def test_the_page_stays_below_400_kb_for_a_ten_times_longer_run() -> None:
    assert len(render(evidence()).encode()) < 250_000
    assert len(render(_stretched(evidence(), 10)).encode()) < 400_000


def _stretched(short: Evidence, times: int) -> Evidence:
    def long(line: Line) -> Line:
        return Line(line.name, tuple((t + n * 61.4, v) for n in range(times) for t, v in line.points))

    frames = short.drive.frames
    return replace(
        short,
        latency=replace(short.latency, points=long(Line("", short.latency.points)).points),
        spool=Spool(tuple(map(long, short.spool.lanes)), long(short.spool.durable), long(short.spool.stored)),
        drive=replace(
            short.drive,
            frames=tuple(replace(frame, t_s=frame.t_s + n * 61.4) for n in range(times) for frame in frames),
            speed_kmh=long(short.drive.speed_kmh),
            brake_percent=long(short.drive.brake_percent),
        ),
        verdict=replace(short.verdict, seconds=614.0),
    )


def test_hostile_text_stays_text_wherever_it_comes_in() -> None:
    claim = replace(at_most("n", 3, 2, "", "w"), name=HOSTILE, measured=HOSTILE, bar=HOSTILE, why=HOSTILE)
    bad = Evidence(
        HOSTILE, HOSTILE, evidence().when, HOSTILE,
        replace(evidence().host, cpu=HOSTILE, isa=HOSTILE, python=HOSTILE),
        Verdict((claim,), 60.0),
        (Fault(HOSTILE, 1, 2, HOSTILE),),
        evidence().latency,
        Spool((Line(HOSTILE, ((0, 1), (1, 2))),), Line(HOSTILE, ((0, 1),)), Line(HOSTILE, ((0, 1),))),
        tuple(replace(ledger, title=HOSTILE, sentence=HOSTILE) for ledger in ledgers()),
        Drive(960, 540, (Frame(0.0, 0, (Box(1, HOSTILE, 0.5, (0, 0, 90, 90)),)),) * 2),
    )  # fmt: skip
    page = Page(render(bad, HOSTILE))
    assert page.all("img") == []
    assert len(page.all("script")) == 2
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)


def test_a_run_that_left_nothing_says_so_in_words() -> None:
    bare = evidence()
    bare = Evidence(bare.title, bare.summary, bare.when, bare.mode, bare.host, Verdict((), 0.0))
    words = " ".join(Page(render(bare)).text)
    for sentence in ("Nothing was claimed", "undisturbed run", "No tracks", "no position", "No frame's latency",
                     "No spool depth", "Nothing was stored", "No counts were taken"):  # fmt: skip
        assert sentence in words


def test_a_ledger_that_does_not_balance_says_by_how_much() -> None:
    (law1, law2) = ledgers()
    row = law2.equations[0].rows[0]
    broken = replace(law2.equations[0], rows=(replace(row, total=row.total + 3),))
    text = render(replace(evidence(), ledgers=(law1, Ledger(law2.title, law2.sentence, (broken,)))))
    assert ">+3<" in text
    assert render(evidence()).count(">even<") == 9


def test_one_moment_and_one_place_draw_without_dividing_by_nothing() -> None:
    once = replace(
        evidence(),
        latency=Latency(((5.0, 20.0),), 20.0, 20.0, None),
        spool=Spool((Line("P0", ((1.0, 0.0),)),), Line("durable", ((1.0, 0.0),)), Line("stored", ((1.0, 0.0),))),
        drive=replace(drive(), frames=drive().frames[:1], route=(Waypoint(0.0, 0.0, 0.0),), cell_m=0.0),
    )
    assert "nan" not in render(once)


def test_every_control_and_drawing_has_a_name_for_those_who_listen() -> None:
    page = Page(render(evidence()))
    for attrs in page.all("svg"):
        assert attrs.get("aria-hidden") == "true" or attrs.get("aria-label")
    for attrs in page.all("input"):
        assert attrs.get("aria-label")
    plots = [attrs for attrs in page.all("div") if attrs.get("role") == "img"]
    assert len(plots) == 4
    assert all(attrs.get("aria-label") for attrs in plots)
    assert len(page.all("h1")) == 1
    assert page.all("html") == [{"lang": "en"}]
    headed = {attrs["aria-labelledby"] for attrs in page.all("section")}
    assert headed == {attrs["id"] for attrs in page.all("h2")}


# --- colours ---------------------------------------------------------------------------------------------------------

STYLE = (files("simulator.report") / "assets" / "style.css").read_text()
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in re.findall(r":root \{(.*?)\}", STYLE, re.S)[:2]
)
TEXTS = ("ink", "soft", "faint", "good", "bad", "c0", "c1", "c2", "c3", "c4", "c5")


def _luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(a: str, b: str) -> float:
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("text", TEXTS)
def test_every_text_stands_out_from_its_paper(theme: dict[str, str], text: str) -> None:
    assert _contrast(theme[text], theme["paper"]) >= 4.5
    if text.startswith("c"):
        assert _contrast(theme[text], theme["sky"]) >= 4.5


def test_both_themes_name_the_same_colours() -> None:
    assert LIGHT.keys() == DARK.keys()
    assert len(LIGHT) >= 15
