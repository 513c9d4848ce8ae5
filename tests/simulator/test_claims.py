"""A claim's verdict comes from its number, what wasn't measured never holds, and the text never contradicts it."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from simulator.claims import Claim, Verdict, at_least, at_most, equals, holds, shown

finite = st.floats(-1e12, 1e12, allow_subnormal=False)
makers = pytest.mark.parametrize("make", [at_most, at_least, equals])


@given(finite, finite)
def test_the_verdict_is_the_comparison(value: float, bar: float) -> None:
    assert at_most("n", value, bar, "ms", "why").ok == (value <= bar)
    assert at_least("n", value, bar, "ms", "why").ok == (value >= bar)
    assert equals("n", value, bar, "ms", "why").ok == (value == bar)


@makers
@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_was_not_measured_never_holds(make: type[Claim], value: float | None) -> None:
    claim = make("n", value, 0, "ms", "why")  # type: ignore[arg-type]
    assert (claim.ok, claim.measured, claim.value) == (False, "not measured", None)


def test_a_yes_that_nobody_looked_for_never_holds() -> None:
    assert not holds("n", None, "why").ok
    assert not holds("n", False, "why").ok
    assert holds("n", True, "why", measured="7 refusals", bar="all refused").measured == "7 refusals"


@given(finite, finite)
def test_the_text_stands_on_the_same_side_of_the_bar_as_the_number(value: float, bar: float) -> None:
    assume(value != bar)
    said = float(shown(value, bar).replace(",", ""))
    assert (said > bar) == (value > bar)
    assert (said < bar) == (value < bar)


@pytest.mark.parametrize(
    ("value", "bar", "text"),
    [(12.3456, 50, "12.3 ms"), (50.0004, 50, "50.0004 ms"), (1234567, 1, "1,234,567 ms"), (0.0, 1, "0 ms"),
     (0.01234, 1, "0.0123 ms"), (0.00001234, 1, "1.23e-05 ms"), (1234.5, 2, "1,234 ms")],
)  # fmt: skip
def test_numbers_read_well(value: float, bar: float, text: str) -> None:
    assert at_most("n", value, bar, "ms", "why").measured == text


def test_bars_name_their_direction() -> None:
    assert at_most("n", 1, 2500, "ms", "w").bar == "≤ 2,500 ms"
    assert at_least("n", 1, 0.75, "", "w").bar == "≥ 0.75"
    assert equals("n", 1, 100, "%", "w").bar == "= 100%"


def test_one_failure_fails_the_verdict_and_no_claims_prove_nothing() -> None:
    good, bad = at_most("good", 1, 2, "", "w"), at_most("bad", 3, 2, "", "w")
    assert Verdict((good,), 60.0).ok
    assert not Verdict((good, bad), 60.0).ok
    assert not Verdict((), 60.0).ok
    assert Verdict((good, bad), 60.0).failed == (bad,)


def test_the_verdict_in_words() -> None:
    good, bad = at_most("good", 1, 2, "", "w"), at_most("bad", 3, 2, "", "w")
    assert Verdict((good,), 1).sentence == "The one claim held"
    assert Verdict((good, good), 1).sentence == "All 2 claims held"
    assert Verdict((good, bad), 1).sentence == "1 of 2 claims failed"
    assert Verdict((), 1).sentence == "Nothing was claimed, so nothing is proved"


def test_json_has_exactly_the_stable_form() -> None:
    text = Verdict((at_most("latency", 12.3, 50, "ms", "why"),), 60).to_json()
    assert json.loads(text) == {
        "seconds": 60.0,
        "claims": [{"claim": "latency", "measured": "12.3 ms", "bar": "≤ 50 ms", "ok": True}],
    }
    assert text.isascii()
    assert '"seconds": 60.0' in text
