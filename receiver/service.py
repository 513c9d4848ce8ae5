"""The receiver composed: endpoint, API, operator's socket and store in one event loop, until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
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
from receiver.learning.desk import LearningDesk, LearningRules
from receiver.learning.jobs import Jobs, one_process
from receiver.learning.order import Rule, Workbench
from receiver.learning.packagebench import PackageBench
from receiver.listener import Listener
from receiver.objectfiles import ObjectFiles
from receiver.objects import ObjectDesk, ObjectRules
from receiver.operator import Address, Operator
from receiver.pki import Authority
from receiver.premises import Sockets, alone, sockets
from receiver.quota import Quota
from receiver.rollouts.approval import Operators
from receiver.rollouts.desk import RolloutDesk
from receiver.rollouts.listing import Lister
from receiver.session import SessionLimits
from receiver.store import Store, sqlite_url
from receiver.updates import UpdateShelf
from receiver.web import Site
from telemetry.links.tls import broker_context
from telemetry.wire import Receipt

log = structlog.get_logger()

OBJECTS_FOLDER: Final = "objects"
_COLLECT_AFTER: Final = (50_000, 20, 20)
"""New objects before Python looks for cycles. Blocks on their way are many and in none, and the usual 700 made looking
through them a tenth of the receiver's CPU time."""
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
    learning: LearningDesk
    rollouts: RolloutDesk


class Teller(Protocol):
    """A way on which vehicles are told what is stored; one that doesn't know a vehicle leaves it to the others."""

    def deliver(self, vehicle: str, receipt: Receipt) -> None: ...


class Elsewhere(Teller, Protocol):
    """A way that doesn't end at our endpoint: through a broker, or a cloud's hub."""

    def hint(self, vehicle: str, kind: str) -> bool: ...


async def serve(config: ReceiverConfig, state: Path, ready: Callable[[Receiver], None]) -> None:
    """Runs until SIGTERM or SIGINT; then every session is told, and what is being committed is committed."""
    _raise_descriptor_limit()
    gc.set_threshold(*_COLLECT_AFTER)
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


@dataclass(frozen=True, slots=True)
class _Ground:
    """What every part stands on."""

    config: ReceiverConfig
    state: Path
    clock: Clock
    authority: Authority
    store: Store
    tasks: asyncio.TaskGroup
    counters: Counters


@dataclass(frozen=True, slots=True)
class _Ways:
    """By which records come, and vehicles are told."""

    ingest: Ingest
    endpoint: Endpoint
    learning: LearningDesk
    rollouts: RolloutDesk
    behind: Behind | None
    hub: HubDesk | None
    push: EventGridPush | None

    @property
    def elsewhere(self) -> list[Elsewhere]:
        return [way for way in (self.hub, self.behind) if way is not None]

    def hint(self, vehicle: str, kind: str) -> bool:
        return any(way.hint(vehicle, kind) for way in self.elsewhere)


@contextlib.asynccontextmanager
async def running(
    config: ReceiverConfig, state: Path, clock: Clock | None = None, bench: Workbench | None = None
) -> AsyncIterator[Receiver]:
    """A receiver that serves within the context; `bench` does what is done with model packages, in another process.

    Raises EnvironmentFault when the machine doesn't let it.
    """
    clock = clock or SystemClock()
    disk = state_folder(state)
    with alone(state), sockets(config, state) as taken:
        authority = Authority(disk, clock, config.certificate_days)
        if config.broker:
            _broker_context(config, authority)
        async with _opened(Store(config.store or sqlite_url(disk))) as store:
            await store.transact(journal.append, clock.wall_ns(), "started")
            async with asyncio.TaskGroup() as tasks:
                ground = _Ground(config, state, clock, authority, store, tasks, Counters())
                async with _serving(ground, taken, bench or PackageBench()) as receiver:
                    yield receiver


@contextlib.asynccontextmanager
async def _serving(ground: _Ground, taken: Sockets, bench: Workbench) -> AsyncIterator[Receiver]:
    config, clock, authority = ground.config, ground.clock, ground.authority
    ways = _ways(ground, bench)
    folder = Path(config.updates) if config.updates else None
    shelf = UpdateShelf(folder, ground.store, clock, ground.counters, ways.rollouts.served)
    address = Address(config.hosts[0], taken.mqtt.getsockname()[1], taken.https.getsockname()[1])
    operator = _operator(ground, ways, shelf, address)
    refusals = Quota(config.refusals_per_minute / 60, config.refusals_at_once)
    desk = await _desk(ground, refusals)
    site, local = _site(ground, ways, shelf, desk, refusals), Site(operator.app())
    mqtt_tls = authority.server_context(config.hosts, ssl.CERT_REQUIRED)
    https_tls = authority.server_context(config.hosts, ssl.CERT_OPTIONAL)
    endpoint = ways.endpoint
    loops = [
        ground.tasks.create_task(loop)
        for loop in (
            ways.ingest.run(),
            endpoint.keep_time(),
            desk.run(),
            ways.learning.run(),
            ways.rollouts.run(),
            Listener(taken.mqtt, mqtt_tls, endpoint.session, endpoint.has_room, clock, ground.counters).run(),
            Listener(taken.https, https_tls, site.protocol, site.make_room, clock, ground.counters).run(),
            keep_certificate(authority, config.hosts, clock, mqtt_tls, https_tls),
            *([ways.behind.run()] if ways.behind is not None else []),
        )
    ]
    local_server = await asyncio.get_running_loop().create_unix_server(local.protocol, sock=taken.local)
    try:
        yield Receiver(
            address, ground.state / SOCKET, operator, endpoint, ground.counters, ground.store, authority, ways.behind,
            ways.learning, ways.rollouts,
        )  # fmt: skip
    finally:
        local_server.close()
        for loop in loops:
            loop.cancel()
        if ways.push is not None:
            ways.push.stop()
        await asyncio.gather(endpoint.close(), site.close(), local.close())
        if ways.hub is not None:
            await ways.hub.close()


def _ways(ground: _Ground, bench: Workbench) -> _Ways:
    config, clock, counters = ground.config, ground.clock, ground.counters
    tellers: list[Teller] = []
    ingest, endpoint = _endpoint(ground, tellers)
    hub = HubDesk(HubService(config.hub, clock), clock, counters, ground.tasks) if config.hub.host else None
    push = _push(ground, endpoint, hub) if hub is not None else None
    behind = _behind(ground, endpoint)
    hints = [endpoint.hint, *(way.hint for way in (hub, behind) if way is not None)]
    rollouts = _rollouts(ground, lambda vehicle, kind: any(hint(vehicle, kind) for hint in hints))
    ways = _Ways(ingest, endpoint, _learning(ground, bench), rollouts, behind, hub, push)
    tellers += [endpoint, *ways.elsewhere, ways.learning, rollouts]
    return ways


def _endpoint(ground: _Ground, tellers: Sequence[Teller]) -> tuple[Ingest, Endpoint]:
    def tell(vehicle: str, receipt: Receipt) -> None:
        for teller in tellers:
            teller.deliver(vehicle, receipt)

    config, clock, store, counters = ground.config, ground.clock, ground.store, ground.counters
    share = Quota(config.vehicle_bytes_per_s, config.vehicle_burst_bytes)
    queue = IngestLimits(config.queue_blocks, config.queue_bytes)
    ingest = Ingest(store, clock, share, queue, counters, tell)
    limits = SessionLimits(config.connect_s, config.keep_alive_max_s, config.receive_maximum, config.max_vehicles)
    return ingest, Endpoint(store, ingest, clock, counters, limits, ground.tasks)


def _behind(ground: _Ground, endpoint: Endpoint) -> Behind | None:
    config = ground.config
    if not config.broker:
        return None
    host, port = broker_address(config.broker)
    broker = Broker(host, port, lambda: _broker_context(config, ground.authority), config.broker_client)
    rng = Random(os.urandom(16))
    return Behind(broker, ground.store, endpoint, ground.clock, rng, ground.counters, config.queue_bytes)


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


def _push(ground: _Ground, endpoint: Endpoint, hub: HubDesk) -> EventGridPush:
    code = read_secret(ground.config.hub.push_code_file, "[receiver.hub] push_code_file")
    return EventGridPush(code, ground.store, ground.clock, ground.counters, endpoint.submit, hub)


def _learning(ground: _Ground, bench: Workbench) -> LearningDesk:
    config = ground.config
    jobs = Jobs(one_process, config.learning_job_s)
    step = Rule(config.learning_momentum, config.learning_rate)
    rules = LearningRules(config.learning_buffer, step, config.learning_again_s)
    return LearningDesk(ground.store, RealDisk(ground.state), ground.clock, ground.counters, jobs, bench, rules)


def _rollouts(ground: _Ground, hint: Callable[[str, str], bool]) -> RolloutDesk:
    config = ground.config
    lister = None
    if config.director_keys:
        if not config.updates:
            raise UsageFault("[receiver] director_keys is of a repository. Name its folder: [receiver] updates.")
        lister = Lister(Path(config.updates), Path(config.director_keys), ground.clock)
    operators = Operators(Path(config.operators) if config.operators else None)
    return RolloutDesk(ground.store, ground.clock, ground.counters, operators, lister, hint)


def _operator(ground: _Ground, ways: _Ways, shelf: UpdateShelf, address: Address) -> Operator:
    return Operator(
        ground.store, ground.authority, ways.endpoint, ground.clock, ground.counters, address,
        ground.config.enrolment_minutes * 60, shelf.roots, ground.state / OBJECTS_FOLDER, ways.learning,
        ways.rollouts, ways.hint, ways.behind.forget if ways.behind is not None else None,
    )  # fmt: skip


def _site(ground: _Ground, ways: _Ways, shelf: UpdateShelf, desk: ObjectDesk, refusals: Quota) -> Site:
    pushed = ways.push.routes() if ways.push is not None else []
    api = Api(ground.store, ground.authority, ground.clock, refusals, ground.counters, shelf, desk, pushed)
    return Site(api.app(), counters=ground.counters)


async def _desk(ground: _Ground, refusals: Quota) -> ObjectDesk:
    config, clock = ground.config, ground.clock
    files = ObjectFiles(RealDisk(ground.state / OBJECTS_FOLDER), clock)
    await asyncio.to_thread(files.open)
    partial_ns = int(config.object_partial_hours * 3600) * SECOND_NS
    rules = ObjectRules(config.object_bytes, config.vehicle_object_bytes, partial_ns)
    return ObjectDesk(files, ground.store, clock, ground.counters, refusals, rules)


async def keep_certificate(
    authority: Authority, hosts: tuple[str, ...], clock: Clock, *contexts: ssl.SSLContext
) -> None:
    """Connections made from now on see the receiver's newest certificate. The one before holds for weeks yet: a disk
    that is full just now ends nothing."""
    while True:
        await clock.sleep_until(clock.boot_ns() + _CERTIFICATE_LOOK_NS)
        try:
            path = authority.server_file(hosts)
            for context in contexts:
                context.load_cert_chain(path)
        except (EnvironmentFault, OSError) as failure:  # ssl.SSLError is an OSError
            log.error("certificate_not_renewed", reason=str(failure))


@contextlib.asynccontextmanager
async def _opened(store: Store) -> AsyncIterator[Store]:
    try:
        await store.open()
        yield store
    finally:
        await store.close()
