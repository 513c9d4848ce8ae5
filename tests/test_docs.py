"""What the documents point at is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from outrider import VERBS

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
COMMAND = re.compile(r"`outrider ([a-z]+)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    links = LINK.findall(document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_is_shown_exists(document: Path) -> None:
    assert set(COMMAND.findall(document.read_text())) <= set(VERBS)


def test_the_readme_shows_every_verb() -> None:
    assert set(COMMAND.findall((ROOT / "README.md").read_text())) == set(VERBS)


def test_the_readme_answers_each_wish_once() -> None:
    table = (ROOT / "README.md").read_text().partition("| for | do this |\n|---|---|\n")[2].partition("\n\n")[0]
    wishes = [row.split(" | ")[0] for row in table.splitlines()]
    assert wishes == list(dict.fromkeys(wishes))
    assert len(wishes) > 10


def test_the_decisions_are_numbered_in_order() -> None:
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "docs" / "adr").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))
