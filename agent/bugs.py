"""A bug anywhere ends the daemon, and is told by its own words."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any


def leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    """What failed, out of the groups of groups that nested tasks make of it."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error


async def raise_bugs() -> None:
    """Ends by raising what a callback of the event loop raised: a bug there stops the daemon as it does in a task."""
    loop = asyncio.get_running_loop()
    bug: asyncio.Future[None] = loop.create_future()

    def found(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not bug.done():
            bug.set_exception(context.get("exception") or RuntimeError(context["message"]))

    loop.set_exception_handler(found)
    await bug
