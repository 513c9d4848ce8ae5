"""campaigns.json as it is read: closed, bounded, each refusal with its place."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from pydantic import ValidationError

from ecu.errors import shown
from telemetry.capture.campaigns.campaign import (
    MAX_CAMPAIGNS_BYTES,
    Campaign,
    CampaignSet,
    CampaignsRefused,
    OnAnomaly,
    OnCondition,
    Residual,
    Windows,
)
from telemetry.capture.expressions import BadExpression, Kind, parse

MOST_REASONS: Final = 8
_UNIONS: Final = ("trigger", "anomaly")
_TAGS: Final = frozenset({
    "periodic", "last_known", "on_change", "on_condition", "on_anomaly", "once",
    "stuck", "out_of_range", "implausible_rate", "residual",
})  # fmt: skip


def parse_campaigns(data: bytes) -> CampaignSet:
    """Raises CampaignsRefused. Whether the vehicle has the signals and the room is for `admit` to say."""
    campaigns = _read(data)
    reasons = [*_doubled(campaigns), *_broken(campaigns)]
    if reasons:
        raise _refused(reasons)
    return campaigns


def expression_of(campaign: Campaign) -> tuple[str, str, Kind] | None:
    """The expression in it: its key, its text, and what it has to be; None where there is none."""
    match campaign.trigger:
        case OnCondition(when=when):
            return "trigger.when", when, Kind.TRUTH
        case OnAnomaly(anomaly=Residual(expected=expected)):
            return "trigger.anomaly.expected", expected, Kind.NUMBER
        case _:
            return None


def _read(data: bytes) -> CampaignSet:
    if len(data) > MAX_CAMPAIGNS_BYTES:
        raise _refused([f"they are {len(data)} bytes, the most is {MAX_CAMPAIGNS_BYTES}"])
    try:
        json.loads(data, object_pairs_hook=_once)
        return CampaignSet.model_validate_json(data)
    except ValidationError as error:
        raise _refused([_reason(problem) for problem in error.errors(include_url=False)]) from error
    except (ValueError, RecursionError) as error:
        raise _refused([f"they are no JSON that this version reads: {shown(error)}"]) from error


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        raise ValueError(f"the key {twice[0][:80]} comes twice")
    return dict(pairs)


def _reason(problem: Any) -> str:
    return f"{shown(_place(problem['loc']))}: {shown(problem['msg'])}"


def _place(path: Sequence[str | int]) -> str:
    """As campaigns[2].trigger.when. Pydantic puts the tag of a union's member behind its key: that is no place."""
    parts = [part for i, part in enumerate(path) if not (i and path[i - 1] in _UNIONS and part in _TAGS)]
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)[1:] or "the whole"


def _doubled(campaigns: CampaignSet) -> Iterator[str]:
    seen: dict[str, int] = {}
    for number, campaign in enumerate(campaigns.campaigns):
        if campaign.name in seen:
            yield f"campaigns[{number}].name: {campaign.name} is campaigns[{seen[campaign.name]}]'s already"
        seen.setdefault(campaign.name, number)
        paths = Counter(wish.path for wish in campaign.signals)
        for path in (path for path, count in paths.items() if count > 1):
            yield f"campaigns[{number}].signals: {path} comes {paths[path]} times"


def _broken(campaigns: CampaignSet) -> Iterator[str]:
    for number, campaign in enumerate(campaigns.campaigns):
        if campaign.clip is not None and not isinstance(campaign.trigger, Windows):
            yield f"campaigns[{number}].clip: {campaign.trigger.kind} has no instant to take pictures around"
        expression = expression_of(campaign)
        if expression is not None:
            key, text, kind = expression
            try:
                parse(text, kind=kind)
            except BadExpression as error:
                yield f"campaigns[{number}].{key}: {shown(error).rstrip('.')}"


def _refused(reasons: Sequence[str]) -> CampaignsRefused:
    told = [*reasons[:MOST_REASONS]]
    if len(reasons) > MOST_REASONS:
        told.append(f"and {len(reasons) - MOST_REASONS} more")
    return CampaignsRefused("These campaigns can't be used", tuple(told), "Sign others; the ones before stay.")
