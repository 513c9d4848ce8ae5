from __future__ import annotations

from telemetry.records import Lane, Purpose
from telemetry.spool.format import Entry, pack_entry
from telemetry.spool.shelf import Segment, Shelf, Stream

STREAM: Stream = (Lane.P1, b"e" * 16)


def sent_shelf(blocks: int) -> Shelf:
    """One segment of blocks of one record each, of two purposes in turn, all of them sent."""
    entries = b"".join(pack_entry(Entry(n, 1, 100, 2 + n, Purpose(1 + n % 2))) for n in range(blocks))
    segment = Segment(1, *STREAM, bytes(16), bytes(16), 0, blocks + 4, 0, 0, bytearray(entries))
    shelf = Shelf()
    shelf.place(segment)
    for ref in segment.blocks():
        shelf.mark_sent(ref)
    return shelf


def test_receipts_that_would_split_what_has_left_without_end_are_refused() -> None:
    shelf = sent_shelf(20)
    for n in (0, 4, 8):
        assert shelf.can_write_down(STREAM, ((n, n + 1),), most=3)
        shelf.acknowledge(STREAM, ((n, n + 1),))
    assert not shelf.can_write_down(STREAM, ((12, 13),), most=3)


def test_a_receipt_that_splits_nothing_further_is_taken_however_split_the_rest_is() -> None:
    shelf = sent_shelf(20)
    for n in (0, 4, 8):
        shelf.acknowledge(STREAM, ((n, n + 1),))
    assert shelf.can_write_down(STREAM, ((1, 2),), most=1)
    assert shelf.can_write_down(STREAM, ((1, 4),), most=1)


def test_erased_blocks_between_others_refuse_no_receipt() -> None:
    shelf = sent_shelf(20)
    shelf.erase(Purpose(2), below_serial=2)
    for n in range(0, 6, 2):
        assert shelf.can_write_down(STREAM, ((n, n + 1),), most=3)
        assert shelf.acknowledge(STREAM, ((n, n + 1),)) == 1


def test_receipts_for_epochs_that_nobody_knows_leave_no_trace() -> None:
    shelf = sent_shelf(4)
    for n in range(9):
        unknown = Lane.P1, bytes([n]) * 16
        assert not shelf.was_sent(unknown, 0, 1)
        assert shelf.can_write_down(unknown, ((0, 1),), most=1)
        assert shelf.acknowledge(unknown, ((0, 1),)) == 0
    assert list(shelf.left()) == []
