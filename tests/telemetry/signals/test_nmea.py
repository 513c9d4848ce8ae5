"""NMEA 0183: what a receiver says, what it says of itself, and what a serial line makes of it."""

from __future__ import annotations

import datetime
from functools import reduce

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.signals import vss
from telemetry.signals.nmea import GNSS_GROUPS, NmeaReader
from telemetry.signals.schema import Columns, physical

RMC = "GPRMC,123519.25,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W,A"
GGA = "GNGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,"


def sentence(body: str) -> bytes:
    total = reduce(lambda sum_, byte: sum_ ^ byte, body.encode(), 0)
    return f"${body}*{total:02X}\r\n".encode()


def values(columns: list[Columns]) -> dict[str, float]:
    told = {}
    for batch in columns:
        for spec, raw in zip(GNSS_GROUPS[batch.group].signals, batch.values, strict=True):
            assert raw is not None
            told[spec.path] = float(physical(spec, raw)[0])
    return told


def heard(*bodies: str) -> dict[str, float]:
    return values(NmeaReader().feed(b"".join(map(sentence, bodies)), 5)[0])


def test_a_fix_is_position_heading_and_altitude() -> None:
    assert heard(RMC, GGA) == pytest.approx(
        {vss.LATITUDE: 48 + 7.038 / 60, vss.LONGITUDE: 11 + 31 / 60, vss.HEADING: 84.4, vss.ALTITUDE: 545.4}
    )


def test_south_and_west_are_negative() -> None:
    told = heard(RMC.replace(",N,", ",S,").replace(",E,", ",W,"))
    assert (told[vss.LATITUDE] < 0, told[vss.LONGITUDE] < 0) == (True, True)


def test_a_receiver_that_stands_has_no_heading() -> None:
    assert set(heard(RMC.replace("084.4", ""))) == {vss.LATITUDE, vss.LONGITUDE}


def test_time_is_the_receivers_utc_at_the_instant_of_its_coming() -> None:
    _, times = NmeaReader().feed(sentence(RMC), 77)
    wall = datetime.datetime(1994, 3, 23, 12, 35, 19, 250_000, tzinfo=datetime.UTC)
    assert [(said.t_ns, said.wall_ns) for said in times] == [(77, int(wall.timestamp() * 1000) * 10**6)]


def test_a_leap_second_is_the_next_one() -> None:
    at_60 = NmeaReader().feed(sentence(RMC.replace("123519.25", "235960").replace("230394", "311216")), 1)[1]
    assert at_60[0].wall_ns == int(datetime.datetime(2017, 1, 1, tzinfo=datetime.UTC).timestamp()) * 10**9


@pytest.mark.parametrize(
    "body",
    [
        RMC.replace(",A,4807", ",V,4807"),
        RMC[:-1] + "S",
        RMC[:-1] + "N",
        RMC[:-1] + "E",
        RMC.replace("4807.038", ""),
        RMC.replace("4807.038", "9100.000"),
        RMC.replace("4807.038", "4860.000"),
        RMC.replace(",N,", ",E,"),
        "GPRMC,123519,A",
        GGA.replace(",1,08", ",0,00"),
        GGA.replace(",1,08", ",8,08"),
        GGA.replace("545.4,M", ",M"),
        "GPGGA,",
    ],
)
def test_what_a_receiver_doesnt_know_isnt_told(body: str) -> None:
    reader = NmeaReader()
    assert reader.feed(sentence(body), 5) == ([], [])
    assert (reader.status().invalid, reader.status().taken) == (1, 0)


def test_a_date_that_is_none_gives_a_position_and_no_time() -> None:
    columns, times = NmeaReader().feed(sentence(RMC.replace("230394", "310294")), 5)
    assert (len(columns), times) == (2, [])


def test_other_sentences_are_nobodys_fault() -> None:
    reader = NmeaReader()
    assert reader.feed(sentence("GPGSV,3,1,11,03,03,111,00") + sentence("PUBX,00,1"), 5) == ([], [])
    assert reader.status().damaged == reader.status().invalid == 0


@settings(max_examples=60)
@given(st.lists(st.integers(1, 200), max_size=20))
def test_a_stream_may_be_cut_anywhere(cuts: list[int]) -> None:
    stream = b"".join(map(sentence, [RMC, GGA] * 3))
    whole, apart = NmeaReader(), NmeaReader()
    columns = []
    for at in [*cuts, len(stream)]:
        columns += apart.feed(stream[:at], 5)[0]
        stream = stream[at:]
    wanted = whole.feed(b"".join(map(sentence, [RMC, GGA] * 3)), 5)[0]
    assert list(map(str, columns)) == list(map(str, wanted))


@given(st.integers(1, len(sentence(RMC)) - 3), st.integers(1, 255))
def test_a_changed_byte_is_noticed(at: int, flip: int) -> None:
    damaged = bytearray(sentence(RMC))
    damaged[at] ^= flip
    reader = NmeaReader()
    columns, _ = reader.feed(bytes(damaged) + sentence(RMC), 5)
    told = values(columns)
    assert told == heard(RMC)
    assert reader.status().taken == 1 or len(columns) == 4


@given(st.lists(st.binary(max_size=300), max_size=10))
def test_any_bytes_do_no_harm_and_take_no_room(parts: list[bytes]) -> None:
    reader = NmeaReader()
    for part in parts:
        reader.feed(part, 5)
    columns, _ = reader.feed(b"\r\n" + sentence(RMC), 6)
    assert values(columns[-2:]) == heard(RMC)


def test_time_never_runs_backwards() -> None:
    reader = NmeaReader()
    reader.feed(sentence(RMC), 100)
    columns, _ = reader.feed(sentence(GGA), 50)
    assert columns[0].t_ns.tolist() == [100]
