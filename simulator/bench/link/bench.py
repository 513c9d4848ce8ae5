"""`outrider bench link`: durable messages a second at our endpoint, beside its floor and a peer of the same run."""

from __future__ import annotations

import contextlib
import math
import tempfile
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from typing import Final

from receiver.config import ReceiverConfig
from simulator.bench.link import ways
from simulator.bench.link.blocks import BlockKind
from simulator.bench.link.fleet import RunningFleet, a_fleet
from simulator.bench.link.load import Felt, Load, put_on
from simulator.bench.link.pahoload import paho_rate
from simulator.bench.link.peers import MOSQUITTO, Peer, a_mosquitto, an_echo
from simulator.bench.metric import Metric, unless

ONE_BAR: Final = 10_000.0
MANY_BAR: Final = 20_000.0
MANY: Final = 50
ROUNDS: Final = 5
MESSAGES: Final = 24_000
ALONE: Final = 500
CROWD_WINDOW: Final = 32
"""In flight each of MANY: enough for full commits, without a queue that only makes receipts later."""
_WHAT: Final = "blocks of about 190 B, QoS 1, mutual TLS 1.3"


@dataclass(frozen=True, slots=True)
class _Felt:
    """What one server felt of the same load from one client, and from many."""

    one: Felt
    many: Felt


@dataclass(frozen=True, slots=True)
class _Round:
    """All servers in turn, so that whatever else this computer does meets them alike."""

    own: _Felt
    blocks_a_commit: float  # of one client
    floor: _Felt
    mosquitto: _Felt | None
    paho: float  # messages a second to mosquitto


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
        mosquitto = a_mosquitto(self._fleet, self._folder) if MOSQUITTO else contextlib.nullcontext()
        with an_echo(self._fleet) as echo, mosquitto as peer:
            rounds = [self._round(echo, peer) for _ in range(ROUNDS)]
        alone = put_on(self._load(self._own, 1, ALONE, window=1))
        own = _median([taken.own for taken in rounds])
        return [
            *_rates(own, rounds),
            *_latencies(alone, own),
            *_floor(own, _median([taken.floor for taken in rounds])),
            *self._beside_mosquitto(own, rounds),
        ]

    def _round(self, echo: Peer, mosquitto: Peer | None) -> _Round:
        before = self._fleet.commits()
        one = put_on(self._load(self._own, 1))
        commits = self._fleet.commits() - before
        own = _Felt(one, put_on(self._load(self._own, MANY)))
        if mosquitto is None:
            return _Round(own, one.messages / commits, self._felt(echo), None, 0.0)
        paho = paho_rate(self._load(mosquitto, 1))
        return _Round(own, one.messages / commits, self._felt(echo), self._felt(mosquitto), paho)

    def _felt(self, peer: Peer) -> _Felt:
        return _Felt(put_on(self._load(peer, 1)), put_on(self._load(peer, MANY)))

    def _beside_mosquitto(self, own: _Felt, rounds: list[_Round]) -> list[Metric]:
        """Under paho, and under the very load that the endpoint had."""
        taken = [each.mosquitto for each in rounds if each.mosquitto is not None]
        if not taken:
            return _mosquitto_rows(own, None, math.nan, self._window)
        return _mosquitto_rows(own, _median(taken), median(each.paho for each in rounds), self._window)

    def _load(self, peer: Peer, clients: int, messages: int = MESSAGES, window: int = 0) -> Load:
        # Numbers that no vehicle has used yet: what is sent again would be told apart and not stored.
        first_seq = next(self._batch) * 2 * MESSAGES
        vehicles = [str(folder) for folder in self._fleet.vehicles[:clients]]
        window = window or (self._window if clients == 1 else CROWD_WINDOW)
        ours = peer == self._own
        return Load(vehicles, peer.port, peer.pid, BlockKind.SMALL, messages // clients, window, first_seq, ours)


def _mosquitto_rows(own: _Felt, same: _Felt | None, paho: float, window: int) -> list[Metric]:
    """Under `paho`, and under the `same` load; None of which there is where there is no mosquitto."""
    missing = "mosquitto isn't installed here (apt-get install mosquitto)" if same is None else None
    same = same or own
    how = f"mosquitto without storage and without a subscriber, {window} in flight, one client"
    one, many = own.one.rate / same.one.rate, own.many.rate / same.many.rate
    return unless(
        missing,
        Metric("mosquitto + paho", paho, "messages/s", how),
        Metric("endpoint over mosquitto + paho", own.one.rate / paho, "x",
               "one client each; ours stores, mosquitto doesn't"),
        Metric("endpoint over mosquitto, one client", one, "x", _beside(same.one)),
        Metric(f"endpoint over mosquitto, {MANY} clients", many, "x", _beside(same.many)),
    )  # fmt: skip


def _rates(own: _Felt, rounds: list[_Round]) -> list[Metric]:
    one, many = own.one, own.many
    each = median(taken.blocks_a_commit for taken in rounds)
    how = f"{_WHAT}; acknowledged and receipted after commit (synchronous=FULL); median of {ROUNDS} rounds"
    windows = f"{one.window} in flight, {each:.0f} a commit", f"{many.window} in flight each"
    return [
        Metric("durable messages, one client", one.rate, "messages/s", f"{how}; {windows[0]}", ONE_BAR, "at least"),
        Metric(
            f"durable messages, {MANY} clients", many.rate, "messages/s", f"{how}; {windows[1]}", MANY_BAR, "at least"
        ),
        Metric("endpoint's CPU, one client", one.peer_cpu_ms_per_1000, "ms per 1,000", _usage(one)),
        Metric(f"endpoint's CPU, {MANY} clients", many.peer_cpu_ms_per_1000, "ms per 1,000", _usage(many)),
    ]


def _usage(felt: Felt) -> str:
    own = felt.own_cpu_s * 1e6 / felt.messages
    return f"user and system, all threads of the receiver's process; the load's own, with making the blocks: {own:.0f}"


def _latencies(alone: Felt, own: _Felt) -> list[Metric]:
    one, many = own.one, own.many
    how = "from sent to receipt"
    return [
        Metric("receipt p50, one block at a time", alone.receipted_ms[0], "ms", how),
        Metric("receipt p99, one block at a time", alone.receipted_ms[1], "ms", f"{how}; {alone.messages} blocks"),
        Metric("receipt p99, one client at full rate", one.receipted_ms[1], "ms", how),
        Metric(f"receipt p99, {MANY} clients at full rate", many.receipted_ms[1], "ms",
               f"{how}; {MANY * many.window:,} blocks are always waiting"),
    ]  # fmt: skip


def _floor(own: _Felt, floor: _Felt) -> list[Metric]:
    how = "the same packets to an asyncio TLS server that only acknowledges them"
    pairs = ("one client", own.one, floor.one), (f"{MANY} clients", own.many, floor.many)
    return [
        metric
        for name, felt, least in pairs
        for metric in (
            Metric(f"floor, {name}", least.rate, "messages/s", how),
            Metric(f"floor's CPU, {name}", least.peer_cpu_ms_per_1000, "ms per 1,000", how),
            Metric(f"endpoint over its floor, {name}", felt.rate / least.rate, "x", "messages a second"),
        )
    ]


def _beside(peer: Felt) -> str:
    return f"the same load on both; mosquitto {peer.rate:,.0f}/s, {peer.peer_cpu_ms_per_1000:.1f} ms of CPU per 1,000"


def _median(rounds: list[_Felt]) -> _Felt:
    """Of each load, the round with the median rate."""
    middle = len(rounds) // 2
    ones, manys = ([felt.one for felt in rounds], [felt.many for felt in rounds])
    return _Felt(*(sorted(felt, key=lambda each: each.rate)[middle] for felt in (ones, manys)))
