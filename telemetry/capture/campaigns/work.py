"""What campaigns cost in computing time at the worst: in *answers*, what a condition asks of a signal at one step.

An answer takes about 20 us on a slow core, the rest is weighed against it. What is asked at several instants of a step
is asked once: a fast signal costs no more than the steps there are in a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from telemetry.capture.campaigns.campaign import Campaign, LastKnown, OnAnomaly, OnCondition
from telemetry.capture.campaigns.costs import Signals, history_samples
from telemetry.capture.campaigns.streams import StreamSpec
from telemetry.capture.expressions import Condition
from telemetry.capture.expressions.tree import Leaf, Window

STEPS_PER_S: Final = 50
"""Without a bus time goes on in steps of 20 ms; a source's frames wait for others for 40 ms."""
WINDOW: Final = 8.0
THOUSAND_SAMPLES: Final = 1.0
ANOMALY: Final = 2.0
STREAM: Final = 0.5
TRIGGER: Final = 4.0
VALUE: Final = 0.2
"""Of an event."""


def work_per_s(
    campaign: Campaign, streams: Sequence[StreamSpec], expression: Condition | None, signals: Signals
) -> float:  # fmt: skip
    """Answers in a second."""
    hz = _asked_hz(campaign, expression, signals)
    asked = ANOMALY if isinstance(campaign.trigger, OnAnomaly) else 0.0
    asked += sum(_of_leaf(leaf, signals) for leaf in expression.leaves) if expression else 0.0
    kept = sum(min(signals.hertz(stream.group), STEPS_PER_S) for stream in streams) * STREAM
    event = TRIGGER + VALUE * len(campaign.signals)
    return min(hz, STEPS_PER_S) * asked + kept + _events_per_s(campaign, hz) * event


def _of_leaf(leaf: Leaf, signals: Signals) -> float:
    if not isinstance(leaf, Window):
        return 1.0
    return WINDOW + THOUSAND_SAMPLES * history_samples(leaf.path, leaf.ms, signals) / 1000


def _asked_hz(campaign: Campaign, expression: Condition | None, signals: Signals) -> float:
    match campaign.trigger:
        case OnCondition() if expression is not None:
            return _hertz(expression.paths, signals)
        case OnAnomaly(signal=signal):
            return _hertz((signal,), signals)
        case _:
            return 0.0


def _hertz(paths: Iterable[str], signals: Signals) -> float:
    groups = {group for path in paths for group, _ in signals.sources.get(path, ())}
    return sum(signals.hertz(group) for group in groups)


def _events_per_s(campaign: Campaign, hz: float) -> float:
    match campaign.trigger:
        case LastKnown(period_ms=period_ms):
            return 1000 / period_ms
        case OnCondition(cooldown_ms=cooldown_ms) | OnAnomaly(cooldown_ms=cooldown_ms):
            return min(hz, 1000 / cooldown_ms) if cooldown_ms else hz
        case _:
            return 0.0
