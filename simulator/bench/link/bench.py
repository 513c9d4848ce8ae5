"""`outrider bench link`: durable messages a second at our endpoint, beside its floor and a peer of the same run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Final, TypeVar

from receiver.config import ReceiverConfig
from simulator.bench.link import ways
from simulator.bench.link.blocks import BlockKind
from simulator.bench.link.fleet import RunningFleet, a_fleet
from simulator.bench.link.load import Felt, Load, put_on
from simulator.bench.link.pahoload import paho_rate
from simulator.bench.link.peers import MOSQUITTO, Peer, a_mosquitto, an_echo
from simulator.bench.metric import Metric

T = TypeVar("T")

ONE_BAR: Final = 10_000.0
MANY_BAR: Final = 20_000.0
MANY: Final = 50
ROUNDS: Final = 3
MESSAGES: Final = 24_000
ALONE: Final = 500
CROWD_WINDOW: Final = 32
"""In flight each of MANY: enough for full commits, without a queue that only makes receipts later."""
_WHAT: Final = "blocks of about 190 B, QoS 1, mutual TLS 1.3"
_UNMEASURED: Final = "not measured: mosquitto isn't installed (apt-get install mosquitto)"


def run() -> list[Metric]:
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as folder, a_fleet(Path(folder), MANY) as fleet:
        return [*_Run(fleet, Path(folder)).metrics(), *ways.rows()]


class _Run:
    def __init__(self, fleet: RunningFleet, folder: Path) -> None:
        self._fleet = fleet
        self._folder = folder
        self._own = Peer(fleet.pid, fleet.port)
        self._batch = count()
        self._window = ReceiverConfig().receive_maximum

    def metrics(self) -> list[Metric]:
        before = self._fleet.commits()
        one = self._felt(self._own, 1)
        commits = self._fleet.commits() - before
        many = self._felt(self._own, MANY)
        alone = put_on(self._load(self._own, 1, ALONE, window=1))
        return [
            *_rates(one, many, commits),
            *_latencies(alone, one, many),
            *self._floor(one, many),
            *self._peer(one, many),
        ]

    def _floor(self, one: Felt, many: Felt) -> list[Metric]:
        with an_echo(self._fleet) as echo:
            floors = self._felt(echo, 1), self._felt(echo, MANY)
        how = "the same packets to an asyncio TLS server that only acknowledges them"
        return [
            metric
            for name, felt, floor in zip(("one client", f"{MANY} clients"), (one, many), floors, strict=True)
            for metric in (
                Metric(f"floor, {name}", floor.rate, "messages/s", how),
                Metric(f"floor's CPU, {name}", floor.peer_cpu_ms_per_1000, "ms per 1,000", how),
                Metric(f"endpoint over its floor, {name}", felt.rate / floor.rate, "x", "messages a second"),
            )
        ]

    def _peer(self, one: Felt, many: Felt) -> list[Metric]:
        """mosquitto without storage: under paho, and under the very load that the endpoint had."""
        name = "endpoint over mosquitto + paho"
        if MOSQUITTO is None:
            return [Metric(name, 0.0, "x", _UNMEASURED)]
        with a_mosquitto(self._fleet, self._folder) as peer:
            paho = _median([paho_rate(self._load(peer, 1)) for _ in range(ROUNDS)], float)
            same, crowd = self._felt(peer, 1), self._felt(peer, MANY)
        how = f"mosquitto without storage, {self._window} in flight"
        return [
            Metric("mosquitto + paho", paho, "messages/s", f"{how}, one client"),
            Metric(name, one.rate / paho, "x", "one client each; ours stores, mosquitto doesn't"),
            Metric("endpoint over mosquitto, one client", one.rate / same.rate, "x", _beside(same)),
            Metric(f"endpoint over mosquitto, {MANY} clients", many.rate / crowd.rate, "x", _beside(crowd)),
        ]

    def _felt(self, peer: Peer, clients: int) -> Felt:
        """The round with the median rate."""
        return _median([put_on(self._load(peer, clients)) for _ in range(ROUNDS)], lambda felt: felt.rate)

    def _load(self, peer: Peer, clients: int, messages: int = MESSAGES, window: int = 0) -> Load:
        # Numbers that no vehicle has used yet: what is sent again would be told apart and not stored.
        first_seq = next(self._batch) * 2 * MESSAGES
        vehicles = [str(folder) for folder in self._fleet.vehicles[:clients]]
        window = window or (self._window if clients == 1 else CROWD_WINDOW)
        ours = peer == self._own
        return Load(vehicles, peer.port, peer.pid, BlockKind.SMALL, messages // clients, window, first_seq, ours)


def _rates(one: Felt, many: Felt, commits: int) -> list[Metric]:
    each = one.messages * ROUNDS / commits
    how = f"{_WHAT}; acknowledged and receipted after commit (synchronous=FULL); median of {ROUNDS} rounds"
    together = f"{how}; {one.window} in flight"
    return [
        Metric(
            "durable messages, one client",
            one.rate,
            "messages/s",
            f"{together}, {each:.0f} a commit",
            ONE_BAR,
            "at least",
        ),
        Metric(f"durable messages, {MANY} clients", many.rate, "messages/s", f"{together} each", MANY_BAR, "at least"),
        Metric("endpoint's CPU, one client", one.peer_cpu_ms_per_1000, "ms per 1,000", _usage(one)),
        Metric(f"endpoint's CPU, {MANY} clients", many.peer_cpu_ms_per_1000, "ms per 1,000", _usage(many)),
    ]


def _usage(felt: Felt) -> str:
    own = felt.own_cpu_s * 1e6 / felt.messages
    return f"user and system, all threads of the receiver's process; the load's own, with making the blocks: {own:.0f}"


def _latencies(alone: Felt, one: Felt, many: Felt) -> list[Metric]:
    how = "from sent to receipt"
    return [
        Metric("receipt p50, one block at a time", alone.receipted_ms[0], "ms", how),
        Metric("receipt p99, one block at a time", alone.receipted_ms[1], "ms", f"{how}; {alone.messages} blocks"),
        Metric("receipt p99, one client at full rate", one.receipted_ms[1], "ms", how),
        Metric(f"receipt p99, {MANY} clients at full rate", many.receipted_ms[1], "ms",
               f"{how}; {MANY * many.window:,} blocks are always waiting"),
    ]  # fmt: skip


def _beside(peer: Felt) -> str:
    return f"the same load on both; mosquitto {peer.rate:,.0f}/s, {peer.peer_cpu_ms_per_1000:.1f} ms of CPU per 1,000"


def _median(found: list[T], key: Callable[[T], float]) -> T:
    return sorted(found, key=key)[len(found) // 2]
