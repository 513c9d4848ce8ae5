"""The receiver composed: endpoint, API, operator's socket and store in one event loop, until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from ecu.clock import SECOND_NS, Clock, SystemClock
from ecu.disk import RealDisk
from ecu.errors import EnvironmentFault
from receiver import journal
from receiver.api import Api
from receiver.client import SOCKET
from receiver.config import ReceiverConfig
from receiver.counters import Counters
from receiver.endpoint import Endpoint
from receiver.ingest import Ingest, IngestLimits
from receiver.listener import Listener, listen
from receiver.operator import Address, Operator
from receiver.pki import Authority
from receiver.quota import Quota
from receiver.session import SessionLimits
from receiver.store import Store, sqlite_url
from receiver.web import Site

log = structlog.get_logger()

LOCK: Final = "receiver.lock"
_CERTIFICATE_LOOK_NS: Final = 3600 * SECOND_NS


@dataclass(frozen=True, slots=True)
class Receiver:
    """A running receiver."""

    address: Address
    socket: Path
    operator: Operator
    endpoint: Endpoint
    counters: Counters
    store: Store
    authority: Authority


@contextlib.asynccontextmanager
async def running(config: ReceiverConfig, state: Path, clock: Clock | None = None) -> AsyncIterator[Receiver]:
    """A receiver that serves within the context. Raises EnvironmentFault when the machine doesn't let it."""
    clock = clock or SystemClock()
    disk = RealDisk(state)
    disk.make_folder("")
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_alone(state))
        mqtt = stack.enter_context(contextlib.closing(listen(config.listen, config.mqtt_port, "[receiver] mqtt_port")))
        https = stack.enter_context(
            contextlib.closing(listen(config.listen, config.https_port, "[receiver] https_port"))
        )
        local = stack.enter_context(_local_socket(state / SOCKET))
        authority = Authority(disk, clock, config.certificate_days)
        store = Store(config.store or sqlite_url(disk))
        stack.push_async_callback(store.close)
        await store.open()
        await store.transact(journal.append, clock.wall_ns(), "started")
        async with _Composed(config, clock, authority, store, mqtt, https, local) as composed:
            yield Receiver(
                composed.address, state / SOCKET, composed.operator, composed.endpoint, composed.counters, store, authority
            )


async def serve(config: ReceiverConfig, state: Path, ready: Callable[[Receiver], None]) -> None:
    """Runs until SIGTERM or SIGINT, then stops cleanly: what is queued is committed, and every session told."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with running(config, state) as receiver:
        ready(receiver)
        await stopped.wait()
    log.info("stopped")


class _Composed:
    """Builds the parts, runs their loops in one group, and takes them down in order."""

    def __init__(
        self,
        config: ReceiverConfig,
        clock: Clock,
        authority: Authority,
        store: Store,
        mqtt: socket.socket,
        https: socket.socket,
        local: socket.socket,
    ) -> None:
        self.counters = Counters()
        self.address = Address(config.hosts[0], mqtt.getsockname()[1], https.getsockname()[1])
        self._config, self._clock, self._authority, self._store = config, clock, authority, store
        self._mqtt, self._https, self._local = mqtt, https, local
        self._tasks = asyncio.TaskGroup()
        self._loops: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> _Composed:
        await self._tasks.__aenter__()
        return self
