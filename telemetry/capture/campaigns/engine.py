"""The engine: batches of signals in, records out.

It has no clock. Time is what `feed` says is complete: all samples of all groups, or of the `hot` ones, have been given
up to `until_ns`. What it tells depends on the samples alone, never on how they were cut into batches (law 7); records
come in one total order, by when nothing can change them any more, then by campaign.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from ecu.clock import MILLISECOND_NS, SECOND_NS
from telemetry.capture.campaigns.admission import Admitted, Idle
from telemetry.capture.campaigns.book import CampaignBook
from telemetry.capture.campaigns.campaign import Clip, Once, Windows
from telemetry.capture.campaigns.costs import STEP_MS
from telemetry.capture.campaigns.events import Fired, Windowed
from telemetry.capture.campaigns.gate import Gate, cut, hertz
from telemetry.capture.campaigns.purse import Purse
from telemetry.capture.campaigns.runner import Runner
from telemetry.capture.campaigns.telling import ClipWanted, Tell, Untold
from telemetry.records import AnyEvent, Record, SignalBlock, encode_event
from telemetry.signals.schema import Columns, Schema

RECORD_BYTES: Final = 24
"""Of a record, beside its event: its stamps and its place."""
_STEP_NS: Final = STEP_MS * MILLISECOND_NS


class Packed(Protocol):
    """A block that fits one record, and its first sample's time."""

    @property
    def t_ns(self) -> int: ...
    @property
    def data(self) -> bytes: ...


Pack = Callable[[Sequence[Columns]], Sequence[Packed]]
"""Samples as blocks (docs/formats/columns.md), by rising time. It keeps none of the arrays it is given."""


@dataclass(slots=True)
class EngineOutput:
    """What a step brought, in order. Clips are wanted at once, records when they are complete."""

    records: list[Record] = field(default_factory=list)
    clips: list[ClipWanted] = field(default_factory=list)


class CampaignEngine:
    """Runs what was admitted. Until `adopt` it wants nothing; without a camera no clips."""

    def __init__(self, schema: Schema, pack: Pack, book: CampaignBook, *, has_camera: bool = True) -> None:
        self._has_camera = has_camera
        self.hot: frozenset[int] = frozenset()
        self.wanted: frozenset[int] = frozenset()
        self.idle: Mapping[str, Idle] = {}
        self._schema = schema
        self._pack = pack
        self._book = book
        self._purse: Purse | None = None
        self._runners: list[Runner] = []
        self._takers: dict[int, list[Runner]] = {}
        self._gates: dict[int, Gate] = {}
        self._hot_ns = self._all_ns = -1
        self._offset_ns: int | None = None
        self._output = EngineOutput()

    # --- campaigns ------------------------------------------------------------------------------------

    def adopt(self, admitted: Admitted, at_ns: int) -> EngineOutput:
        """From `at_ns` on this set runs; everything up to then has been given. Campaigns that didn't change go on as if
        nothing had happened. The others tell what they have, and new ones begin with nothing."""
        if admitted.signals.schema.digest != self._schema.digest:
            raise ValueError("the set was admitted for other signals than the engine's")
        self._run([], at_ns, hot_only=False)
        kept = {runner.campaign.name: runner for runner in self._runners}
        running, new = [], []
        for task in (task for task in admitted.tasks if task.idle is None):
            runner = kept.get(task.campaign.name)
            if runner is not None and runner.task == task:
                running.append(kept.pop(task.campaign.name))
            else:
                new.append(Runner(task, admitted.signals))
                running.append(new[-1])
        for runner, once in (fetches := list(_fetches(new))):
            self._begin(runner, once, at_ns)
        self._tell((runner, tell) for runner in kept.values() for tell in runner.teller.flush(at_ns))
        self._purse = Purse(self._book, admitted)
        self._install(running, admitted)
        for runner, once in fetches:
            self._fetch(runner, once, at_ns)
        return self._taken_out()

    def set_wall(self, offset_ns: int | None) -> None:
        """What to add to boot time for the believed wall time; None while that isn't trusted: then nothing ends."""
        self._offset_ns = offset_ns
        for runner in self._runners:
            runner.end_ns = None if offset_ns is None else runner.campaign.not_after * SECOND_NS - offset_ns

    # --- samples --------------------------------------------------------------------------------------

    def feed(self, parts: Sequence[Columns], until_ns: int, *, hot_only: bool = False) -> EngineOutput:
        """What came of any groups, each once and in order of time. With it everything up to `until_ns` has been given:
        of all groups, or with `hot_only` of the hot ones."""
        frontier_ns = self._hot_ns if hot_only else self._all_ns
        for step, end_ns in _steps(parts, frontier_ns, until_ns):
            self._run(step, end_ns, hot_only)
        self._book.tick(until_ns)
        return self._taken_out()

    @property
    def behind_ns(self) -> int | None:
        """The instant of a trigger that waits for groups that aren't hot: feed all up to now at once. None when none
        does."""
        waiting = [runner.behind_ns for runner in self._runners if runner.hot]
        return min((t_ns for t_ns in waiting if t_ns is not None and t_ns > self._all_ns), default=None)

    def close(self, at_ns: int) -> EngineOutput:
        """The orderly end: what is retained and due is told, and the book closed."""
        self._run([], at_ns, hot_only=False)
        self._tell((runner, tell) for runner in self._runners for tell in runner.teller.flush(at_ns))
        self._book.close(at_ns)
        return self._taken_out()

    def counts(self) -> dict[str, dict[str, int]]:
        """By campaign what was told and what wasn't, by reason; under "" what no campaign was given."""
        unfit = Counter[str]()
        for gate in self._gates.values():
            unfit.update({str(reason): count for reason, count in gate.unfit.items()})
        told = {runner.campaign.name: runner.read_counts().as_numbers() for runner in self._runners}
        return {"": {**unfit, "book_failures": self._book.failures}, **told}

    # --- how ------------------------------------------------------------------------------------------

    def _install(self, running: list[Runner], admitted: Admitted) -> None:
        self._runners = running
        self.idle = {task.campaign.name: task.idle for task in admitted.tasks if task.idle is not None}
        self.hot = frozenset[int]().union(*(runner.hot for runner in running))
        self.wanted = self.hot.union(*(runner.wanted for runner in running))
        self._takers = {group: [runner for runner in running if group in runner.wanted] for group in self.wanted}
        assumed_hz = admitted.signals.floor.assumed_hz
        groups = self._schema.groups
        self._gates = {
            group: self._gates.get(group) or Gate(hertz(groups[group], assumed_hz)) for group in sorted(self.wanted)
        }
        self.set_wall(self._offset_ns)

    def _run(self, parts: Sequence[Columns], until_ns: int, hot_only: bool) -> None:
        """One step. The hot groups' frontier is never behind that of all."""
        passed = list(self._passing(parts, until_ns))
        for part in passed:
            for runner in self._takers[part.group]:
                runner.take(part)
        self._hot_ns = max(self._hot_ns, until_ns)
        self._look(passed)
        if not hot_only:
            self._all_ns = max(self._all_ns, until_ns)
            self._tell((runner, tell) for runner in self._runners for tell in runner.teller.tells(self._all_ns))

    def _passing(self, parts: Iterable[Columns], until_ns: int) -> Iterator[Columns]:
        for part in parts:
            gate = self._gates.get(part.group)
            if gate is not None:
                frontier_ns = self._hot_ns if part.group in self.hot else self._all_ns
                passed = gate.passing(part, frontier_ns, until_ns)
                if passed is not None:
                    yield passed

    def _look(self, passed: Sequence[Columns]) -> None:
        """Of several campaigns' triggers the earlier goes first: its pictures are paid for first."""
        seen = []
        for number, runner in enumerate(self._runners):
            parts = [part for part in passed if part.group in runner.hot] if runner.hot else []
            if parts:
                seen += [(t_ns, number) for t_ns in runner.triggers(parts)]
        for t_ns, number in sorted(seen):
            self._fire(self._runners[number], t_ns)

    def _fire(self, runner: Runner, t_ns: int) -> None:
        assert isinstance(runner.teller, Windowed)
        assert isinstance(runner.campaign.trigger, Windows)
        failures = self._book.failures
        number = self._book.take_trigger(runner.campaign.name, runner.campaign.trigger.max_per_day, t_ns)
        if number is None:
            failed = self._book.failures > failures or self._book.withholds(t_ns)
            runner.counts.untold[Untold.BOOK if failed else Untold.MAX_PER_DAY] += 1
            return
        runner.counts.triggers += 1
        runner.teller.fire(Fired(number, t_ns, runner.why))
        if runner.campaign.clip is not None:
            self._want_clip(runner, runner.campaign.clip, number, t_ns)

    def _want_clip(self, runner: Runner, clip: Clip, number: int, t_ns: int) -> None:
        assert self._purse is not None
        if not self._has_camera:
            runner.counts.untold[Untold.NO_CAMERA] += 1
        elif self._purse.take_clip(runner.campaign, t_ns):
            runner.counts.clips += 1
            name, revision = runner.campaign.name, runner.campaign.revision
            self._output.clips.append(ClipWanted(name, revision, number, t_ns, clip.before, clip.after))
        else:
            runner.counts.untold[Untold.CLIP_BUDGET] += 1

    def _begin(self, runner: Runner, once: Once, at_ns: int) -> None:
        """A fetch on demand begins with what any ring holds of its signals."""
        rings = [stream for other in self._runners for stream in other.teller.streams]
        for stream in runner.teller.streams:
            stream.begin_with(rings, at_ns - once.pre_ms * MILLISECOND_NS)

    def _fetch(self, runner: Runner, once: Once, at_ns: int) -> None:
        name, book = runner.campaign.name, self._book
        if runner.has_ended(at_ns):
            return
        if book.has_fetched(name, once.id):
            runner.counts.untold[Untold.FETCHED] += 1
        elif not book.take_fetch(name, once.id, at_ns):
            runner.counts.untold[Untold.BOOK] += 1
        else:
            self._fire(runner, at_ns)

    def _tell(self, tells: Iterable[tuple[Runner, Tell]]) -> None:
        """In the order in which they became certain; of the same instant, in the order of the campaigns."""
        for runner, tell in sorted(tells, key=lambda told: told[1].due_ns):
            if tell.event is not None:
                self._record(runner, tell.event, tell.captured_ns, tell.due_ns)
            else:
                self._blocks(runner, tell)

    def _blocks(self, runner: Runner, tell: Tell) -> None:
        assert self._purse is not None
        why = self._purse.why_empty(runner.campaign, tell.due_ns)
        if why is not None:
            runner.counts.untold[why] += 1
            return
        name, revision = runner.campaign.name, runner.campaign.revision
        blocks = self._pack(tell.parts)
        told = [
            self._record(runner, SignalBlock(name, revision, block.data), block.t_ns, tell.due_ns) for block in blocks
        ]
        if all(told):
            runner.counts.samples += sum(_samples(part) for part in tell.parts)

    def _record(self, runner: Runner, event: AnyEvent, captured_ns: int, due_ns: int) -> bool:
        assert self._purse is not None
        campaign, counts = runner.campaign, runner.counts
        amount = len(encode_event(event)) + RECORD_BYTES
        why = self._purse.take(campaign, amount, due_ns)
        if why is not None:
            counts.untold[why] += 1
            return False
        counts.records += 1
        counts.bytes += amount
        keep_s = campaign.budget.keep_s
        self._output.records.append(Record(campaign.lane, campaign.purpose, captured_ns, event, keep_s))
        return True

    def _taken_out(self) -> EngineOutput:
        output, self._output = self._output, EngineOutput()
        return output


def _fetches(runners: Iterable[Runner]) -> Iterator[tuple[Runner, Once]]:
    for runner in runners:
        if isinstance(runner.campaign.trigger, Once):
            yield runner, runner.campaign.trigger


def _samples(part: Columns) -> int:
    return len(part.t_ns) * sum(column is not None for column in part.values)


def _steps(parts: Sequence[Columns], from_ns: int, until_ns: int) -> Iterator[tuple[Sequence[Columns], int]]:
    """The parts up to the end of each step; time in which nothing came is one step, however long."""
    while until_ns - from_ns > _STEP_NS:
        first_ns = min((int(part.t_ns[0]) for part in parts if len(part.t_ns)), default=until_ns)
        end_ns = max(from_ns, first_ns) + _STEP_NS
        if end_ns >= until_ns:
            break
        splits = [int(part.t_ns.searchsorted(end_ns, "right")) for part in parts]
        yield [cut(part, 0, row) for part, row in zip(parts, splits, strict=True) if row], end_ns
        parts = [cut(part, row, len(part.t_ns)) for part, row in zip(parts, splits, strict=True)]
        from_ns = end_ns
    yield parts, until_ns
