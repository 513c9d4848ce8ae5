"""No test needs the internet, and none may reach it: connecting anywhere but to this machine fails at once. None fails
for being slow, either."""

from __future__ import annotations

import gc
import ipaddress
import sys
from typing import Any

from hypothesis import settings


class NotLoopback(Exception):
    """A test tried to leave this machine."""


def _stay_home(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "socket.connect":
        return
    address = arguments[1]
    if isinstance(address, tuple) and not _is_here(str(address[0])):
        raise NotLoopback(f"connecting to {address}")


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


sys.addaudithook(_stay_home)


def pytest_collection_finish() -> None:
    """Thousands of tests are there to the end: the collector needn't walk through them all again and again."""
    gc.collect()
    gc.freeze()


# An example that takes long on a busy computer is no failure: speed is for benchmarks. Other examples each time, and
# many at `make soak`.
settings.register_profile("outrider", deadline=None, max_examples=50)
settings.register_profile("soak", deadline=None, max_examples=400)
settings.load_profile("outrider")
