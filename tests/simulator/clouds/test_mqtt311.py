"""The double's MQTT 3.1.1: packets come out of any stream as they went in, and nonsense is said to be that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.clouds import mqtt311
from simulator.clouds.mqtt311 import MAX_PACKET_BYTES, Framer, Kind, Malformed, Packet, Publish, read_publish

topics = st.text(min_size=1, max_size=30).filter(lambda topic: "\x00" not in topic)


@given(st.lists(st.tuples(topics, st.binary(max_size=300)), max_size=5), st.integers(1, 50))
def test_packets_are_found_however_the_stream_is_cut(told: list[tuple[str, bytes]], piece: int) -> None:
    stream = b"".join(mqtt311.publish(topic, payload) for topic, payload in told) + mqtt311.pingresp()
    framer, packets = Framer(), list[Packet]()
    for at in range(0, len(stream), piece):
        packets += framer.feed(stream[at : at + piece])
    assert [read_publish(packet) for packet in packets[:-1]] == [Publish(t, p, None) for t, p in told]
    assert packets[-1].kind is Kind.PINGRESP


@given(st.binary(max_size=200))
def test_any_bytes_are_packets_or_malformed(data: bytes) -> None:
    try:
        for packet in Framer().feed(data):
            if packet.kind is Kind.PUBLISH:
                read_publish(packet)
            elif packet.kind is Kind.SUBSCRIBE:
                mqtt311.read_subscribe(packet.body)
            elif packet.kind is Kind.CONNECT:
                mqtt311.read_connect(packet.body)
    except Malformed:
        pass


@pytest.mark.parametrize("head", [b"\x30\xff\xff\xff\xff\x01", b"\x00\x00", b"\xf0\x00", b"\x30\xff\xff\xff\x7f"])
def test_a_head_that_lies_is_malformed_before_anything_is_kept(head: bytes) -> None:
    with pytest.raises(Malformed):
        Framer().feed(head)
    assert MAX_PACKET_BYTES > 256 * 1024


def test_qos_2_and_other_protocols_are_not_spoken() -> None:
    with pytest.raises(Malformed):
        read_publish(Packet(Kind.PUBLISH, 4, b"\x00\x01a\x00\x01"))
    with pytest.raises(Malformed):
        mqtt311.read_connect(b"\x00\x04MQTT\x05\x02\x00\x3c\x00\x01a")
