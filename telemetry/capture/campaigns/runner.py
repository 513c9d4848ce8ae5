"""One campaign as it runs: what looks for its triggers, what retains its samples, what tells them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, assert_never

from ecu.clock import MILLISECOND_NS, SECOND_NS
from telemetry.capture.campaigns.admission import Task, range_of
from telemetry.capture.campaigns.blocks import Blocks
from telemetry.capture.campaigns.campaign import (
    Edge,
    ImplausibleRate,
    LastKnown,
    OnAnomaly,
    Once,
    OnChange,
    OnCondition,
    OutOfRange,
    Periodic,
    Residual,
    Stuck,
)
from telemetry.capture.campaigns.costs import CHANGES_EACH_MS, Signals, history_samples
from telemetry.capture.campaigns.edges import Edges
from telemetry.capture.campaigns.events import Windowed
from telemetry.capture.campaigns.gate import cut
from telemetry.capture.campaigns.laststate import LastStates
from telemetry.capture.campaigns.streams import ChangeStream, Stream
from telemetry.capture.campaigns.telling import Counts, Tell, Untold
from telemetry.capture.campaigns.watches import (
    AnomalyWatch,
    ConditionWatch,
    RangeTest,
    RateTest,
    ResidualWatch,
    Samples,
    StuckTest,
    Watch,
)
from telemetry.capture.expressions import Condition
from telemetry.capture.history import History, Keep
from telemetry.signals.schema import Columns
from telemetry.signals.state import STALE_AFTER_DEFAULT_NS

STALE_PERIODS = 3
STALE_FROM_NS = 100 * MILLISECOND_NS
STALE_TO_NS = 10 * SECOND_NS


class Teller(Protocol):
    """Turns what streams retain into what is told, in order of `due_ns`."""

    streams: tuple[Stream, ...]

    def tells(self, all_ns: int) -> Iterator[Tell]: ...
    def flush(self, all_ns: int) -> Iterator[Tell]: ...


class Runner:
    """Streams of its wishes, a teller, and for triggers a watch with its edges. `end_ns`: from then on, in boot time,
    it takes nothing; None while the wall clock isn't trusted."""

    def __init__(self, task: Task, signals: Signals) -> None:
        self.task = task
        self.campaign = task.campaign
        self.counts = Counts()
        self.end_ns: int | None = None
        self.teller = _teller(task, signals)
        self.watch = _watch(task, signals)
        self._edges = _edges(task)
        self.why = _why(task)
        self._streams: dict[int, list[Stream]] = {}
        for stream in self.teller.streams:
            self._streams.setdefault(stream.spec.group, []).append(stream)

    @property
    def wanted(self) -> frozenset[int]:
        """Groups that it tells."""
        return frozenset(self._streams)

    @property
    def hot(self) -> frozenset[int]:
        """Groups that its trigger needs at once."""
        return self.watch.groups if self.watch else frozenset()

    @property
    def behind_ns(self) -> int | None:
        """A trigger that waits for groups that haven't got so far."""
        return self.teller.behind_ns if isinstance(self.teller, Windowed) else None

    def has_ended(self, t_ns: int) -> bool:
        return self.end_ns is not None and t_ns >= self.end_ns

    def take(self, part: Columns) -> None:
        """What passed the gate, of a group that it tells."""
        if self.end_ns is not None and int(part.t_ns[-1]) >= self.end_ns:
            whole, part = part, self._until_end(part)
            self.counts.untold[Untold.ENDED] += len(whole.t_ns) - len(part.t_ns)
        for stream in self._streams[part.group]:
            stream.offer(part)

    def triggers(self, parts: Sequence[Columns]) -> Iterator[int]:
        """Instants at which its watch saw one, in order. `parts`: all that came of the groups of the watch."""
        if self.watch is None or self._edges is None:
            return
        if self.end_ns is not None:
            parts = [self._until_end(part) for part in parts]
        instants, states = self.watch.states([part for part in parts if len(part.t_ns)])
        if len(instants):
            yield from self._edges.triggers(instants, states)

    def read_counts(self) -> Counts:
        """With what rings, edges and watches have counted."""
        self.counts.untold[Untold.CUT_SHORT] = sum(stream.ring.cut for stream in self.teller.streams)
        self.counts.untold[Untold.INCOMPLETE] = sum(stream.incomplete for stream in self.teller.streams)
        self.counts.untold[Untold.COOLDOWN] = self._edges.cooled if self._edges else 0
        history = self.watch.history if self.watch else None
        self.counts.untold[Untold.CONDITION] = history.dropped if history else 0
        return self.counts

    def _until_end(self, part: Columns) -> Columns:
        assert self.end_ns is not None
        return cut(part, 0, int(part.t_ns.searchsorted(self.end_ns)))


def _teller(task: Task, signals: Signals) -> Teller:
    campaign, groups = task.campaign, signals.schema.groups
    match campaign.trigger:
        case OnChange(beyond=beyond):
            changing = [ChangeStream(spec, groups[spec.group], beyond) for spec in task.streams]
            return Blocks(changing, CHANGES_EACH_MS * MILLISECOND_NS)
        case trigger:
            streams = [Stream(spec, groups[spec.group]) for spec in task.streams]
    match trigger:
        case Periodic(period_ms=period_ms):
            return Blocks(streams, period_ms * MILLISECOND_NS)
        case LastKnown(period_ms=period_ms):
            return LastStates(streams, period_ms * MILLISECOND_NS, campaign.name, campaign.revision)
        case OnCondition() | OnAnomaly() | Once():
            return Windowed(campaign, trigger, streams)
        case _:
            assert_never(trigger)


def _why(task: Task) -> str:
    """What `Triggered` says; the rest is in the campaign's revision."""
    match task.campaign.trigger:
        case OnAnomaly(anomaly=anomaly):
            return anomaly.test
        case Once(id=number):
            return f"fetch {number}"
        case trigger:
            return "condition" if isinstance(trigger, OnCondition) else ""


def _edges(task: Task) -> Edges | None:
    match task.campaign.trigger:
        case OnCondition(edge=edge, cooldown_ms=cooldown_ms):
            return Edges(edge, cooldown_ms)
        case OnAnomaly(cooldown_ms=cooldown_ms):
            return Edges(Edge.RISING, cooldown_ms)
        case _:
            return None


def _watch(task: Task, signals: Signals) -> Watch | None:
    match task.campaign.trigger:
        case OnCondition() if task.expression is not None:
            history, groups = _history(task.expression, signals)
            return ConditionWatch(task.expression, history, groups)
        case OnAnomaly() as trigger:
            return _anomaly(trigger, task, signals)
        case _:
            return None


def _anomaly(trigger: OnAnomaly, task: Task, signals: Signals) -> Watch:
    samples = Samples(signals.sources[trigger.signal], signals.schema)
    match trigger.anomaly:
        case Stuck(for_ms=for_ms):
            return AnomalyWatch(samples, StuckTest(for_ms, stale_after_ns(trigger.signal, signals)))
        case OutOfRange() as anomaly:
            minimum, maximum = range_of(anomaly, trigger.signal, signals)
            return AnomalyWatch(samples, RangeTest(*_limits(minimum, maximum)))
        case ImplausibleRate(max_per_s=max_per_s):
            return AnomalyWatch(samples, RateTest(max_per_s))
        case Residual() as residual:
            assert task.expression is not None
            history, groups = _history(task.expression, signals)
            return ResidualWatch(samples, task.expression, history, groups, residual)
        case _:
            assert_never(trigger.anomaly)


def _limits(minimum: float | None, maximum: float | None) -> tuple[float, float]:
    return float("-inf") if minimum is None else minimum, float("inf") if maximum is None else maximum


def _history(expression: Condition, signals: Signals) -> tuple[History, frozenset[int]]:
    """In the memory that admission summed up, and the groups that it needs."""
    keeps = {
        path: Keep(history_samples(path, window_ms, signals), stale_after_ns(path, signals))
        for path, window_ms in expression.windows_ms.items()
    }
    groups = frozenset(group for path in expression.paths for group, _ in signals.sources[path])
    return History(signals.schema, keeps), groups


def stale_after_ns(path: str, signals: Signals) -> int:
    """How long a value is believed: three periods of the slowest group that tells it, within bounds."""
    periods = [signals.schema.groups[group].period_us for group, _ in signals.sources[path]]
    known = [period for period in periods if period is not None]
    if not known:
        return STALE_AFTER_DEFAULT_NS
    return min(max(STALE_PERIODS * max(known) * 1000, STALE_FROM_NS), STALE_TO_NS)
