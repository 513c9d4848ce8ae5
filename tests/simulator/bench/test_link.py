"""The link's benchmark counts what it says: valid blocks, each stored once, each receipt's own time."""

from __future__ import annotations

from pathlib import Path

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.client import OperatorClient
from simulator.bench.link.blocks import BlockKind, make_blocks
from simulator.bench.link.fleet import RunningFleet, a_fleet
from simulator.bench.link.load import Felt, Load, LoadFailed, packets_in, put_on
from simulator.bench.link.peers import Peer, an_echo
from simulator.bench.link.ways import WAYS, publish_all
from telemetry.links.memory import MemoryLink, MemoryReceiver
from telemetry.wire import MAX_BLOCK_BYTES, unpack_block, unpack_body

ANSWERS = [
    mqtt5.PubAckPacket(7).write(),
    mqtt5.PubAckPacket(8, reason_code=mqtt5.PubAckReasonCode.QUOTA_EXCEEDED, reason_str="busy").write(),
    mqtt5.PublishPacket("a/b", bytes(300)).write(),
]


@pytest.mark.parametrize(("kind", "least", "most"), [(BlockKind.SMALL, 150, 250), (BlockKind.LARGE, 90_000, 98_304)])
def test_blocks_are_whole_follow_each_other_and_have_the_size_that_is_told(
    kind: BlockKind, least: int, most: int
) -> None:
    seq = 1_000
    for block in make_blocks(kind, 20, first_seq=seq):
        header, body = unpack_block(block)
        assert (header.base_seq, header.count, len(unpack_body(header, body))) == (seq, kind.records, kind.records)
        assert least <= len(block) <= most <= MAX_BLOCK_BYTES
        seq = header.end_seq


@given(st.lists(st.sampled_from(ANSWERS), max_size=8), st.integers(0, 400))
def test_of_what_came_every_whole_packet_is_counted_and_no_other(answers: list[bytes], cut: int) -> None:
    data = b"".join(answers)
    data = data[: max(0, len(data) - cut)]
    ends = [end for _, _, end in packets_in(data)]
    whole = [sum(map(len, answers[: n + 1])) for n in range(len(answers))]
    assert ends == [end for end in whole if end <= len(data)]


def a_load(fleet: RunningFleet, clients: int, peer: Peer, receipts: bool, first_seq: int = 0) -> Load:
    vehicles = [str(folder) for folder in fleet.vehicles[:clients]]
    return Load(vehicles, peer.port, peer.pid, BlockKind.SMALL, 100, 16, first_seq, receipts)


def told(felt: Felt) -> tuple[int, int, bool]:
    return felt.messages, felt.window, 0.0 < felt.acknowledged_ms[0] <= felt.acknowledged_ms[1]


def test_a_load_is_stored_whole_and_one_that_was_sent_before_is_told_apart(tmp_path: Path) -> None:
    with a_fleet(tmp_path, 2) as fleet:
        own = Peer(fleet.pid, fleet.port)
        felt = put_on(a_load(fleet, 2, own, receipts=True))
        assert told(felt) == (200, 16, True)
        assert felt.receipted_ms[1] >= felt.acknowledged_ms[0]
        operator = OperatorClient(fleet.state)
        assert [member.records["P1"] for member in operator.fleet()] == [200, 200]
        assert operator.stats()["blocks_stored"] == 200
        assert 0 < fleet.commits() <= 200
        with an_echo(fleet) as echo:
            assert told(put_on(a_load(fleet, 1, echo, receipts=False))) == (100, 16, True)
        put_on(a_load(fleet, 1, own, receipts=False))
        assert (operator.stats()["blocks_stored"], operator.stats()["blocks_duplicate"]) == (200, 100)
        # Half a block further than what is stored: no number is worth anything when one publish was refused.
        with pytest.raises(LoadFailed, match="refused"):
            put_on(a_load(fleet, 1, own, receipts=False, first_seq=1))


async def test_a_way_publishes_each_block_once() -> None:
    receiver = MemoryReceiver()
    link = MemoryLink(receiver, "veh-001")
    await link.connect()
    blocks = make_blocks(BlockKind.SMALL, 50)
    await publish_all(link, blocks, at_once=7)
    assert sorted(receiver.stored("veh-001")) == sorted(blocks)
    await link.close()


def test_every_way_has_a_name_of_its_own() -> None:
    assert len({way.name for way in WAYS}) == len(WAYS)
