"""The trainer as the agent uses it: a process for one order, killed the instant nobody wants it any more."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, assert_never

from agent.children import Child
from agent.perception.settings import StartsChildren
from agent.trainer.messages import Fault, FromTrainer, Part, Train, Trained, TrainerFault, What
from ecu.errors import EnvironmentFault, OutriderError, shown
from ecu.memory import sealed_copy
from telemetry.federated.update import MAX_PAYLOAD_BYTES

MODULE: Final = "agent.trainer.process"
MOST_WORDS: Final = 1000


@dataclass(frozen=True, slots=True)
class Taught:
    """What came of an order: `payload` is sent, `owed` is kept; `losses` from the first step to the last."""

    payload: bytes
    owed: bytes
    losses: tuple[float, ...]
    steps: int
    cpu_ns: int


class NotTaught(OutriderError):
    """Nothing came of an order. `fault` says whose fault that is, None for the process's own."""

    def __init__(self, fault: Fault | None, words: str) -> None:
        super().__init__(words)
        self.fault = fault


class Trainer:
    """Starts a process for each order, one at a time. `environment` is what it inherits."""

    def __init__(self, environment: Mapping[str, str], start: StartsChildren = Child.start) -> None:
        self._environment = environment
        self._start = start
        self._child: Child[FromTrainer] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that is learning now."""
        return self._child.pid if self._child is not None and self._child.alive else None

    def kill(self) -> None:
        """At once; whoever waits for it is told that it is gone."""
        if self._child is not None:
            self._child.kill()

    async def teach(self, package: Path, order: Train, pixels: bytes, places: bytes, owed: bytes) -> Taught:
        """Raises NotTaught. Cancelled, the process is killed, and reaped before this returns."""
        answer = _Answer(order)

        def told(child: Child[FromTrainer], message: FromTrainer) -> None:
            answer.take(message)

        try:
            child = self._child = await self._start(
                MODULE, ["--package", str(package)], FromTrainer, told, lambda _: answer.closed(), self._environment
            )
        except EnvironmentFault as fault:
            raise NotTaught(None, str(fault)) from fault
        try:
            _give(child, order, (pixels, places, owed))
            return await answer.over
        finally:
            child.kill()
            await child.end()
            self._child = None


def _give(child: Child[FromTrainer], order: Train, parts: tuple[bytes, ...]) -> None:
    try:
        fd = sealed_copy("outrider-examples", parts)
    except EnvironmentFault as fault:
        raise NotTaught(None, str(fault)) from fault
    try:
        child.send(order, [fd])
    finally:
        os.close(fd)


def _noted() -> asyncio.Future[Taught]:
    """One whose failure nobody has to ask for: whoever waited may have gone."""
    future: asyncio.Future[Taught] = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


@dataclass
class _Answer:
    """What has come of one order. What can't be isn't believed, and nothing after it."""

    order: Train
    over: asyncio.Future[Taught] = field(default_factory=_noted)
    come: dict[What, bytearray] = field(default_factory=lambda: {what: bytearray() for what in What})

    @property
    def is_over(self) -> bool:
        return self.over.done()

    def take(self, message: FromTrainer) -> None:
        if self.is_over:
            return
        match message:
            case Part(what, data):
                self.come[what] += data
                if not data or len(self.come[what]) > self._most(what):
                    self._fails(None, f"The trainer told {len(self.come[what])} bytes of its {what}: too many.")
            case Trained():
                self._ends(message)
            case TrainerFault(fault, reason):
                self._fails(fault, shown(reason)[:MOST_WORDS])
            case _:
                assert_never(message)

    def closed(self) -> None:
        if not self.is_over:
            self._fails(None, "The trainer's process ended without a word.")

    def _most(self, what: What) -> int:
        return MAX_PAYLOAD_BYTES if what is What.PAYLOAD else 4 * self.order.parameters

    def _ends(self, last: Trained) -> None:
        payload, owed = bytes(self.come[What.PAYLOAD]), bytes(self.come[What.OWED])
        told = (last.payload_bytes, last.owed_bytes, last.steps)
        if not payload or told != (len(payload), 4 * self.order.parameters, self.order.steps) or not last.losses:
            self._fails(None, f"The trainer says {told}, which can't be: it isn't believed.")
        elif len(owed) != last.owed_bytes:
            self._fails(None, f"The trainer says {last.owed_bytes} bytes owed, and {len(owed)} came.")
        else:
            self.over.set_result(Taught(payload, owed, last.losses, last.steps, last.cpu_ns))

    def _fails(self, fault: Fault | None, words: str) -> None:
        self.over.set_exception(NotTaught(fault, words))
