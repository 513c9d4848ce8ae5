"""The dictionaries of codec 1: shipped once, the same for ever, and worth it."""

from __future__ import annotations

import threading
import typing
from pathlib import Path
from random import Random

import msgspec
import pytest
from msgspec.structs import replace

from ecu.errors import EnvironmentFault
from simulator.dictionary import train
from simulator.events import make_records
from telemetry.dictionaries import (
    MAX_DICTIONARY_BYTES,
    NEWEST_DICTIONARY,
    NO_DICTIONARY,
    SHA256,
    dictionary_fault,
    dictionary_to_pack_with,
    read_dictionary,
)
from telemetry.records import AnyEvent, Lane, Purpose, Stored, decode_event, encode_records
from telemetry.spool.packing import Waiting, pack
from telemetry.wire import (
    CODEC_RECORDS_ZSTD,
    MAX_BLOCK_BYTES,
    BadBlock,
    BlockHeader,
    inflated_size,
    pack_body,
    unpack_body,
)


def header_of(body: bytes, count: int, dictionary: int) -> BlockHeader:
    return BlockHeader(Lane.P1, Purpose.OPERATION, bytes(16), 0, count, CODEC_RECORDS_ZSTD, dictionary, len(body))


def bytes_each(records: list[Stored], batch: int, dictionary: int) -> float:
    bodies = [pack_body(records[start : start + batch], dictionary) for start in range(0, len(records), batch)]
    return sum(map(len, bodies)) / len(records)


@pytest.mark.parametrize("number", SHA256)
def test_every_dictionary_that_was_ever_shipped_is_there_as_it_was(number: int) -> None:
    assert len(read_dictionary(number)) <= MAX_DICTIONARY_BYTES
    assert 0 < number <= 0xFFFF
    records = make_records(Random(7), 20)
    body = pack_body(records, number)
    assert unpack_body(header_of(body, 20, number), body) == records
    assert inflated_size(body) == len(encode_records(records))


def test_the_newest_is_the_last_of_ids_that_are_never_used_again() -> None:
    assert list(SHA256) == list(range(1, NEWEST_DICTIONARY + 1))


def test_other_bytes_than_were_shipped_are_used_for_nothing(tmp_path: Path) -> None:
    data = bytearray(read_dictionary(1))
    data[5000] ^= 1
    (tmp_path / "events-1.zdict").write_bytes(data)
    with pytest.raises(EnvironmentFault, match="install Outrider again"):
        read_dictionary(1, tmp_path)
    assert dictionary_to_pack_with(tmp_path) == NO_DICTIONARY
    assert dictionary_to_pack_with(tmp_path / "nowhere") == NO_DICTIONARY
    assert dictionary_to_pack_with() == NEWEST_DICTIONARY
    assert "isn't the dictionary that was shipped" in dictionary_fault(tmp_path)
    assert dictionary_fault() == ""


def test_training_makes_a_dictionary_of_the_shipped_ones_kind() -> None:
    """zstd's own version may change the bytes, so they aren't compared."""
    assert train(1)[:8] == read_dictionary(1)[:8]


def test_an_unknown_dictionary_says_which_are_known_and_what_to_update() -> None:
    body = pack_body(make_records(Random(7), 1))
    with pytest.raises(BadBlock, match=f"dictionary 9 is unknown.*up to {NEWEST_DICTIONARY}: update it"):
        unpack_body(header_of(body, 1, 9), body)


def test_a_body_is_not_read_with_another_dictionary_than_it_was_made_with() -> None:
    records = make_records(Random(8), 1)
    body = pack_body(records, NEWEST_DICTIONARY)
    with pytest.raises(BadBlock):
        unpack_body(header_of(body, 1, NO_DICTIONARY), body)


def test_a_lone_event_takes_half_the_bytes_and_a_hundred_a_tenth_less() -> None:
    unseen = make_records(Random(2), 600)
    assert bytes_each(unseen, 1, NEWEST_DICTIONARY) < 0.55 * bytes_each(unseen, 1, NO_DICTIONARY)
    assert bytes_each(unseen, 100, NEWEST_DICTIONARY) < 0.9 * bytes_each(unseen, 100, NO_DICTIONARY)


def test_the_spool_takes_the_newest_for_small_bodies_and_none_for_long_ones() -> None:
    records = make_records(Random(3), 400)
    waiting = [Waiting(Purpose.OPERATION, msgspec.msgpack.encode(stored), 1, 0) for stored in records]
    for count, dictionary in ((1, NEWEST_DICTIONARY), (100, NEWEST_DICTIONARY), (400, NO_DICTIONARY)):
        [packed] = pack(waiting[:count], MAX_BLOCK_BYTES)
        assert packed.dictionary == dictionary
        header = replace(header_of(packed.body, count, dictionary), purpose=packed.purpose)
        assert unpack_body(header, packed.body) == records[:count]


def test_threads_share_no_compressor() -> None:
    records = make_records(Random(4), 200)
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(pack_body(records, NEWEST_DICTIONARY))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [pack_body(records, NEWEST_DICTIONARY)] * 4


def test_the_records_made_for_training_are_events_of_every_kind() -> None:
    kinds = {type(decode_event(bytes(stored.event))) for stored in make_records(Random(5), 300)}
    assert kinds == set(typing.get_args(AnyEvent))
