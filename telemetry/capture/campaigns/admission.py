"""Whether a vehicle carries out a set of campaigns: decided before any of them runs, over all of them together, with
numbers (law 11).

What is wrong with a set, or costs too much, refuses it whole. What only this vehicle's owner doesn't want makes a
campaign idle, or leaves out a signal, and the others run: else one owner's wish would stop a whole fleet's campaigns,
and a refusal would tell which wish it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from itertools import islice
from typing import Any, Final

from ecu.errors import shown
from ecu.toml import nearest
from telemetry.capture.campaigns.campaign import (
    Campaign,
    CampaignSet,
    CampaignsRefused,
    LastKnown,
    OnAnomaly,
    OnChange,
    OutOfRange,
    Periodic,
)
from telemetry.capture.campaigns.costs import Cost, Signals, cost_of, history_samples, streams_for, told_per_day
from telemetry.capture.campaigns.floor import CampaignFloor
from telemetry.capture.campaigns.parsing import expression_of
from telemetry.capture.campaigns.streams import StreamSpec
from telemetry.capture.campaigns.work import work_per_s
from telemetry.capture.expressions import BadExpression, Condition, parse
from telemetry.capture.history import MAX_SAMPLES
from telemetry.privacy.policy import Position, PrivacyPolicy
from telemetry.privacy.position import is_within, places_of
from telemetry.privacy.stage import PURPOSES_OF_CAMPAIGNS, DenyList
from telemetry.records import Lane, Purpose
from telemetry.signals.schema import Schema

MOST_NAMED: Final = 3
MOST_COMPARED: Final = 500
MOST_REASONS: Final = 16
"""What is wrong with single campaigns; beyond it nobody reads on."""


class Idle(StrEnum):
    """Why a campaign that was taken does nothing."""

    NO_CONSENT = "no_consent"  # its purpose waits for the owner's consent
    DENIED = "denied"  # the owner denies it, or what its trigger would read, or positions as exact as that needs
    NOTHING_LEFT = "nothing_left"  # the deny-list took all that it wanted
    ENDED = "ended"  # not_after has passed


@dataclass(frozen=True, slots=True)
class Task:
    """A campaign as this vehicle carries it out. `withheld`: what it wanted and the deny-list took."""

    campaign: Campaign
    idle: Idle | None
    withheld: tuple[str, ...]
    streams: tuple[StreamSpec, ...]
    expression: Condition | None
    cost: Cost


@dataclass(frozen=True, slots=True)
class Admitted:
    """A set that runs here. `cost` is of all that haven't ended, idle ones too: later consent refuses none."""

    revision: int
    signals: Signals
    tasks: tuple[Task, ...]
    cost: Cost


def admit(
    campaigns: CampaignSet, schema: Schema, floor: CampaignFloor, privacy: PrivacyPolicy, now_s: float | None
) -> Admitted:  # fmt: skip
    """`now_s`: seconds since 1970, None while the clock isn't trusted: then nothing has ended. Raises CampaignsRefused
    with every reason, of single campaigns up to MOST_REASONS."""
    vehicle = _Vehicle(Signals(schema, floor), privacy)
    wrong = list(islice(_wrong(campaigns, vehicle), MOST_REASONS))
    unfit = {number for number, _ in wrong}
    tasks = [
        _task(campaign, vehicle, now_s) for number, campaign in enumerate(campaigns.campaigns) if number not in unfit
    ]
    running = [task for task in tasks if task.idle is not Idle.ENDED]
    cost = sum((task.cost for task in running), Cost())
    reasons = [reason for _, reason in wrong] + list(_of_the_sum(running, cost, floor))
    if reasons:
        remedy = "Sign a set that fits; the ones before stay."
        raise CampaignsRefused(f"Campaigns of revision {campaigns.revision} are refused here", tuple(reasons), remedy)
    return Admitted(campaigns.revision, vehicle.signals, tuple(tasks), cost)


@dataclass(frozen=True)
class _Vehicle:
    signals: Signals
    privacy: PrivacyPolicy

    @cached_property
    def denies(self) -> Callable[[str], bool]:
        return DenyList(self.privacy.deny).names

    @cached_property
    def places(self) -> frozenset[str]:
        """Branches that a position lies in."""
        return frozenset(places_of(self.signals.sources))

    def hides_from_triggers(self, path: str) -> bool:
        """When a trigger reads it, its instants tell of it: what is denied, and a position that may not be exact."""
        is_inexact = self.privacy.position is not Position.EXACT
        return self.denies(path) or (is_inexact and is_within(path, self.places))


# --- what is wrong ------------------------------------------------------------------------------------


def _wrong(campaigns: CampaignSet, vehicle: _Vehicle) -> Iterator[tuple[int, str]]:
    """Each reason with the campaign's number, -1 for the set's own, found as it is asked for."""
    yield from ((-1, reason) for reason in _of_the_set(campaigns, vehicle))
    for number, campaign in enumerate(campaigns.campaigns):
        yield from ((number, f"campaigns[{number}].{reason}") for reason in _of_one(campaign, vehicle))


def _of_the_set(campaigns: CampaignSet, vehicle: _Vehicle) -> Iterator[str]:
    if not vehicle.signals.floor.enabled:
        yield "this vehicle's owner hasn't allowed campaigns ([campaigns] enabled)"
    asked, most = len(campaigns.campaigns), vehicle.signals.floor.max_campaigns
    if asked > most:
        yield f"they are {asked}, the most here are {most}"
    digest = vehicle.signals.schema.digest.hex()
    if campaigns.schema_digest not in ("", digest):
        yield f"schema_digest: they are for signals {campaigns.schema_digest}, this vehicle's are {digest}"


def _of_one(campaign: Campaign, vehicle: _Vehicle) -> Iterator[str]:
    yield from _of_its_signals(campaign, vehicle)
    yield from _of_its_lane(campaign, vehicle.signals.floor)
    match campaign.trigger:
        case Periodic(period_ms=period_ms) | LastKnown(period_ms=period_ms):
            shortest_ms = vehicle.signals.floor.shortest_period_ms
            if period_ms < shortest_ms:
                yield f"trigger.period_ms: it is {period_ms}, the shortest here is {shortest_ms}"
        case OnAnomaly():
            yield from _of_its_anomaly(campaign.trigger, vehicle)
        case _:
            pass
    if isinstance(campaign.trigger, Periodic | LastKnown | OnChange):
        if not campaign.signals:
            yield "signals: it names none, so it would tell nothing"
        yield from _of_its_budget(campaign, vehicle)


def _of_its_signals(campaign: Campaign, vehicle: _Vehicle) -> Iterator[str]:
    for number, wish in enumerate(campaign.signals):
        if wish.path not in vehicle.signals.sources:
            yield f"signals[{number}].path: {_unknown(wish.path, vehicle)}"
    expression = expression_of(campaign)
    if expression is not None:
        key, text, kind = expression
        try:
            windows_ms = parse(text, kind=kind).windows_ms
        except BadExpression as error:
            yield f"{key}: {shown(error).rstrip('.')}"
        else:
            yield from (f"{key}: {reason}" for reason in _of_its_windows(windows_ms, vehicle))


def _of_its_windows(windows_ms: Mapping[str, int], vehicle: _Vehicle) -> Iterator[str]:
    for path, window_ms in windows_ms.items():
        if path not in vehicle.signals.sources:
            yield _unknown(path, vehicle)
        elif (samples := history_samples(path, window_ms, vehicle.signals)) > MAX_SAMPLES:
            yield f"{window_ms} ms of {path} may be {samples} samples, the most are {MAX_SAMPLES}"


def _unknown(path: str, vehicle: _Vehicle) -> str:
    like = nearest(path, _alike(path, vehicle.signals.sources))
    return f"the vehicle has no signal {shown(path)}" + (f", the nearest is {like}" if like else "")


def _alike(path: str, known: Iterable[str]) -> list[str]:
    """Of many paths those that have the branch or the leaf right: the nearest of all takes long to find."""
    paths = sorted(known)
    if len(paths) <= MOST_COMPARED:
        return paths
    branch, _, leaf = path.rpartition(".")
    split = [(other, other.rpartition(".")) for other in paths]
    return [other for other, found in split if found[0] == branch or found[2] == leaf][:MOST_COMPARED]


def _of_its_lane(campaign: Campaign, floor: CampaignFloor) -> Iterator[str]:
    if campaign.purpose not in PURPOSES_OF_CAMPAIGNS:
        allowed = ", ".join(purpose.name.lower() for purpose in sorted(PURPOSES_OF_CAMPAIGNS))
        yield f"purpose: it is {campaign.purpose.name.lower()}, those of campaigns are {allowed}"
    if campaign.lane not in floor.lanes:
        allowed = ", ".join(lane.name for lane in sorted(floor.lanes)) or "none"
        yield f"lane: it is {campaign.lane.name}, those for campaigns here are {allowed}"
    if campaign.lane is Lane.P0 and campaign.purpose is not Purpose.SAFETY:
        yield f"lane: P0 is for safety, its purpose is {campaign.purpose.name.lower()}"


def _of_its_anomaly(trigger: OnAnomaly, vehicle: _Vehicle) -> Iterator[str]:
    sources = vehicle.signals.sources.get(trigger.signal)
    if sources is None:
        yield f"trigger.signal: {_unknown(trigger.signal, vehicle)}"
    elif isinstance(trigger.anomaly, OutOfRange):
        minimum, maximum = range_of(trigger.anomaly, trigger.signal, vehicle.signals)
        if minimum is None and maximum is None:
            yield f"trigger.anomaly: neither it nor the signal's own definition says a range for {trigger.signal}"
        elif minimum is not None and maximum is not None and minimum > maximum:
            yield f"trigger.anomaly: its minimum {minimum:g} is above its maximum {maximum:g}"


def _of_its_budget(campaign: Campaign, vehicle: _Vehicle) -> Iterator[str]:
    """What tells steadily tells that much for certain. What a trigger tells is bounded by the budget, and may fit."""
    wanted = [wish.path for wish in campaign.signals]
    streams = streams_for(campaign, wanted, vehicle.signals)
    told, budget = told_per_day(campaign, streams, vehicle.signals), campaign.budget.bytes_per_day
    if told > budget:
        yield f"budget.bytes_per_day: it would tell {_size(told)} a day, its own budget is {_size(budget)}"


def _of_the_sum(tasks: Sequence[Task], cost: Cost, floor: CampaignFloor) -> Iterator[str]:
    for what, unit, asked, most, of in (
        ("tell", "a day", cost.bytes_per_day, floor.bytes_per_day, lambda task: task.cost.bytes_per_day),
        ("write", "of flash a day", cost.flash_bytes_per_day, floor.flash_bytes_per_day,
         lambda task: task.cost.flash_bytes_per_day),
        ("retain", "of memory", cost.ring_bytes, floor.ring_bytes, lambda task: task.cost.ring_bytes),
    ):  # fmt: skip
        if asked > most:
            largest = _largest(tasks, of, _size)
            yield f"they would {what} {_size(asked)} {unit}, the most here is {_size(most)} ({largest})"
    if cost.evaluations_per_s > floor.evaluations_per_s:
        yield (
            f"they would be evaluated {cost.evaluations_per_s:.0f} times a second, the most here is "
            f"{floor.evaluations_per_s}"
        )
    if cost.work_per_s > floor.work_per_s:
        largest = _largest(tasks, lambda task: task.cost.work_per_s, round)
        answers = f"{cost.work_per_s:.0f} answers a second"
        yield f"they would ask for {answers}, the most here is {floor.work_per_s} ({largest})"


def _largest(tasks: Sequence[Task], of: Callable[[Task], float], as_text: Callable[[Any], object]) -> str:
    largest = sorted(tasks, key=of, reverse=True)[:MOST_NAMED]
    return ", ".join(f"{task.campaign.name} {as_text(of(task))}" for task in largest)


def _size(count: int) -> str:
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.4g} {unit}"
    return f"{count} bytes"


# --- what becomes of it -------------------------------------------------------------------------------


def _task(campaign: Campaign, vehicle: _Vehicle, now_s: float | None) -> Task:
    expression = expression_of(campaign)
    condition = parse(expression[1], kind=expression[2]) if expression else None
    wanted = [wish.path for wish in campaign.signals]
    withheld = tuple(path for path in wanted if vehicle.denies(path))
    kept = [path for path in wanted if path not in withheld]
    streams = tuple(streams_for(campaign, kept, vehicle.signals))
    cost = replace(
        cost_of(campaign, streams, condition, vehicle.signals),
        work_per_s=work_per_s(campaign, streams, condition, vehicle.signals),
    )
    return Task(campaign, _idle(campaign, condition, kept, vehicle, now_s), withheld, streams, condition, cost)


def _idle(
    campaign: Campaign, condition: Condition | None, kept: Sequence[str], vehicle: _Vehicle, now_s: float | None
) -> Idle | None:  # fmt: skip
    if now_s is not None and now_s >= campaign.not_after:
        return Idle.ENDED
    if campaign.purpose not in vehicle.privacy.consents:
        return Idle.NO_CONSENT
    read = [*(condition.paths if condition else ()), *_anomaly_signal(campaign)]
    if vehicle.denies(campaign.name) or any(vehicle.hides_from_triggers(path) for path in read):
        return Idle.DENIED
    return Idle.NOTHING_LEFT if campaign.signals and not kept and campaign.clip is None else None


def _anomaly_signal(campaign: Campaign) -> tuple[str, ...]:
    return (campaign.trigger.signal,) if isinstance(campaign.trigger, OnAnomaly) else ()


def range_of(anomaly: OutOfRange, path: str, signals: Signals) -> tuple[float | None, float | None]:
    """What is allowed: what the campaign says, else what the signal's definition does."""
    if anomaly.minimum is not None or anomaly.maximum is not None:
        return anomaly.minimum, anomaly.maximum
    group, column = signals.sources[path][0]
    signal = signals.schema.groups[group].signals[column]
    return signal.minimum, signal.maximum
