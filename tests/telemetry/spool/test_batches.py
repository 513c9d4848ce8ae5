"""Many records offered at once are the same records as if they had come one by one, and law 1 is as exact."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ecu.crashdisk import CrashDisk
from telemetry.records import Lane, Purpose, RecordBatch, SignalBlock
from telemetry.spool.counts import Dropped
from telemetry.spool.limits import SpoolLimits
from tests.telemetry.spool.rig import ROOMY, SMALL, Rig

SIZES = st.lists(st.sampled_from([0, 10, 300, 3000, 9000]), max_size=60)
WIDE_QUEUE = ROOMY.model_copy(update={"queue_records": 10_000})


def batch(sizes: list[int], keep_s: int | None = None) -> RecordBatch:
    events = [
        SignalBlock("c", n, bytes(range(256)) * (size // 256) + bytes(size % 256)) for n, size in enumerate(sizes)
    ]
    return RecordBatch(Lane.P2, Purpose.DRIVING, range(len(sizes)), events, keep_s)


def offered(sizes: list[int], limits: SpoolLimits) -> Rig:
    rig = Rig(CrashDisk(), limits=limits)
    taken = rig.spool.offer_many(batch(sizes), 5)
    rig.commit()
    p2 = rig.spool.counts().lanes[Lane.P2]
    assert (p2.offered, taken) == (len(sizes), p2.durable + p2.pending)
    assert rig.spool.counts().holds
    return rig


@given(SIZES)
def test_a_batch_confirms_each_record_with_its_own_name_and_digest(sizes: list[int]) -> None:
    rig = offered(sizes, WIDE_QUEUE)
    assert {(item.seq, item.digest) for item in rig.read()} == {(key[2], d) for key, d in rig.confirmed.items()}
    assert sorted(key[2] for key in rig.confirmed) == list(range(len(rig.confirmed)))
    too_large = rig.spool.counts().lanes[Lane.P2].dropped.get(Dropped.TOO_LARGE, 0)
    assert too_large == sum(size >= 9000 for size in sizes)


@given(SIZES, st.integers(1, 30))
def test_a_batch_that_there_is_no_room_for_is_taken_as_far_as_it_goes(sizes: list[int], room: int) -> None:
    limits = SMALL.model_copy(update={"queue_records": room, "max_bytes": 32 * SMALL.segment_bytes})
    rig = offered(sizes, limits)
    fitting = sum(size < 9000 for size in sizes)
    assert rig.spool.counts().lanes[Lane.P2].durable <= min(room, fitting)
    if room >= len(sizes):
        assert rig.spool.counts().lanes[Lane.P2].durable == fitting


def test_nobody_hears_of_what_nobody_witnesses() -> None:
    rig = Rig(CrashDisk(), limits=WIDE_QUEUE)
    rig.spool.offer_many(batch([100] * 50), 5)
    due = rig.spool.take(0, everything=True)
    assert due is not None
    assert rig.spool.settle(rig.spool.write(due, witnessed=False)) == ()
    assert rig.spool.counts().lanes[Lane.P2].durable == 50


def test_a_batch_grows_old_together() -> None:
    rig = Rig(CrashDisk(), limits=WIDE_QUEUE)
    rig.spool.offer_many(batch([100] * 50, keep_s=60), 5)
    rig.commit()
    rig.clock.advance(70_000_000_000)
    rig.spool.expire()
    assert rig.spool.counts().lanes[Lane.P2].evicted == {"expired": 50}
