"""An ObjectLink in memory: a receiver in one value, that fails on command; and objects that need no flash."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from telemetry.links.link import LinkError
from telemetry.objects.errors import ObjectGone
from telemetry.objects.format import ObjectRef
from telemetry.objects.link import Mismatch
from telemetry.objects.wire import ByteRange, Have
from telemetry.records import Purpose


@dataclass(slots=True)
class MemoryReceiver:
    """What the other side has. It outlives links, as a receiver does."""

    stored: dict[str, bytes] = field(default_factory=dict)
    partial: dict[str, bytes] = field(default_factory=dict)

    def have(self, sha256: str) -> Have:
        if sha256 in self.stored:
            return Have(len(self.stored[sha256]), stored=True)
        return Have(len(self.partial.get(sha256, b"")), stored=False)

    def take(self, sha256: str, part: ByteRange, data: bytes) -> Have:
        """Raises Mismatch."""
        before = self.partial.get(sha256, b"")
        if sha256 in self.stored:
            return self.have(sha256)
        if len(before) >= part.total:
            before = self.partial[sha256] = b""
        if part.start != len(before):
            return self.have(sha256)
        whole = self.partial[sha256] = before + data
        if len(whole) == part.total:
            del self.partial[sha256]
            if hashlib.sha256(whole).hexdigest() != sha256:
                raise Mismatch("The bytes aren't those that were named.")
            self.stored[sha256] = whole
        return self.have(sha256)


class MemoryObjectLink:
    """Each call first does the next of `failures`: raises it, or calls it; None lets the call be."""

    def __init__(
        self,
        receiver: MemoryReceiver | None = None,
        failures: Iterable[LinkError | Callable[[], object] | None] = (),
    ) -> None:
        self.receiver = receiver or MemoryReceiver()
        self.sent_bytes = 0
        self.interrupted = 0
        self.closed = 0
        self._failures = iter(failures)

    def look(self, sha256: str) -> Have:
        self._fail()
        return self.receiver.have(sha256)

    def send(self, sha256: str, part: ByteRange, data: bytes) -> Have:
        self._fail()
        self.sent_bytes += len(data)
        return self.receiver.take(sha256, part, data)

    def interrupt(self) -> None:
        self.interrupted += 1

    def close(self) -> None:
        self.closed += 1

    def _fail(self) -> None:
        failure = next(self._failures, None)
        if isinstance(failure, LinkError):
            raise failure
        if failure is not None:
            failure()


class MemoryObjects:
    """What is to be brought, without flash: `telemetry.objects.uplink.Objects`, for tests and benchmarks."""

    def __init__(self) -> None:
        self.refusals: dict[str, str] = {}
        self._kept: dict[int, tuple[ObjectRef, bytes]] = {}
        self._serial = 0
        self._came = asyncio.Event()

    def add(self, data: bytes) -> ObjectRef:
        self._serial += 1
        ref = ObjectRef(self._serial, hashlib.sha256(data).hexdigest(), len(data), Purpose.PERCEPTION)
        self._kept[ref.serial] = ref, data
        self._came.set()
        self._came = asyncio.Event()
        return ref

    def oldest(self) -> ObjectRef | None:
        return next((ref for ref, _ in self._kept.values()), None)

    async def wait(self) -> None:
        await self._came.wait()

    async def read(self, ref: ObjectRef, offset: int, length: int) -> bytes:
        if ref.serial not in self._kept:
            raise ObjectGone(f"{ref} isn't here any more")
        return self._kept[ref.serial][1][offset : offset + length]

    def may_go(self, ref: ObjectRef) -> bool:
        return ref.serial in self._kept

    async def stored(self, ref: ObjectRef) -> bool:
        return self._kept.pop(ref.serial, None) is not None

    async def refused(self, ref: ObjectRef, reason: str) -> bool:
        self.refusals[ref.sha256] = reason
        return await self.stored(ref)
