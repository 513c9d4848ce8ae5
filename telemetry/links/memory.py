"""A link within one process, and the receiver at its other end. It fails on command, for tests and the demo."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import AsyncIterator, Iterable

from telemetry.links.link import Accepted, Acks, Hint, LinkError, Refused, Throttled, Unauthorized, Unreachable
from telemetry.links.stream import Stream, ended
from telemetry.records import Lane
from telemetry.wire import BadBlock, BlockHeader, Receipt, UnknownDictionary, unpack_block, unpack_body

RECEIPTS_KEPT = 256
HINTS_KEPT = 8
_UPDATE_S = 60.0


class MemoryReceiver:
    """Takes blocks as the real receiver does: dedupes, refuses, and gives receipts only for what it has committed.

    With `commits_at_once` off, what was taken waits for `commit()`: the time between accepted and stored.
    """

    def __init__(self, commits_at_once: bool = True) -> None:
        self.commits_at_once = commits_at_once
        self.reachable = True
        self.throttled_for_s: float | None = None
        self.reports: dict[str, bytes] = {}
        self._blocks: dict[str, list[bytes]] = {}
        self._digests: dict[tuple[str, Lane, bytes, int], bytes] = {}
        self._taken: list[tuple[str, bytes]] = []
        self._links: dict[str, MemoryLink] = {}
        self._unwelcome: set[str] = set()

    def stored(self, vehicle: str) -> list[bytes]:
        """The vehicle's committed blocks, each once, in the order of commit."""
        return list(self._blocks.get(vehicle, ()))

    def commit(self) -> None:
        """Stores what was taken, and sends the receipts."""
        taken, self._taken = self._taken, []
        for vehicle, block in taken:
            self._store(vehicle, block)

    def hint(self, vehicle: str, kind: str) -> None:
        if vehicle in self._links:
            self._links[vehicle].deliver_hint(Hint(kind))

    def revoke(self, vehicle: str) -> None:
        """Cuts the vehicle's session at once, and lets it in no more."""
        self._unwelcome.add(vehicle)
        self.cut(vehicle, "the receiver revoked this vehicle's certificate")

    def cut(self, vehicle: str, reason: str = "the connection broke") -> None:
        if (link := self._links.pop(vehicle, None)) is not None:
            link.end(reason)

    def admit(self, link: MemoryLink) -> None:
        if not self.reachable:
            raise Unreachable("Nobody answered at the receiver in memory. Try again later.")
        if link.vehicle in self._unwelcome:
            raise Unauthorized(f"The receiver doesn't admit {link.vehicle}: its certificate is revoked. Pair it again.")
        self.cut(link.vehicle, "another session of this vehicle took over")
        self._links[link.vehicle] = link

    def take(self, vehicle: str, lane: Lane, block: bytes) -> None:
        if self.throttled_for_s is not None:
            raise Throttled("The receiver asks for patience.", self.throttled_for_s)
        header = _checked(lane, block)
        if self._conflicts(vehicle, header, block):
            raise Refused(f"The receiver already has other records as {lane.name} {header.base_seq}.")
        self._taken.append((vehicle, block))
        if self.commits_at_once:
            self.commit()

    def _conflicts(self, vehicle: str, header: BlockHeader, block: bytes) -> bool:
        known = {self._digests.get(key) for key in _keys(vehicle, header)}
        return known not in ({None}, {hashlib.sha256(block).digest()})

    def _store(self, vehicle: str, block: bytes) -> None:
        header, _ = unpack_block(block)
        keys = _keys(vehicle, header)
        if keys[0] not in self._digests:
            self._blocks.setdefault(vehicle, []).append(block)
            self._digests.update(dict.fromkeys(keys, hashlib.sha256(block).digest()))
        if vehicle in self._links:
            receipt = Receipt(header.lane, header.epoch, ((header.base_seq, header.end_seq),))
            self._links[vehicle].deliver_receipt(receipt)


def _keys(vehicle: str, header: BlockHeader) -> list[tuple[str, Lane, bytes, int]]:
    return [(vehicle, header.lane, header.epoch, seq) for seq in range(header.base_seq, header.end_seq)]


def _checked(lane: Lane, block: bytes) -> BlockHeader:
    try:
        header, body = unpack_block(block)
        unpack_body(header, body)
    except UnknownDictionary as error:
        raise Throttled(f"The receiver can't read the block yet: {error}.", _UPDATE_S) from error
    except BadBlock as error:
        raise Refused(f"The receiver refused the block: {error}.") from error
    if header.lane != lane:
        raise Refused(f"A block of {header.lane.name} was sent as {lane.name}.")
    return header


class MemoryLink:
    """A Link to a MemoryReceiver. `failures` meets each publish in turn: an error is raised, None lets it through."""

    acks = Acks.STORED

    def __init__(
        self,
        receiver: MemoryReceiver,
        vehicle: str = "memory",
        failures: Iterable[LinkError | None] = (),
        connect_failures: Iterable[LinkError | None] = (),
    ) -> None:
        self.vehicle = vehicle
        self._receiver = receiver
        self._failures = deque(failures)
        self._connect_failures = deque(connect_failures)
        self._over: str | None = "not connected yet"
        self._receipts: Stream[Receipt] = ended(self._over)
        self._hints: Stream[Hint] = ended(self._over)

    def fail_next(self, failure: LinkError) -> None:
        self._failures.append(failure)

    async def connect(self) -> None:
        if self._connect_failures and (failure := self._connect_failures.popleft()) is not None:
            raise failure
        self._receiver.admit(self)
        self._over, self._receipts, self._hints = None, Stream(RECEIPTS_KEPT), Stream(HINTS_KEPT)

    async def publish(self, lane: Lane, block: bytes) -> Accepted:
        self._pass()
        self._receiver.take(self.vehicle, lane, block)
        return Accepted()

    def receipts(self) -> AsyncIterator[Receipt]:
        return self._receipts

    def hints(self) -> AsyncIterator[Hint]:
        return self._hints

    async def report(self, status: bytes) -> None:
        self._pass()
        self._receiver.reports[self.vehicle] = status

    async def close(self) -> None:
        if self._over is None:
            self._receiver.cut(self.vehicle, "this side closed the link")

    def deliver_receipt(self, receipt: Receipt) -> None:
        self._receipts.put(receipt)

    def deliver_hint(self, hint: Hint) -> None:
        self._hints.put(hint)

    def end(self, reason: str) -> None:
        self._over = reason
        self._receipts.end(reason)
        self._hints.end(reason)

    def _pass(self) -> None:
        if self._over is None and not self._receiver.reachable:
            self._receiver.cut(self.vehicle, "the connection broke")
        if self._over is not None:
            raise Unreachable(f"There is no connection: {self._over}. Connect again.")
        if self._failures and (failure := self._failures.popleft()) is not None:
            if isinstance(failure, Unreachable):
                self._receiver.cut(self.vehicle, str(failure))
            raise failure
