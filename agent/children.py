"""A child process with a message channel: started by module name, gone when either side goes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import structlog

from agent.outlast import outlast
from ecu.channel import BadMessage, Channel, ChannelClosed, Message, pair
from ecu.errors import EnvironmentFault
from ecu.spawn import spawn
from ecu.urgency import Urgency, is_preferred, prefer

log = structlog.get_logger()
In = TypeVar("In")


class Child(Generic[In]):
    """Its end of life is its channel's: whatever ended it, `on_closed` is called once, after its last message. One that
    says what isn't understood is killed."""

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel[In]) -> None:
        self._process = process
        self._channel = channel
        self.pid = process.pid
        self.alive = True

    @classmethod
    async def start(
        cls,
        module: str,
        arguments: Sequence[str],
        accepts: Any,
        on_message: Callable[[Child[In], In], None],
        on_closed: Callable[[Child[In]], None],
        environment: Mapping[str, str],
    ) -> Child[In]:
        """Raises EnvironmentFault when the process can't be started."""
        ours, theirs = pair()
        with contextlib.ExitStack() as unless_started, theirs:
            unless_started.enter_context(ours)
            fd = theirs.fileno()
            try:
                process = await spawn(
                    module, [*arguments, "--channel", str(fd)], pass_fds=(fd,), environment=environment
                )
            except OSError as error:
                raise EnvironmentFault(
                    f"Can't start a process of {module}: {error.strerror}. Look for what uses up memory, processes or "
                    "open files (ulimit -a)."
                ) from error
            unless_started.pop_all()
        if is_preferred():
            # It inherited that. Whoever was made patient, by us or with nice(1), stays so.
            prefer(process.pid, Urgency.ORDINARY)
        child = cls(process, Channel(ours, accepts))

        def closed() -> None:
            child.kill()
            child.alive = False
            on_closed(child)

        def bad(message: BadMessage) -> None:
            # Some run what others made (a model, a picture's decoder): what one says can't be ours to break on.
            log.error("child_not_understood", module=module, pid=child.pid, reason=str(message))

        child._channel.attach(lambda message: on_message(child, message), closed, on_bad=bad)
        return child

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> bool:
        """False when it was lost: the child is gone, or hopelessly behind, and its end is being noticed anyway."""
        try:
            self._channel.send(message, descriptors)
        except (ChannelClosed, BlockingIOError):
            return False
        return True

    async def deliver(self, message: Message) -> None:
        """As `send`, but waits while the child is behind: for lockstep, where nothing may get lost."""
        while True:
            try:
                self._channel.send(message)
            except ChannelClosed:
                return
            except BlockingIOError:
                await self._room()
            else:
                return

    async def _room(self) -> None:
        loop, fd = asyncio.get_running_loop(), self._channel.fileno()
        has_room = asyncio.Event()
        loop.add_writer(fd, has_room.set)
        try:
            await has_room.wait()
        finally:
            loop.remove_writer(fd)

    def kill(self) -> None:
        # Once it is reaped its number may be another process's.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Ends it and waits until it is reaped."""
        self._channel.close()
        self.kill()
        await self._process.wait()

    async def end(self) -> None:
        """As `stop`, to the end however often whoever waits is cancelled: no process is left to a loop that ends."""
        stopping = asyncio.ensure_future(self.stop())
        await outlast(stopping.done, lambda: asyncio.wait({stopping}))
        stopping.result()

    @property
    def is_reaped(self) -> bool:
        return self._process.returncode is not None

    async def reaped(self) -> None:
        await self._process.wait()
