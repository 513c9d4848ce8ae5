"""TLS connections on one port, bounded: so many handshakes at once, each so long, and none when the house is full.

Whoever is silent gives way to whoever comes: nobody without a certificate can keep the others out.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import TypeVar

import structlog

from ecu.clock import MILLISECOND_NS, Clock
from ecu.errors import EnvironmentFault
from receiver.counters import Counters

log = structlog.get_logger()

K = TypeVar("K")

HANDSHAKES_AT_ONCE = 256
HANDSHAKES_PER_ADDRESS = HANDSHAKES_AT_ONCE // 2  # a carrier, or a balancer before us, has many vehicles behind one
HANDSHAKE_S = 10.0
GOODBYE_S = 2.0
_BACKLOG = 512
_ACCEPT_AGAIN_NS = 100 * MILLISECOND_NS


def listen(host: str, port: int, what: str) -> socket.socket:
    """A listening socket; port 0 is any free one. `what` names it in the fault's words, with its config key."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise EnvironmentFault(f"{host} isn't an address of this computer: {error.strerror}. Set {what}.") from error
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setblocking(False)
    try:
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise EnvironmentFault(
            f"Can't listen on {host} port {port}: {error.strerror}. Stop whoever holds it (`ss -ltnp`), or set {what}."
        ) from error
    return listening


class Listener:
    """Accepts until cancelled. `make_room` says whether one more connection may come, and may end another for it."""

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        protocol: Callable[[], asyncio.Protocol],
        make_room: Callable[[], bool],
        clock: Clock,
        counters: Counters,
    ) -> None:
        self._listening = listening
        self._context = context
        self._protocol = protocol
        self._make_room = make_room
        self._clock = clock
        self._counters = counters
        self._handshakes: dict[asyncio.Task[None], str] = {}  # and their peers' addresses, oldest first

    @property
    def port(self) -> int:
        return int(self._listening.getsockname()[1])

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    accepted, peer = await loop.sock_accept(self._listening)
                except OSError as error:
                    # Out of descriptors or memory: those that are served go on, and leave room in time.
                    self._counters.accept_failures += 1
                    log.error("accept_failed", reason=str(error))
                    await self._clock.sleep_until(self._clock.boot_ns() + _ACCEPT_AGAIN_NS)
                    continue
                self._receive(accepted, str(peer[0]))
                # Accepting never waits while others queue: without its turn no handshake would get on.
                await asyncio.sleep(0)
        finally:
            self._listening.close()
            for handshake in self._handshakes:
                handshake.cancel()

    def _receive(self, accepted: socket.socket, peer: str) -> None:
        if not self._make_room():
            self._counters.handshakes_dropped += 1
            accepted.close()
            return
        if (slowest := to_drop(self._handshakes, peer)) is not None:
            self._counters.handshakes_dropped += 1
            self._handshakes.pop(slowest)
            slowest.cancel()
        handshake = asyncio.get_running_loop().create_task(self._shake_hands(accepted, peer))
        self._handshakes[handshake] = peer
        handshake.add_done_callback(lambda done: self._handshakes.pop(done, None))

    async def _shake_hands(self, accepted: socket.socket, peer: str) -> None:
        # A second handle on the wire, for the last word: asyncio closes its own without having sent it.
        wire = accepted.dup()
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=GOODBYE_S,
            )
        except OSError as error:
            # A stranger's certificate, a port scan, a lost network: ssl.SSLError and time-outs are OSErrors.
            self._counters.tls_refused += 1
            log.info("tls_refused", peer=peer, reason=getattr(error, "reason", None) or str(error))
            with contextlib.suppress(OSError):
                wire.send(getattr(error, "alert", b""))
        finally:
            wire.close()


def to_drop(handshakes: Mapping[K, str], peer: str) -> K | None:
    """Which handshake gives way to one more of `peer`: the oldest of its own when it has its share, else the oldest of
    all when there are too many. `handshakes` maps each to its peer, oldest first."""
    own = [handshake for handshake, address in handshakes.items() if address == peer]
    if len(own) >= HANDSHAKES_PER_ADDRESS:
        return own[0]
    return next(iter(handshakes)) if len(handshakes) >= HANDSHAKES_AT_ONCE else None
