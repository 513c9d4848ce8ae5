"""What the link contract needs of a receiver, and the two that need no cloud. Those behind a cloud: a file each."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ecu.clock import SECOND_NS, SteppingClock
from receiver import admission
from receiver.service import Receiver
from receiver.store import FILE
from receiver.tables import inbox
from telemetry.links.link import Link
from telemetry.links.memory import MemoryLink, MemoryReceiver
from tests.receiver.fleet import VEHICLE, Vehicle, a_vehicle


class World(Protocol):
    """A receiver as the contract needs it, and links to it."""

    async def link(self, vehicle: str = VEHICLE) -> Link:
        """Not connected yet."""
        ...

    async def stored(self, vehicle: str = VEHICLE) -> list[bytes]: ...

    async def last_report(self, vehicle: str = VEHICLE) -> bytes | None: ...

    async def revoke(self, vehicle: str) -> None: ...

    def hint(self, vehicle: str, kind: str) -> None: ...

    def sever(self, vehicle: str) -> None:
        """The connection breaks; the vehicle stays welcome."""
        ...

    def holding(self) -> contextlib.AbstractContextManager[None]:
        """Within it, nothing can be stored."""
        ...

    def relent(self) -> None:
        """A `strict` world asks for patience after the first block; from now on it takes more."""
        ...


class MemoryWorld:
    def __init__(self, strict: bool) -> None:
        self._receiver = MemoryReceiver()
        self._receiver.throttled_for_s = 1.0 if strict else None

    async def link(self, vehicle: str = VEHICLE) -> Link:
        return MemoryLink(self._receiver, vehicle)

    async def stored(self, vehicle: str = VEHICLE) -> list[bytes]:
        return self._receiver.stored(vehicle)

    async def last_report(self, vehicle: str = VEHICLE) -> bytes | None:
        return self._receiver.reports.get(vehicle)

    async def revoke(self, vehicle: str) -> None:
        self._receiver.revoke(vehicle)

    def hint(self, vehicle: str, kind: str) -> None:
        self._receiver.hint(vehicle, kind)

    def sever(self, vehicle: str) -> None:
        self._receiver.cut(vehicle)

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        self._receiver.commits_at_once = False
        yield
        self._receiver.commits_at_once = True
        self._receiver.commit()

    def relent(self) -> None:
        self._receiver.throttled_for_s = None


class MqttWorld:
    """`clock` is the receiver's own, where it is strict: a vehicle's share grows with it."""

    def __init__(self, receiver: Receiver, folder: Path, clock: SteppingClock | None = None) -> None:
        self.receiver = receiver
        self._folder = folder
        self._clock = clock
        self._vehicles: dict[str, Vehicle] = {}

    async def vehicle(self, name: str = VEHICLE) -> Vehicle:
        if name not in self._vehicles:
            self._vehicles[name] = await a_vehicle(self.receiver, self._folder, name)
        return self._vehicles[name]

    async def link(self, vehicle: str = VEHICLE) -> Link:
        return (await self.vehicle(vehicle)).link()

    async def stored(self, vehicle: str = VEHICLE) -> list[bytes]:
        columns = inbox.c.vehicle == vehicle
        rows = await self.receiver.store.transact(lambda c: c.execute(inbox.select().where(columns)).all())
        return [row.block for row in rows]

    async def last_report(self, vehicle: str = VEHICLE) -> bytes | None:
        return await self.receiver.store.transact(admission.last_report, vehicle)

    async def revoke(self, vehicle: str) -> None:
        await self.receiver.operator.revoke(vehicle)

    def hint(self, vehicle: str, kind: str) -> None:
        self.receiver.operator.hint(vehicle, kind)

    def sever(self, vehicle: str) -> None:
        self.receiver.endpoint.cut(vehicle, "the wire broke")

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        file = self._folder / "receiver" / FILE
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as holder:
            holder.execute("begin immediate")
            yield
            holder.execute("rollback")

    def relent(self) -> None:
        assert self._clock is not None
        self._clock.advance(self._clock.boot_ns() + 10 * SECOND_NS)
