"""What was sent over one connection and has no receipt yet."""

from __future__ import annotations

from dataclasses import dataclass

from telemetry.records import Lane
from telemetry.uplink.backlog import BlockRef
from telemetry.uplink.ranges import Range, without
from telemetry.wire import Receipt

Key = tuple[Lane, bytes, int]


@dataclass(slots=True)
class _Entry:
    outstanding: tuple[Range, ...]
    accepted_ns: int | None = None


class Ledger:
    """Blocks from the moment they go out until a receipt, or the word that none will come.

    A receipt may come before the link says that it took the block. Its owner bounds how many there are (`len`).
    """

    def __init__(self) -> None:
        self._entries: dict[Key, _Entry] = {}
        self._sent_up_to: dict[tuple[Lane, bytes], int] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, ref: BlockRef) -> bool:
        return _key(ref) in self._entries

    def sent(self, ref: BlockRef) -> None:
        end = ref.base_seq + ref.count
        self._entries[_key(ref)] = _Entry(((ref.base_seq, end),))
        self._sent_up_to[ref.lane, ref.epoch] = max(end, self._sent_up_to.get((ref.lane, ref.epoch), 0))

    def accepted(self, ref: BlockRef, now_ns: int) -> None:
        entry = self._entries.get(_key(ref))
        if entry is not None:
            entry.accepted_ns = now_ns

    def forget(self, ref: BlockRef) -> None:
        """No receipt will come for it."""
        self._entries.pop(_key(ref), None)

    def settle(self, receipt: Receipt) -> bool:
        """Strikes out what the receiver has stored; False when it names records that were never sent."""
        for key in [key for key in self._entries if key[:2] == (receipt.lane, receipt.epoch)]:
            entry = self._entries[key]
            for start, end in receipt.ranges:
                entry.outstanding = without(entry.outstanding, start, end)
            if not entry.outstanding:
                del self._entries[key]
        sent_up_to = self._sent_up_to.get((receipt.lane, receipt.epoch), 0)
        return all(end <= sent_up_to for _, end in receipt.ranges)

    def rewind(self) -> None:
        """A new connection: nothing is under way. What was ever sent stays known."""
        self._entries.clear()

    def waiting_since_ns(self) -> int | None:
        """When the block that waits longest for its receipt was accepted; None when none waits."""
        accepted = (entry.accepted_ns for entry in self._entries.values() if entry.accepted_ns is not None)
        return min(accepted, default=None)


def _key(ref: BlockRef) -> Key:
    return ref.lane, ref.epoch, ref.base_seq
