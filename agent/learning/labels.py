"""Who says what an example should have been called: the port, and the source for benches, a sheet of labelled crops.

The source from the drive is agent/confirming.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from agent.children import Child
from agent.learning.labelsource import SheetOf
from agent.perception.settings import StartsChildren
from agent.trainer.sheetmessages import FromSheet, SheetCrop, SheetEnded, SheetFault
from ecu.errors import EnvironmentFault, shown
from telemetry.federated.examples import Example, Now
from telemetry.federated.plan import LabelSource

MODULE: Final = "agent.trainer.sheet"


class Labels(Protocol):
    """Gives examples with the name that was confirmed for each."""

    @property
    def name(self) -> str:
        """What it is, for people."""
        ...

    @property
    def fault(self) -> str:
        """Why there are no examples of it; empty when it does what it can."""
        ...

    def has(self, source: LabelSource) -> bool:
        """Whether it is what a plan asks for."""
        ...

    async def run(self, take: Callable[[Example], None]) -> None:
        """Until it is cancelled, or has given all there is."""
        ...

    def dropped(self) -> Mapping[str, int]:
        """What was never confirmed, by reason."""
        ...


class NoLabels:
    """This vehicle has no source: every plan is refused, and it says why."""

    name = "none"

    def __init__(self, why: str) -> None:
        self.fault = why

    def has(self, source: LabelSource) -> bool:
        return False

    async def run(self, take: Callable[[Example], None]) -> None: ...

    def dropped(self) -> Mapping[str, int]:
        return {}


class SheetLabels:
    """Reads the sheet in a process of its own, once a start: what it says stands in for what was confirmed."""

    def __init__(
        self, sheet: SheetOf, most: int, now: Callable[[], Now], environment: Mapping[str, str],
        start: StartsChildren = Child.start,
    ) -> None:  # fmt: skip
        self.name = f"crops:{sheet.folder}"
        self.fault = ""
        self.ended = asyncio.Event()
        self._sheet = sheet
        self._most = most
        self._now = now
        self._environment = environment
        self._start = start

    def has(self, source: LabelSource) -> bool:
        return source is LabelSource.CONFIRMED

    def dropped(self) -> Mapping[str, int]:
        return {}

    async def run(self, take: Callable[[Example], None]) -> None:
        over = asyncio.Event()

        def told(child: Child[FromSheet], message: FromSheet) -> None:
            match message:
                case SheetCrop(label, size, pixels):
                    take(Example(pixels, size, label, self.name, self._now()))
                case SheetFault(reason):
                    self.fault = shown(reason)[:1000]
                case SheetEnded():
                    over.set()

        def closed(child: Child[FromSheet]) -> None:
            if not over.is_set():
                self.fault = self.fault or "The process that reads the sheet of crops ended before its end."
            over.set()

        arguments = ["--crops", str(self._sheet.folder), "--take", self._sheet.take, "--most", str(self._most)]
        try:
            child = await self._start(MODULE, arguments, FromSheet, told, closed, self._environment)
        except EnvironmentFault as fault:
            self.fault = str(fault)
            return
        try:
            await over.wait()
        finally:
            await child.end()
            self.ended.set()
