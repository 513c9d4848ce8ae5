"""Whether a release was ever kept is found from what an agent says and from what lies on its flash, each by itself."""

from __future__ import annotations

import pytest

from ota.machine import State
from simulator.demo.workshop import was_live, would_boot

LIVE = ["drive-detect 1.0 (u8s8)", "None"]
REST = ["staged", "shadow", "rolled_back"]


@pytest.mark.parametrize(
    ("said", "seen_live", "found"),
    [
        (REST, LIVE, False),
        ([], [], False),
        (["staged", "shadow", State.SWITCHED, "rolled_back"], LIVE, True),
        ([State.COMMITTED], LIVE, True),
        (REST, [*LIVE, "drive-detect 2.2 (u8s7)"], True),
        (REST, [*LIVE, "drive-detect 2.21 (u8s7)", "drive-detect 12.2 (u8s7)"], False),
    ],
)
def test_a_release_was_live_when_it_was_said_to_be_or_seen_to_be(
    said: list[str], seen_live: list[str], found: bool
) -> None:
    assert was_live("2.2", said, seen_live) is found


@pytest.mark.parametrize(("good", "found"), [("factory", False), ("a", False), ("b", True), ("c", False)])
def test_what_would_boot_is_what_the_record_calls_good(good: str, found: bool) -> None:
    record = {"good": good, "slots": {"a": {"digest": "aa"}, "b": {"digest": "bb"}}}
    assert would_boot("bb", record) is found
