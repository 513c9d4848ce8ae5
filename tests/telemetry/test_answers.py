"""What a receiver behind a broker says to a block, and what it isn't taken for."""

from __future__ import annotations

import asyncio

import pytest

from telemetry.links.answers import Answers
from telemetry.links.link import LinkError, Refused, Throttled, Unauthorized, Unreachable
from telemetry.records import Lane
from telemetry.wire import Decision, Receipt, Refusal, block_name
from tests.receiver.fleet import EPOCH, make_block

BLOCK = make_block(10, 5)


async def taken() -> None:
    """The broker has it."""


async def asked(answers: Answers, block: bytes = BLOCK, timeout_s: float = 5.0) -> asyncio.Task[None]:
    task = asyncio.ensure_future(answers.settled(block, taken(), timeout_s))
    await asyncio.sleep(0)
    return task


@pytest.mark.parametrize(
    ("receipt", "answers_it"),
    [
        (Receipt(Lane.P1, EPOCH, ((10, 15),)), True),
        (Receipt(Lane.P1, EPOCH, ((0, 3), (5, 100))), True),
        (Receipt(Lane.P1, EPOCH, ((10, 14),)), False),
        (Receipt(Lane.P1, EPOCH, ((10, 12), (13, 15))), False),
        (Receipt(Lane.P0, EPOCH, ((10, 15),)), False),
        (Receipt(Lane.P1, bytes(16), ((10, 15),)), False),
    ],
)
async def test_only_a_receipt_for_all_its_records_answers_a_block(receipt: Receipt, answers_it: bool) -> None:
    answers = Answers()
    waiting = await asked(answers)
    answers.stored(receipt)
    for _ in range(3):  # turns of the loop that an answer takes to its caller
        await asyncio.sleep(0)
    assert waiting.done() is answers_it
    waiting.cancel()


@pytest.mark.parametrize(
    ("decision", "error"),
    [(Decision.REFUSED, Refused), (Decision.THROTTLED, Throttled), (Decision.UNAUTHORIZED, Unauthorized)],
)
async def test_a_refusal_goes_to_the_block_that_it_names_and_to_no_other(
    decision: Decision, error: type[LinkError]
) -> None:
    answers = Answers()
    mine, other = await asked(answers), await asked(answers, b"junk")
    answers.refused(Refusal(block_name(BLOCK), decision, "because"))
    with pytest.raises(error, match="because"):
        await mine
    assert not other.done()
    answers.end("the wire broke")
    with pytest.raises(Unreachable, match="the wire broke"):
        await other


async def test_the_same_block_twice_at_once_is_answered_twice() -> None:
    answers = Answers()
    both = [await asked(answers), await asked(answers)]
    answers.stored(Receipt(Lane.P1, EPOCH, ((10, 15),)))
    await asyncio.gather(*both)


async def test_nobody_answering_in_time_is_patience_and_what_was_given_up_is_forgotten() -> None:
    answers = Answers()
    with pytest.raises(Throttled, match=r"no receiver answered within 0\.01 s"):
        await answers.settled(BLOCK, taken(), 0.01)
    waiting = await asked(answers)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    answers.refused(Refusal(block_name(BLOCK), Decision.REFUSED, "late"))
    again = await asked(answers)
    answers.stored(Receipt(Lane.P1, EPOCH, ((10, 15),)))
    await again


async def test_after_the_end_every_question_is_answered_by_it() -> None:
    answers = Answers()
    answers.end("over")
    with pytest.raises(Unreachable, match="over"):
        await answers.settled(BLOCK, taken(), 5.0)
