"""How a link is made of a vehicle's configuration."""

from __future__ import annotations

from pathlib import Path

from agent.links import Trusting
from ecu.clock import SystemClock
from ecu.disk import RealDisk
from ecu.keys import MemoryKeyStore
from receiver.pki import Authority


def issued(keys: MemoryKeyStore, authority: Authority) -> None:
    pending = keys.begin_identity()
    keys.install(pending, authority.issue(pending.csr("car-1"), "car-1").pem)


def test_tls_to_a_broker_is_made_once_for_each_identity_however_often_it_is_wanted(tmp_path: Path) -> None:
    authority = Authority(RealDisk(tmp_path), SystemClock(), vehicle_days=1.0)
    keys = MemoryKeyStore()
    issued(keys, authority)
    trusting = Trusting(authority.pem, keys)
    first = trusting()
    assert trusting() is first
    issued(keys, authority)
    renewed = trusting()
    assert renewed is not first
    assert trusting() is renewed
    keys.revert()
    assert trusting() not in (first, renewed)
