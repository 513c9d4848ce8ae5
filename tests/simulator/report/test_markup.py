"""No text becomes a tag, whatever is in it."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from simulator.report.markup import Markup, element, join, number


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(markup: str) -> Reader:
    reader = Reader()
    reader.feed(markup)
    reader.close()
    return reader


printable = st.text(st.characters(exclude_categories=["Cs", "Cc"]))


@given(printable, printable)
def test_text_comes_back_as_it_went_in(text: str, attribute: str) -> None:
    reader = read(element("p", text, title=attribute))
    assert reader.tags == [("p", [("title", attribute)])]
    assert reader.text == text


@given(st.text())
def test_no_text_makes_a_second_tag(text: str) -> None:
    assert len(read(element("p", text, title=text, class_=text)).tags) == 1


def test_markup_stays_and_iterables_are_joined() -> None:
    assert join(["a<b", Markup("<i>"), ["&"]]) == "a&lt;b<i>&amp;"


def test_attributes_are_named_as_html_names_them() -> None:
    made = element(
        "input", type="range", aria_label="Time", for_="x", hidden=True, disabled=False, title=None, min=0.50
    )
    assert made == '<input type="range" aria-label="Time" for="x" hidden min="0.5">'


def test_numbers_carry_no_empty_decimals() -> None:
    assert [number(n) for n in (0, -0.001, 10, 100.5, 1 / 3)] == ["0", "-0", "10", "100.5", "0.33"]
