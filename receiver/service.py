"""The receiver composed: endpoint, API, operator's socket and store in one event loop, until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, Protocol

import structlog

from ecu.clock import SECOND_NS, Clock, SystemClock
from ecu.disk import RealDisk, state_folder
from ecu.errors import EnvironmentFault, UsageFault
from receiver import journal
from receiver.api import Api
from receiver.behind import Behind, Broker
from receiver.client import SOCKET
from receiver.config import ReceiverConfig, broker_address
from receiver.counters import Counters
from receiver.endpoint import Endpoint
from receiver.eventgrid import EventGridPush
from receiver.hub import HubDesk, HubService, read_secret
from receiver.ingest import Ingest, IngestLimits
from receiver.listener import Listener, listen
from receiver.objectfiles import ObjectFiles
from receiver.objects import ObjectDesk, ObjectRules
from receiver.operator import Address, Operator
from receiver.pki import Authority
from receiver.quota import Quota
from receiver.session import SessionLimits
from receiver.store import Store, sqlite_url
from receiver.updates import UpdateShelf
from receiver.web import Site
from telemetry.links.tls import broker_context
from telemetry.wire import Receipt

log = structlog.get_logger()

LOCK: Final = "receiver.lock"
OBJECTS_FOLDER: Final = "objects"
_CERTIFICATE_LOOK_NS: Final = 3600 * SECOND_NS


@dataclass(frozen=True, slots=True)
class Receiver:
    """A running receiver, for whoever composed it."""

    address: Address
    socket: Path
    operator: Operator
    endpoint: Endpoint
    counters: Counters
    store: Store
    authority: Authority
    behind: Behind | None


class Teller(Protocol):
    """A way on which vehicles are told what is stored; one that doesn't know a vehicle leaves it to the others."""

    def deliver(self, vehicle: str, receipt: Receipt) -> None: ...


class Elsewhere(Teller, Protocol):
    """A way that doesn't end at our endpoint: through a broker, or a cloud's hub."""

    def hint(self, vehicle: str, kind: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Sockets:
    mqtt: socket.socket
    https: socket.socket
    local: socket.socket


async def serve(config: ReceiverConfig, state: Path, ready: Callable[[Receiver], None]) -> None:
    """Runs until SIGTERM or SIGINT; then every session is told, and what is being committed is committed."""
    _raise_descriptor_limit()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with running(config, state) as receiver:
        ready(receiver)
        await stopped.wait()
    log.info("stopped")


def _raise_descriptor_limit() -> None:
    # A connection is a descriptor, and the usual limit is a tenth of max_vehicles.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextlib.asynccontextmanager
async def running(config: ReceiverConfig, state: Path, clock: Clock | None = None) -> AsyncIterator[Receiver]:
    """A receiver that serves within the context. Raises EnvironmentFault when the machine doesn't let it."""
    clock = clock or SystemClock()
    disk = state_folder(state)
    with _alone(state), _sockets(config, state) as sockets:
        authority = Authority(disk, clock, config.certificate_days)
        if config.broker:
            _broker_context(config, authority)
        async with _opened(Store(config.store or sqlite_url(disk))) as store:
            await store.transact(journal.append, clock.wall_ns(), "started")
            async with (
                asyncio.TaskGroup() as tasks,
                _serving(config, state, clock, authority, store, sockets, tasks) as receiver,
            ):
                yield receiver


@contextlib.asynccontextmanager
async def _serving(
    config: ReceiverConfig,
    state: Path,
    clock: Clock,
    authority: Authority,
    store: Store,
    sockets: _Sockets,
    tasks: asyncio.TaskGroup,
) -> AsyncIterator[Receiver]:
    counters = Counters()
    hub = HubDesk(HubService(config.hub, clock), clock, counters, tasks) if config.hub.host else None
    tellers: list[Teller] = []
    ingest, endpoint = _endpoint(config, clock, store, counters, tasks, tellers)
    behind = _behind(config, authority, store, endpoint, clock, counters)
    elsewhere: list[Elsewhere] = [way for way in (hub, behind) if way is not None]
    tellers += [endpoint, *elsewhere]
    address = Address(config.hosts[0], sockets.mqtt.getsockname()[1], sockets.https.getsockname()[1])
    objects = state / OBJECTS_FOLDER
    shelf = UpdateShelf(Path(config.updates) if config.updates else None, store, clock, counters)
    operator = Operator(
        store, authority, endpoint, clock, counters, address, config.enrolment_minutes * 60, shelf.roots, objects,
        lambda vehicle, kind: any(way.hint(vehicle, kind) for way in elsewhere),
        behind.forget if behind is not None else None,
    )  # fmt: skip
    refusals = Quota(config.refusals_per_minute / 60, config.refusals_at_once)
    desk = await _desk(config, objects, clock, store, counters, refusals)
    push = _push(config, store, clock, counters, endpoint, hub) if hub is not None else None
    pushed = push.routes() if push is not None else []
    site = Site(Api(store, authority, clock, refusals, counters, shelf, desk, pushed).app(), counters=counters)
    local = Site(operator.app())
    mqtt_tls = authority.server_context(config.hosts, ssl.CERT_REQUIRED)
    https_tls = authority.server_context(config.hosts, ssl.CERT_OPTIONAL)
    loops = [
        tasks.create_task(loop)
        for loop in (
            ingest.run(),
            endpoint.keep_time(),
            desk.run(),
            Listener(sockets.mqtt, mqtt_tls, endpoint.session, endpoint.has_room, clock, counters).run(),
            Listener(sockets.https, https_tls, site.protocol, site.make_room, clock, counters).run(),
            _keep_certificate(authority, config.hosts, clock, mqtt_tls, https_tls),
            *([behind.run()] if behind is not None else []),
        )
    ]
    local_server = await asyncio.get_running_loop().create_unix_server(local.protocol, sock=sockets.local)
    try:
        yield Receiver(address, state / SOCKET, operator, endpoint, counters, store, authority, behind)
    finally:
        local_server.close()
        for loop in loops:
            loop.cancel()
        if push is not None:
            push.stop()
        await asyncio.gather(endpoint.close(), site.close(), local.close())
        if hub is not None:
            await hub.close()


def _endpoint(
    config: ReceiverConfig,
    clock: Clock,
    store: Store,
    counters: Counters,
    tasks: asyncio.TaskGroup,
    tellers: Sequence[Teller],
) -> tuple[Ingest, Endpoint]:
    def tell(vehicle: str, receipt: Receipt) -> None:
        for teller in tellers:
            teller.deliver(vehicle, receipt)

    share = Quota(config.vehicle_bytes_per_s, config.vehicle_burst_bytes)
    queue = IngestLimits(config.queue_blocks, config.queue_bytes)
    ingest = Ingest(store, clock, share, queue, counters, tell)
    limits = SessionLimits(config.connect_s, config.keep_alive_max_s, config.receive_maximum, config.max_vehicles)
    endpoint = Endpoint(store, ingest, clock, counters, limits, tasks)
    return ingest, endpoint


def _behind(
    config: ReceiverConfig, authority: Authority, store: Store, endpoint: Endpoint, clock: Clock, counters: Counters
) -> Behind | None:
    if not config.broker:
        return None
    host, port = broker_address(config.broker)
    broker = Broker(host, port, lambda: _broker_context(config, authority), config.broker_client)
    return Behind(broker, store, endpoint, clock, Random(os.urandom(16)), counters)


def _broker_context(config: ReceiverConfig, authority: Authority) -> ssl.SSLContext:
    """Raises UsageFault for files that can't be used."""
    key = "broker_ca"
    try:
        ca_pem = Path(config.broker_ca).read_text("ascii") if config.broker_ca else authority.pem
        if not config.broker_identity:
            return authority.client_context(config.broker_client, ca_pem)
        context, key = broker_context(ca_pem), "broker_identity"
        context.load_cert_chain(config.broker_identity)
        return context
    except (OSError, ValueError) as error:
        raise UsageFault(
            f"[receiver] {key} can't be used: {error}. Name a PEM file that this user can read."
        ) from error


def _push(
    config: ReceiverConfig, store: Store, clock: Clock, counters: Counters, endpoint: Endpoint, hub: HubDesk
) -> EventGridPush:
    code = read_secret(config.hub.push_code_file, "[receiver.hub] push_code_file")
    return EventGridPush(code, store, clock, counters, endpoint.submit, hub)


async def _desk(
    config: ReceiverConfig, folder: Path, clock: Clock, store: Store, counters: Counters, refusals: Quota
) -> ObjectDesk:
    files = ObjectFiles(RealDisk(folder), clock)
    await asyncio.to_thread(files.open)
    partial_ns = int(config.object_partial_hours * 3600) * SECOND_NS
    rules = ObjectRules(config.object_bytes, config.vehicle_object_bytes, partial_ns)
    return ObjectDesk(files, store, clock, counters, refusals, rules)


async def _keep_certificate(
    authority: Authority, hosts: tuple[str, ...], clock: Clock, *contexts: ssl.SSLContext
) -> None:
    """Connections made from now on see the receiver's newest certificate."""
    while True:
        await clock.sleep_until(clock.boot_ns() + _CERTIFICATE_LOOK_NS)
        path = authority.server_file(hosts)
        for context in contexts:
            context.load_cert_chain(path)


@contextlib.asynccontextmanager
async def _opened(store: Store) -> AsyncIterator[Store]:
    try:
        await store.open()
        yield store
    finally:
        await store.close()


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """One receiver a state folder: the audit chain has one writer."""
    fd = _open_lock(state)
    try:
        _lock(fd, state)
        yield
    finally:
        os.close(fd)


def _open_lock(state: Path) -> int:
    try:
        return os.open(state / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EnvironmentFault(f"Can't write in {state}: {error.strerror}. Choose another --state.") from error


def _lock(fd: int, state: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise EnvironmentFault(f"Another receiver runs on {state}. Stop it, or choose another --state.") from error


@contextlib.contextmanager
def _sockets(config: ReceiverConfig, state: Path) -> Iterator[_Sockets]:
    with contextlib.ExitStack() as stack:
        closing = contextlib.closing
        mqtt = stack.enter_context(closing(listen(config.listen, config.mqtt_port, "[receiver] mqtt_port")))
        https = stack.enter_context(closing(listen(config.listen, config.https_port, "[receiver] https_port")))
        yield _Sockets(mqtt, https, stack.enter_context(_local(state / SOCKET)))


@contextlib.contextmanager
def _local(path: Path) -> Iterator[socket.socket]:
    """The operator's socket, 0600. One left by a receiver that was killed is in nobody's use: we hold the lock."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listening.bind(str(path))
    except OSError as error:
        listening.close()
        raise EnvironmentFault(f"Can't make the socket {path}: {error}. Choose a shorter --state.") from error
    finally:
        os.umask(mask)
    with contextlib.closing(listening):
        yield listening
    path.unlink(missing_ok=True)
