"""The guard of tests/conftest.py guards."""

from __future__ import annotations

import socket

import pytest

from tests.conftest import NotLoopback


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_connecting_to_another_machine_fails_before_a_packet_leaves(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as end, pytest.raises(NotLoopback):
        end.connect((host, 9))
