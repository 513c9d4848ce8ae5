from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.crashdisk import CrashDisk
from ecu.twin import OVERHEAD_BYTES
from telemetry.records import Lane, Purpose
from telemetry.spool.books import Books, BooksTooNew, Page, decode, encode
from telemetry.spool.counts import Dropped, Evicted, Quarantined, Totals
from telemetry.spool.intervals import IntervalSet
from telemetry.spool.limits import SpoolLimits
from telemetry.spool.shelf import Erasure

N = st.integers(0, 2**40)
ID = st.binary(min_size=16, max_size=16)
STREAMS = st.tuples(st.sampled_from(Lane), ID)
REASONS = st.dictionaries(st.sampled_from(["quota", "corrupt", "refused"]), N)
TOTALS = st.builds(Totals, N, REASONS, REASONS, N, REASONS, N)
RANGES = st.lists(st.tuples(N, st.integers(1, 99)), max_size=5).map(
    lambda made: tuple(IntervalSet((start, start + length) for start, length in made))
)
PAGES = st.builds(
    Page,
    spool_id=ID,
    clean=st.booleans(),
    totals=st.tuples(TOTALS, TOTALS, TOTALS, TOTALS).map(lambda four: dict(zip(Lane, four, strict=True))),
    left=st.dictionaries(STREAMS, RANGES.filter(bool), max_size=4),
    erasing=st.frozensets(st.sampled_from(Purpose)),
)


@given(PAGES)
def test_a_page_reads_as_it_was_written(page: Page) -> None:
    assert decode(encode(page)) == page


def test_erasures_are_kept_with_their_streams() -> None:
    erasures = (
        Erasure(Lane.P1, bytes(16), Purpose.DRIVING, 40),
        Erasure(Lane.P1, bytes(16), Purpose.SAFETY, 41),
        Erasure(Lane.P2, bytes(16), Purpose.DRIVING, 7),
    )
    page = Page(bytes(16), left={(Lane.P1, bytes(16)): ((0, 3),)}, erasures=erasures)
    assert set(decode(encode(page)).erasures) == set(erasures)
    assert page.is_erased((Lane.P1, bytes(16)), Purpose.DRIVING, 39)
    assert not page.is_erased((Lane.P1, bytes(16)), Purpose.DRIVING, 40)
    assert not page.is_erased((Lane.P0, bytes(16)), Purpose.DRIVING, 0)


@pytest.mark.parametrize("segments", [4, 64, 256, 1000])
def test_the_largest_page_that_the_limits_allow_fits_its_twin(segments: int) -> None:
    limits = SpoolLimits(max_bytes=segments * 4 * 1024 * 1024, reserve_segments=(1, 1, 1, 1))
    per_stream = limits.books_ranges // segments
    step = 2**20
    ranges = tuple((i * step, i * step + step // 2) for i in range(1, per_stream + 1))
    streams = {(Lane(n % 4), n.to_bytes(16)): ranges for n in range(segments)}
    most = 2**50
    totals = Totals(
        most,
        {reason.value: most for reason in Evicted},
        {reason.value: most for reason in Quarantined},
        most,
        {reason.value: most for reason in Dropped},
        most,
    )
    erasures = tuple(Erasure(lane, epoch, Purpose.DRIVING, step) for lane, epoch in streams)
    page = Page(bytes(16), False, dict.fromkeys(Lane, totals), streams, erasures, frozenset(Purpose))
    assert len(encode(page)) <= limits.books_bytes - OVERHEAD_BYTES


def test_books_of_a_later_version_are_refused_in_words() -> None:
    data = bytearray(encode(Page(bytes(16))))
    assert data[1] == 1
    data[1] = 2
    with pytest.raises(BooksTooNew, match="version 2"):
        decode(bytes(data))


def test_books_that_are_lost_say_so_and_can_be_begun_anew() -> None:
    disk = CrashDisk()
    Books(disk, 4096).write(Page(bytes(16)))
    for twin in range(2):
        disk.flip_bit(f"books.{twin}", 300)
    books = Books(disk, 4096)
    assert books.read() is None
    assert books.lost
    books.write(Page(bytes(range(16))))
    assert Books(disk, 4096).read() == Page(bytes(range(16)))
