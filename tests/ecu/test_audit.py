"""The audit chain: no entry can be changed, taken out, put in or swapped without the chain saying where."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ecu.audit import Entry, first_break, link

happenings = st.lists(
    st.tuples(st.integers(0, 2**62), st.text(max_size=9), st.text(max_size=9)), min_size=1, max_size=8
)


def chain(happened: list[tuple[int, str, str]]) -> list[Entry]:
    entries: list[Entry] = []
    for wall_ns, subject, detail in happened:
        entries.append(link(entries[-1] if entries else None, wall_ns, "event", subject, detail))
    return entries


@given(happenings)
def test_a_chain_as_it_was_written_holds(happened: list[tuple[int, str, str]]) -> None:
    assert first_break(chain(happened)) is None


@given(happenings, st.data())
def test_a_changed_entry_breaks_the_chain_there(happened: list[tuple[int, str, str]], data: st.DataObject) -> None:
    entries = chain(happened)
    at = data.draw(st.integers(0, len(entries) - 1))
    change = data.draw(st.sampled_from(["detail", "subject", "event"]))
    entries[at] = replace(entries[at], **{change: getattr(entries[at], change) + "!"})
    assert first_break(entries) == at + 1


@given(happenings.filter(lambda h: len(h) > 2), st.data())
def test_an_entry_taken_out_breaks_the_chain(happened: list[tuple[int, str, str]], data: st.DataObject) -> None:
    entries = chain(happened)
    at = data.draw(st.integers(0, len(entries) - 2))
    del entries[at]
    assert first_break(entries) == at + 2


def test_text_can_not_move_from_one_field_to_the_next() -> None:
    assert link(None, 1, "ab", "c", "").digest != link(None, 1, "a", "bc", "").digest
