from __future__ import annotations

from itertools import count

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.crashdisk import CrashDisk
from ecu.disk import DiskFault, DiskFull
from ecu.twin import TwinRecord
from telemetry.records import Lane, Purpose
from telemetry.spool.aging import Aged
from telemetry.spool.books import Books, BooksTooNew, Page, decode, encode
from telemetry.spool.counts import Totals
from telemetry.spool.intervals import IntervalSet
from telemetry.spool.untold import Report, Untold

N = st.integers(0, 2**40)
ID = st.binary(min_size=16, max_size=16)
STREAMS = st.tuples(st.sampled_from(Lane), ID)
REASONS = st.dictionaries(st.sampled_from(["quota", "corrupt", "refused"]), N)
TOTALS = st.builds(Totals, N, REASONS, REASONS, N, REASONS, N)
RANGES = st.lists(st.tuples(N, st.integers(1, 99)), max_size=5).map(
    lambda made: tuple(IntervalSet((start, start + length) for start, length in made))
)
KEYS = st.tuples(st.sampled_from(Lane), ID, st.sampled_from(["erased", "evicted:quota"]))
NAMES = st.tuples(st.sampled_from(Lane), ID, N)
PAGES = st.builds(
    Page,
    spool_id=ID,
    clean=st.booleans(),
    totals=st.tuples(TOTALS, TOTALS, TOTALS, TOTALS).map(lambda four: dict(zip(Lane, four, strict=True))),
    left=st.dictionaries(STREAMS, RANGES.filter(bool), max_size=4),
    erasures=st.dictionaries(st.sampled_from(Purpose), N),
    erasing=st.frozensets(st.sampled_from(Purpose)),
    aged=st.builds(Aged, N, N),
    untold=st.builds(
        Untold,
        st.dictionaries(KEYS, RANGES.filter(bool), max_size=4),
        st.dictionaries(KEYS, N.filter(bool), max_size=3),
        st.dictionaries(NAMES, st.builds(Report, KEYS, RANGES, N), max_size=3),
    ),
)

SMALL = Page(bytes(16))
LARGE = Page(bytes(16), left={(Lane.P1, bytes(16)): tuple((n * 9, n * 9 + 4) for n in range(9000))})


@given(PAGES)
def test_a_page_reads_as_it_was_written(page: Page) -> None:
    assert decode(encode(page)) == page


def test_a_purpose_is_erased_before_its_serial() -> None:
    page = Page(bytes(16), erasures={Purpose.DRIVING: 40})
    assert page.is_erased(Purpose.DRIVING, 39)
    assert not page.is_erased(Purpose.DRIVING, 40)
    assert not page.is_erased(Purpose.OPERATION, 0)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("refused", [1, 2])
def test_growth_refused_on_a_full_disk_leaves_smaller_pages_writable(refused: int, restarted: bool) -> None:
    disk = CrashDisk()
    books = Books(disk)
    books.write_both(SMALL)
    creates = count(1)
    disk.fail(lambda call: call.act == "create" and next(creates) >= refused, DiskFull("full"))
    with pytest.raises(DiskFull):
        books.write_both(LARGE)
    books = Books(disk) if restarted else books
    books.write_both(SMALL)
    assert Books(disk).read() == SMALL
    disk.heal()
    books.write_both(LARGE)
    assert Books(disk).read() == LARGE


def test_a_page_that_outgrows_its_record_gets_a_larger_one_and_keeps_it() -> None:
    disk = CrashDisk()
    books = Books(disk)
    books.write(SMALL)
    size = disk.size("books.0")
    books.write_both(LARGE)
    assert Books(disk).read() == LARGE
    books.write_both(SMALL)
    assert disk.size("books.0") > size
    before = len(disk.calls)
    again = Books(disk)
    assert again.read() == SMALL
    again.write_both(SMALL)
    assert not [call for call in disk.calls[before:] if call.act == "create"]


def test_grown_books_keep_their_size_though_the_first_write_after_a_restart_fails() -> None:
    disk = CrashDisk()
    Books(disk).write_both(LARGE)
    size = disk.size("books.0")
    books = Books(disk)
    disk.fail(lambda call: call.act == "write_at", DiskFault("worn"))
    with pytest.raises(DiskFault):
        books.write_both(SMALL)
    disk.heal()
    books.write_both(SMALL)
    assert disk.size("books.0") == disk.size("books.1") == size


def test_books_of_a_later_version_are_refused_in_words() -> None:
    data = bytearray(encode(Page(bytes(16))))
    assert data[1] == 2
    data[1] = 3
    with pytest.raises(BooksTooNew, match="version 3"):
        decode(bytes(data))


def test_books_that_are_lost_say_so_and_can_be_begun_anew() -> None:
    disk = CrashDisk()
    Books(disk).write(Page(bytes(16)))
    for twin in range(2):
        disk.flip_bit(f"books.{twin}", 300)
    books = Books(disk)
    assert books.read() is None
    assert books.lost
    books.write(Page(bytes(range(16))))
    assert Books(disk).read() == Page(bytes(range(16)))


def test_books_that_another_release_wrote_are_set_aside_and_stop_nobody() -> None:
    disk = CrashDisk()
    later = msgspec.msgpack.encode([99, b"id", "of another shape"])
    TwinRecord(disk, "books", 8192).write_both(later)
    with pytest.raises(BooksTooNew):
        Books(disk).peek()
    books = Books(disk)
    assert books.read() is None
    assert books.lost
    assert disk.read("books.aside") == later
    books.write(Page(bytes(range(16))))
    again = Books(disk)
    assert (again.read(), again.lost) == (Page(bytes(range(16))), False)


@pytest.mark.parametrize("fields", [[], [1], [1, b"id", True, [], []], {"a": 1}])
def test_books_of_another_shape_are_another_releases(fields: object) -> None:
    with pytest.raises(BooksTooNew, match="another release's"):
        decode(msgspec.msgpack.encode(fields))
