"""What a receiver behind a broker says to the blocks that the broker took: a receipt, or a refusal.

A broker's acknowledgement says nothing about the receiver. So behind a broker a block counts as taken when the
receiver has answered, as at the receiver's own endpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final, assert_never

from telemetry.links.link import LinkError, Refused, Throttled, Unauthorized, Unreachable
from telemetry.wire import BadBlock, BlockHeader, Decision, Receipt, Refusal, block_name, unpack_block

PATIENCE_S: Final = 2.0
"""What a receiver that asks for patience is given."""
NOBODY_ANSWERS_S: Final = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One block that waits for its answer. `header` is None for bytes that aren't a block: only a refusal can come."""

    name: bytes
    header: BlockHeader | None
    answer: asyncio.Future[None]

    def is_answered_by(self, receipt: Receipt) -> bool:
        """Whether the receipt tells that all records of the block are stored."""
        header = self.header
        if header is None or (header.lane, header.epoch) != (receipt.lane, receipt.epoch):
            return False
        return any(start <= header.base_seq and header.end_seq <= end for start, end in receipt.ranges)


class Answers:
    """As many questions as their callers have under way."""

    def __init__(self) -> None:
        self._open: set[Question] = set()
        self._over: str | None = None

    async def settled(self, block: bytes, sending: Awaitable[None], timeout_s: float) -> None:
        """Awaits `sending`, and then the receiver's answer to the block. Raises what either calls for; Throttled when
        the broker took the block and nobody answers."""
        question, ends = self._ask(block), asyncio.get_running_loop().time() + timeout_s
        try:
            await sending
            async with asyncio.timeout_at(ends):
                await asyncio.shield(question.answer)
        except TimeoutError as error:
            raise Throttled(
                f"The broker took a block and no receiver answered within {timeout_s:g} s. Is the receiver running?",
                NOBODY_ANSWERS_S,
            ) from error
        finally:
            self._open.discard(question)

    def _ask(self, block: bytes) -> Question:
        """Its `answer` is None when the block is stored, or the LinkError that the receiver's word calls for."""
        try:
            header = unpack_block(block)[0]
        except BadBlock:
            header = None
        question = Question(block_name(block), header, asyncio.get_running_loop().create_future())
        self._open.add(question)
        if self._over is not None:
            self._fail(question, Unreachable(self._over))
        return question

    def stored(self, receipt: Receipt) -> None:
        for question in self._open:
            if question.is_answered_by(receipt) and not question.answer.done():
                question.answer.set_result(None)

    def refused(self, refusal: Refusal) -> None:
        for question in self._open:
            if question.name == refusal.name:
                self._fail(question, error_of(refusal))

    def end(self, words: str) -> None:
        """The connection is over: nobody will answer."""
        self._over = words
        for question in self._open:
            self._fail(question, Unreachable(words))

    def _fail(self, question: Question, error: LinkError) -> None:
        if not question.answer.done():
            question.answer.set_exception(error)
            question.answer.exception()  # looked at: whoever asked may have given up


def error_of(refusal: Refusal) -> LinkError:
    match refusal.decision:
        case Decision.REFUSED:
            return Refused(f"The receiver will never take these bytes: {refusal.words}.")
        case Decision.THROTTLED:
            return Throttled(f"The receiver asks for patience: {refusal.words}.", PATIENCE_S)
        case Decision.UNAUTHORIZED:
            return Unauthorized(f"The receiver doesn't let this vehicle in: {refusal.words}. Enrol and pair it again.")
        case _:
            assert_never(refusal.decision)
