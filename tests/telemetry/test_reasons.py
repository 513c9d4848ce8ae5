"""What each reason code of a PUBACK makes of a block: only who may judge its bytes may have it put away for good."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from telemetry.links.link import Acks, Refused, Throttled, Unauthorized
from telemetry.links.reasons import NOT_WELCOME, raise_unless_taken

FAILURES = range(0x80, 0x100)
PAYLOAD_INVALID = 0x99


def refused(codes: Iterable[int], broker: Acks | None) -> set[int]:
    found = set()
    for code in codes:
        try:
            raise_unless_taken(code, "words", broker)
        except Refused:
            found.add(code)
        except (Throttled, Unauthorized):
            continue
        else:
            pytest.fail(f"{code:#x} was taken for a success")
    return found


def test_behind_a_broker_no_reason_code_puts_a_block_away_for_good() -> None:
    assert refused(FAILURES, Acks.STORED) == set()


def test_where_a_broker_has_the_last_word_only_its_word_on_the_bytes_themselves_does() -> None:
    assert refused(FAILURES, Acks.ACCEPTED) == {PAYLOAD_INVALID}


def test_the_receiver_itself_refuses_by_every_code_that_isnt_patience_or_no_welcome() -> None:
    assert refused(FAILURES, None) == set(FAILURES) - {0x97, *NOT_WELCOME}


@pytest.mark.parametrize("broker", [None, *Acks])
def test_no_welcome_pauses_a_quota_asks_for_patience_and_success_is_success_whoever_says_it(
    broker: Acks | None,
) -> None:
    for code in NOT_WELCOME:
        with pytest.raises(Unauthorized):
            raise_unless_taken(code, "words", broker)
    for code in (0x10, 0x97):
        with pytest.raises(Throttled) as caught:
            raise_unless_taken(code, "words", broker)
        assert caught.value.after_s > 0
    raise_unless_taken(0, "words", broker)
