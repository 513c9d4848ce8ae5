"""The peer that installs are held against installs what it is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator.bench.ota.rauc import Rauc
from simulator.rauc import missing


def test_the_peer_writes_the_payload_into_its_spare_slot(tmp_path: Path) -> None:
    if absent := missing():
        pytest.skip(absent)
    payload = tmp_path / "payload.img"
    payload.write_bytes(bytes(range(256)) * 4_096)
    with Rauc(tmp_path / "rauc", payload) as rauc:
        rauc.install()
    assert (tmp_path / "rauc/B.img").read_bytes() == payload.read_bytes()
    assert (tmp_path / "rauc/primary").read_text() == "B"
