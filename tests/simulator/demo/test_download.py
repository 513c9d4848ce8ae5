"""A download that a proxy cuts goes on where it was, over HTTPS from a real receiver."""

from __future__ import annotations

from pathlib import Path
from random import Random

from ecu.clock import SystemClock
from ota.kinds import Kind
from simulator.demo.download import CUT_AT, Identity, cut_download
from simulator.demo.signing import SigningDesk
from tests.receiver.fleet import a_receiver, a_vehicle

CAR = "car-1"
SIZE = 6 << 20


async def test_a_cut_download_fetches_at_most_a_block_again(tmp_path: Path) -> None:
    clock = SystemClock()
    (tmp_path / "content").mkdir()
    (tmp_path / "content" / "weights").write_bytes(Random(1).randbytes(SIZE))
    desk = SigningDesk(tmp_path, clock)
    release = desk.release(tmp_path / "content", Kind.MODEL, "drive", "1.0", 1)
    desk.assign([CAR], [release])
    async with a_receiver(tmp_path, updates=str(desk.fleet)) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path, CAR)
        identity = Identity(vehicle.paired, vehicle.context())
        found = await cut_download(identity, release, tmp_path / "flash", clock)
    assert found.was_cut
    assert found.is_whole
    assert found.size == SIZE
    assert CUT_AT <= found.before_cut / SIZE <= CUT_AT + 0.05
    assert 0 <= found.again <= 1 << 20
