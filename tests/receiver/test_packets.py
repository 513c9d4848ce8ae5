"""Framing and checking of hostile packets: bounded, exact, and the codec never meets what it can't take."""

from __future__ import annotations

from contextlib import suppress

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mqtt5 import DisconnectReasonCode

from receiver.packets import MAX_CONTROL_BYTES, Framer, Violation, decode

LARGEST = 1000

CONNECT = mqtt5.ConnectPacket(
    "client",
    username="user",
    password=b"\xff",
    will=mqtt5.Will("will", payload=b"\xfe", content_type="text", user_properties=[("a", "b")]),
    receive_max=65_535,
    session_expiry_interval=0xFFFFFFFF,
    user_properties=[("k", "v")],
).write()
PUBLISH = mqtt5.PublishPacket(
    "a/b", b"\xff\x00", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=0x80FF, user_properties=[("k", "v")], content_type="c"
).write()
PACKETS = [
    CONNECT,
    PUBLISH,
    mqtt5.SubscribePacket(0x8080, [mqtt5.TopicFilter("a/#")], subscription_id=300).write(),
    mqtt5.UnsubscribePacket(3, ["a", "b"]).write(),
    mqtt5.PingReqPacket().write(),
    mqtt5.DisconnectPacket(reason_str="bye").write(),
    mqtt5.DisconnectPacket().write(),
]


def framed(data: bytes, step: int) -> list[bytes]:
    framer, packets = Framer(LARGEST), []
    for at in range(0, len(data), step):
        framer.extend(data[at : at + step])
        while (packet := framer.next()) is not None:
            packets.append(packet)
    return packets


@given(st.lists(st.sampled_from(PACKETS), max_size=8), st.integers(1, 50))
def test_packets_come_out_as_they_went_in_however_the_bytes_arrive(packets: list[bytes], step: int) -> None:
    assert framed(b"".join(packets), step) == packets
    assert [decode(packet).write() for packet in packets] == packets


@given(st.sampled_from(PACKETS), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_mutated_packet_is_decoded_or_a_violation_and_nothing_else(
    packet: bytes, changes: list[tuple[int, int]]
) -> None:
    mutated = bytearray(packet)
    for at, value in changes:
        mutated[at % len(mutated)] = value
    with suppress(Violation):
        for whole in framed(bytes(mutated), LARGEST):
            decode(whole)


@given(st.binary(max_size=80))
def test_any_bytes_are_packets_or_a_violation_and_nothing_else(data: bytes) -> None:
    with suppress(Violation):
        for whole in framed(data, 7):
            decode(whole)


@pytest.mark.parametrize("packet", PACKETS[:4])
def test_text_that_is_not_utf8_never_reaches_the_codec(packet: bytes) -> None:
    at = packet.index({CONNECT: b"client", PUBLISH: b"a/b"}.get(packet, b"a"))
    with pytest.raises(Violation, match="UTF-8"):
        decode(packet[:at] + b"\xff" + packet[at + 1 :])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_codec_still_panics_on_what_is_kept_from_it() -> None:
    """The reason for looking first. When this fails, the codec was mended, and half of packets.py can go."""
    with pytest.raises(BaseException, match="PyObject") as caught:
        mqtt5.read(memoryview(PUBLISH.replace(b"a/b", b"a/\xff")))
    assert not isinstance(caught.value, Exception)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x30\xff\xff\xff\x7f", DisconnectReasonCode.PACKET_TOO_LARGE),
        (b"\x30\xff\xff\xff\xff", DisconnectReasonCode.MALFORMED_PACKET),
        (b"\x10" + b"\x81\x20", DisconnectReasonCode.PACKET_TOO_LARGE),
        (b"\x00", DisconnectReasonCode.PROTOCOL_ERROR),
        (mqtt5.PubRelPacket(1).write(), DisconnectReasonCode.PROTOCOL_ERROR),
        (mqtt5.ConnAckPacket().write(), DisconnectReasonCode.PROTOCOL_ERROR),
    ],
)
def test_a_header_is_refused_before_its_packet_is_waited_for(data: bytes, code: DisconnectReasonCode) -> None:
    framer = Framer(LARGEST)
    framer.extend(data)
    with pytest.raises(Violation) as caught:
        framer.next()
    assert caught.value.code is code


def test_a_whole_packet_whose_fields_run_out_is_broken_and_not_unfinished() -> None:
    """Waiting for more bytes would be for ever."""
    with pytest.raises(Violation, match="should follow"):
        decode(b"\x30\x02\x00\x09")


def test_an_older_mqtt_is_told_that_5_is_spoken() -> None:
    with pytest.raises(Violation, match="version 4 is spoken"):
        decode(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")


def test_only_a_publish_may_be_large() -> None:
    framer = Framer(LARGEST + MAX_CONTROL_BYTES)
    framer.extend(mqtt5.PublishPacket("a", bytes(MAX_CONTROL_BYTES)).write())
    assert framer.next() is not None
    framer.extend(mqtt5.UnsubscribePacket(1, ["a" * MAX_CONTROL_BYTES]).write())
    with pytest.raises(Violation, match="UNSUBSCRIBE"):
        framer.next()
