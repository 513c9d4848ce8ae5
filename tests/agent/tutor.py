"""A trainer without a process: what its process would answer is worked out here, at once.

For whoever looks at what comes of an answer; test_trainer.py holds the two to the same bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from agent.children import Child
from agent.trainer.process import serve
from ecu.channel import Message
from inference.training.package import load_learnable
from tests.agent.puppets import Puppet

In = TypeVar("In")
load = cache(load_learnable)


class Tutor(Puppet):
    """Answers its one order as soon as that comes, and ends."""

    def __init__(self, arguments: Sequence[str], *others: Any) -> None:
        super().__init__(arguments, *others)
        self._package = Path(arguments[arguments.index("--package") + 1])

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> bool:
        answer = _Answer(message, descriptors)
        serve(answer, lambda: load(self._package))  # type: ignore[arg-type]
        loop = asyncio.get_running_loop()
        for told in answer.told:
            loop.call_soon(self.says, told)
        loop.call_soon(self.dies)
        return super().send(message)


class _Answer:
    """A channel with one order in it."""

    def __init__(self, order: Message, descriptors: Sequence[int]) -> None:
        self._order = order, descriptors
        self.told: list[Message] = []

    def receive(self) -> tuple[Message, Sequence[int]]:
        return self._order

    def send(self, message: Message) -> None:
        self.told.append(message)


async def tutored(
    module: str, arguments: Sequence[str], accepts: Any, on_message: Callable[[Child[In], In], None],
    on_closed: Callable[[Child[In]], None], environment: Mapping[str, str],
) -> Child[In]:  # fmt: skip
    return Tutor(arguments, on_message, on_closed)
