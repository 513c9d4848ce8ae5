"""Raw frames and told values in, what campaigns make of them out: decoding, privacy, engine and codec, joined.

No process, no clock and no waiting: whoever owns it says how far time has come. What a trigger looks at is decoded at
once, everything else once a second: most of a bus is only stored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from telemetry.capture.campaigns.admission import Admitted, admit
from telemetry.capture.campaigns.book import CampaignBook
from telemetry.capture.campaigns.campaign import Campaign, CampaignSet, OnAnomaly
from telemetry.capture.campaigns.engine import CampaignEngine, EngineOutput
from telemetry.capture.campaigns.floor import CampaignFloor
from telemetry.capture.campaigns.gate import cut
from telemetry.capture.campaigns.parsing import expression_of, parse_campaigns
from telemetry.capture.campaigns.telling import ClipWanted
from telemetry.capture.expressions import parse
from telemetry.columns.block import Naming
from telemetry.columns.cutting import Cut, pack, room_for
from telemetry.privacy.columns import ColumnPrivacy, rounded_times
from telemetry.privacy.policy import PrivacyPolicy
from telemetry.privacy.position import is_coordinate
from telemetry.records import Record
from telemetry.signals import vss
from telemetry.signals.decode import Decoder
from telemetry.signals.frames import Frames, concat, no_frames
from telemetry.signals.nmea import GNSS_GROUPS
from telemetry.signals.plan import SignalPlan
from telemetry.signals.schema import Columns, Form, Group, Schema, SignalSpec, physical

FOREIGN: Final = "Vehicle.Outrider."
"""What the agent tells although a plan says which signals there are."""
COLD_EVERY_NS: Final = 1_000_000_000
MOST_TOLD: Final = 8192
"""Values that the agent told and that wait for the next step."""
_LONGEST_NAME: Final = "x" * 48
_LARGEST_REVISION: Final = 1 << 40


@dataclass(slots=True)
class Output:
    """What a step brought, in order."""

    records: list[Record] = field(default_factory=list)
    clips: list[ClipWanted] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=dict)

    def add(self, output: EngineOutput) -> None:
        self.records += output.records
        self.clips += output.clips


@dataclass(frozen=True, slots=True)
class _Signals:
    """All that there is to know for one schema: the plan's groups first, then the GNSS receiver's, then one for
    each path that is told."""

    schema: Schema
    foreign: Mapping[str, int]


class Capturing:
    """`wanted_values` are paths whose last values each step brings; `max_event_bytes` is the longest event that the
    spool takes. `book` says what campaigns may still tell. `has_gnss`: a receiver's columns come, too; `has_camera`:
    clips can be had."""

    def __init__(
        self,
        plan: SignalPlan | None,
        policy: PrivacyPolicy,
        floor: CampaignFloor,
        book: CampaignBook,
        max_event_bytes: int,
        wanted_values: Collection[str] = (),
        *,
        has_gnss: bool = False,
        has_camera: bool = True,
    ) -> None:
        self.untaken = 0
        """Values that the agent told and that found no room."""
        self.late = 0
        """Frames stamped before what had been told already: they are lost."""
        self.restamped = 0
        """Values that the agent told so late that they are taken to be of now."""
        self.unfit = 0
        """Rows that no record could hold."""
        self._plan = plan
        self._gnss = GNSS_GROUPS if has_gnss else ()
        self._has_camera = has_camera
        self._policy = policy
        self._floor = floor
        self._book = book
        self._max_block_bytes = room_for(_LONGEST_NAME, _LARGEST_REVISION, max_event_bytes)
        self._wanted_values = frozenset(wanted_values)
        self._signals = self._with_foreign(self._places_told())
        self._engine = self._new_engine()
        self._privacy = ColumnPrivacy(self._signals.schema, policy)
        self._wall_offset_ns: int | None = None
        self._frames: list[Frames] = []
        self._cold: list[Frames] = []
        self._told: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
        self._columns: list[Columns] = []
        self._told_count = 0
        self._hot_ns = self._cold_ns = -1
        self._decoders: tuple[Decoder | None, Decoder | None] = (None, None)
        self._short = 0
        self._choose()

    # --- campaigns ----------------------------------------------------------------------------------

    def take(self, data: bytes, at_ns: int, now_s: float | None) -> tuple[Admitted, Output]:
        """From `at_ns` on these run; everything before has been given. Raises CampaignsRefused; those before go on."""
        campaigns = parse_campaigns(data)
        signals = self._with_foreign({*self._places_told(), *self._signals.foreign, *self._foreign_paths(campaigns)})
        admitted = admit(campaigns, signals.schema, self._floor, self._policy, now_s)
        output = self.step(at_ns, everything=True)
        if signals.schema.digest != self._signals.schema.digest:
            output.add(self._engine.close(at_ns))
            self._signals = signals
            self._engine = self._new_engine()
            self._engine.set_wall(self._wall_offset_ns)
            self._privacy = ColumnPrivacy(signals.schema, self._policy, self._privacy)
        output.add(self._engine.adopt(admitted, at_ns))
        self._choose()
        return admitted, output

    def set_wall(self, offset_ns: int | None) -> None:
        """What to add to boot time for the believed wall time; None while that isn't trusted."""
        self._wall_offset_ns = offset_ns
        self._engine.set_wall(offset_ns)

    def _places_told(self) -> set[str]:
        """Without a plan the vehicle's position comes from the agent; zones need it though no campaign wants it."""
        return set() if self._plan is not None else {vss.LATITUDE, vss.LONGITUDE}

    def _foreign_paths(self, campaigns: CampaignSet) -> Iterator[str]:
        paths = (path for campaign in campaigns.campaigns for path in _paths_of(campaign))
        return (path for path in paths if self._plan is None or path.startswith(FOREIGN))

    def _with_foreign(self, paths: Collection[str]) -> _Signals:
        steady = (*(self._plan.schema.groups if self._plan is not None else ()), *self._gnss)
        known = {signal.path for group in steady for signal in group.signals}
        foreign = sorted(set(paths) - known)
        groups = tuple(Group(path, (SignalSpec(path, Form.FLOAT),)) for path in foreign)
        return _Signals(Schema((*steady, *groups)), {path: len(steady) + i for i, path in enumerate(foreign)})

    def _new_engine(self) -> CampaignEngine:
        return CampaignEngine(self._signals.schema, self._packed, self._book, has_camera=self._has_camera)

    def _packed(self, parts: Sequence[Columns]) -> list[Cut]:
        """Inline: a block can be read by itself, whatever becomes of the plan."""
        rounded = rounded_times(parts, self._policy.time_round_ms)
        try:
            return pack(rounded, self._signals.schema, self._max_block_bytes, Naming.INLINE)
        except ValueError:  # one instant of it is more than a record holds
            self.unfit += sum(map(len, parts))
            return []

    # --- samples ------------------------------------------------------------------------------------

    def tell(self, t_ns: int, values: Mapping[str, float]) -> None:
        """Values of paths that no bus tells. What is older than what was told already is taken to be of now."""
        for path, value in values.items():
            if path not in self._signals.foreign:
                continue
            if self._told_count >= MOST_TOLD:
                self.untaken += 1
                continue
            self._told[path].append((t_ns, value))
            self._told_count += 1

    @property
    def gnss_group(self) -> int:
        """The number of the first of GNSS_GROUPS; no campaign changes it."""
        return len(self._plan.schema.groups) if self._plan is not None else 0

    def tell_columns(self, parts: Iterable[Columns]) -> None:
        """Of the receiver's groups, each in order of time over all calls. As with `tell`, what is late is of now."""
        for part in parts:
            if self._told_count + len(part) > MOST_TOLD:
                self.untaken += len(part)
                continue
            self._columns.append(part)
            self._told_count += len(part)

    def hear(self, frames: Frames) -> None:
        """Frames of a bus, in order of time over all calls."""
        if len(frames):
            self._frames.append(frames)

    def step(self, until_ns: int, everything: bool = False) -> Output:
        """All that is known up to `until_ns`; `everything`: of what is only stored, too."""
        output = Output()
        while until_ns > self._hot_ns:
            self._heat(end_ns := self._reach(until_ns), output)
            if end_ns < until_ns:
                self._chill(output)
        waiting_ns = self._engine.behind_ns
        if everything or self._hot_ns - self._cold_ns >= COLD_EVERY_NS or waiting_ns is not None:
            self._chill(output)
        return output

    def close(self, at_ns: int) -> Output:
        """The orderly end: what is retained and due is told."""
        output = self.step(at_ns, everything=True)
        output.add(self._engine.close(at_ns))
        return output

    def counts(self) -> dict[str, dict[str, int]]:
        counts = self._engine.counts()
        own = {
            "untaken": self.untaken,
            "late": self.late,
            "restamped": self.restamped,
            "unfit": self.unfit,
            "short": self.short,
            **{f"private_{why}": n for why, n in self._privacy.dropped.items()},
        }
        return {**counts, "": {**counts.get("", {}), **own}}

    @property
    def short(self) -> int:
        """Frames that had fewer bytes than the plan says, by each group that is cut from them."""
        return self._short + sum(decoder.short.total() for decoder in self._decoders if decoder is not None)

    @property
    def idle(self) -> Mapping[str, str]:
        return {name: why.value for name, why in self._engine.idle.items()}

    # --- inside -------------------------------------------------------------------------------------

    def _reach(self, until_ns: int) -> int:
        """How far a step may go: rings are as long as what is only stored lags, and no longer."""
        if until_ns - self._hot_ns <= COLD_EVERY_NS:
            return until_ns
        firsts = [int(frames.t_ns[0]) for frames in self._frames]
        firsts += [t_ns for pairs in self._told.values() for t_ns, _ in pairs]
        firsts += [int(part.t_ns[0]) for part in self._columns if len(part)]
        first_ns = max(self._hot_ns, min(firsts, default=until_ns))
        return min(until_ns, first_ns + COLD_EVERY_NS)

    def _heat(self, until_ns: int, output: Output) -> None:
        frames = self._up_to(until_ns)
        self._cold.append(frames)
        hot, _ = self._decoders
        decoded = hot.decode(frames) if hot is not None else ()
        parts = [*decoded, *self._columns_up_to(until_ns), *self._told_columns(until_ns)]
        output.values |= self._last_values(parts)
        output.add(self._engine.feed(self._privacy.treat(parts), until_ns, hot_only=True))
        self._hot_ns = until_ns

    def _chill(self, output: Output) -> None:
        if self._hot_ns <= self._cold_ns:
            return
        _, cold = self._decoders
        frames = concat(self._cold) if cold is not None else no_frames()
        self._cold.clear()
        parts = cold.decode(frames) if cold is not None and len(frames) else []
        output.add(self._engine.feed(self._privacy.treat(parts), self._hot_ns))
        self._cold_ns = self._hot_ns

    def _up_to(self, until_ns: int) -> Frames:
        frames = concat(self._frames)
        end = int(np.searchsorted(frames.t_ns, until_ns, side="right"))
        begin = int(np.searchsorted(frames.t_ns[:end], self._hot_ns, side="right"))
        self.late += begin
        self._frames = [frames.rows(slice(end, None))] if end < len(frames) else []
        return frames.rows(slice(begin, end))

    def _columns_up_to(self, until_ns: int) -> Iterator[Columns]:
        waiting, self._columns = self._columns, []
        for part in waiting:
            end = int(np.searchsorted(part.t_ns, until_ns, side="right"))
            self._told_count -= end
            if end < len(part):
                self._columns.append(cut(part, end, len(part)))
            if end:
                now = cut(part, 0, end)
                yield replace(now, t_ns=self._not_late(now.t_ns.tolist()))

    def _told_columns(self, until_ns: int) -> Iterator[Columns]:
        """Those of now; what is of later waits, by its path: its group's number may be another then."""
        for path, pairs in sorted(self._told.items()):
            pairs.sort(key=_time_of)
            now = [pair for pair in pairs if pair[0] <= until_ns]
            later = pairs[len(now) :]
            self._told_count -= len(now)
            if later:
                self._told[path] = later
            else:
                del self._told[path]
            if now:
                group = self._signals.foreign[path]
                yield Columns(group, self._not_late([t_ns for t_ns, _ in now]), (np.array([v for _, v in now]),))

    def _not_late(self, t_ns: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        self.restamped += sum(at <= self._hot_ns for at in t_ns)
        return np.maximum(np.array(t_ns, np.int64), self._hot_ns + 1)

    def _last_values(self, parts: Iterable[Columns]) -> dict[str, float]:
        values: dict[str, float] = {}
        for part in parts:
            specs = self._signals.schema.groups[part.group].signals
            for spec, raw in zip(specs, part.values, strict=True):
                if raw is not None and spec.path in self._wanted_values:
                    values[spec.path] = float(physical(spec, raw[-1:])[0])
        return values

    def _choose(self) -> None:
        """Which groups are decoded at once and which later; none that nobody wants."""
        if self._plan is None:
            return
        self._short = self.short
        planned = range(len(self._plan.schema.groups))
        hot = {group for group in planned if group in self._engine.hot or self._is_always_hot(group)}
        cold = {group for group in planned if group in self._engine.wanted} - hot
        self._decoders = (Decoder(self._plan, hot) if hot else None, Decoder(self._plan, cold) if cold else None)

    def _is_always_hot(self, group: int) -> bool:
        """The agent's own rules look at it, or it says where the vehicle is."""
        paths = {signal.path for signal in self._signals.schema.groups[group].signals}
        return bool(paths & self._wanted_values) or any(map(is_coordinate, paths))


def _paths_of(campaign: Campaign) -> Iterator[str]:
    """Every signal that it names."""
    yield from (wish.path for wish in campaign.signals)
    if isinstance(campaign.trigger, OnAnomaly):
        yield campaign.trigger.signal
    if (expression := expression_of(campaign)) is not None:
        yield from parse(expression[1], kind=expression[2]).paths


def _time_of(pair: tuple[int, float]) -> int:
    return pair[0]
