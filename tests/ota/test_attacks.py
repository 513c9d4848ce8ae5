"""The table of what can be wrong with an update: complete, printed as it is, and raised where it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ota.attacks import ABOUT, Attack, Flaw, table
from ota.errors import SlowRetrieval, TrustError

ROOT = Path(__file__).parents[2]


def test_every_flaw_has_its_line_and_every_attack_a_flaw() -> None:
    assert set(ABOUT) == set(Flaw)
    assert {about.attack for about in ABOUT.values()} == set(Attack)
    assert len(Flaw) >= 40


def test_no_two_flaws_say_the_same() -> None:
    assert len({about.words for about in ABOUT.values()}) == len(Flaw)


def test_the_document_is_printed_from_the_table() -> None:
    assert (ROOT / "docs/attacks.md").read_text().endswith(f"\n\n{table()}\n")


@pytest.mark.parametrize("flaw", Flaw)
def test_a_refusal_is_told_by_its_attack_and_knows_its_flaw(flaw: Flaw) -> None:
    refusal = (SlowRetrieval if flaw.attack is Attack.SLOW_RETRIEVAL else TrustError)(flaw, "why\x1b")
    assert (refusal.attack, refusal.flaw) == (ABOUT[flaw].attack, flaw)
    assert str(refusal).startswith(f"{flaw.attack}: why")
    assert str(refusal).isprintable()


@pytest.mark.parametrize("flaw", Flaw)
def test_the_module_that_a_line_names_raises_that_flaw(flaw: Flaw) -> None:
    # Where the alarm stands and who says which of the two it is are different modules.
    module = "ota/updates.py" if flaw.attack is Attack.SLOW_RETRIEVAL else ABOUT[flaw].check
    assert re.search(rf"\bFlaw\.{flaw.name}\b", (ROOT / module).read_text()), f"{module} never says {flaw.name}"
