"""What a campaign has to tell, before budgets have looked at it, and what became of it all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from telemetry.records import AnyEvent
from telemetry.signals.schema import Columns


class Untold(StrEnum):
    """Why something wasn't told, or not whole."""

    CAMPAIGN_BUDGET = "campaign_budget"  # records: the campaign's own bytes of a day are used up
    VEHICLE_BUDGET = "vehicle_budget"  # records: so are those of all campaigns together
    MAX_PER_DAY = "max_per_day"  # triggers: it had its triggers of a day
    COOLDOWN = "cooldown"  # triggers: too soon after the one before
    FETCHED = "fetched"  # triggers: this fetch was told before
    BOOK = "book"  # triggers and records: what was used is lost, or the flash doesn't take it, so nothing may be used
    CLIP_BUDGET = "clip_budget"  # clips: their pictures would be beyond the bytes of a day
    NO_CAMERA = "no_camera"  # clips: nobody takes pictures on this vehicle; nothing is used up by them
    CUT_SHORT = "cut_short"  # samples: the ring was full before they could be told
    INCOMPLETE = "incomplete"  # samples: whoever decoded them left out what was wanted
    ENDED = "ended"  # samples: they came after `not_after`
    CONDITION = "condition"  # samples that a condition needed and that had to give way, or came out of order


@dataclass(slots=True)
class Counts:
    """Of one campaign, since it was first taken by this process."""

    triggers: int = 0
    records: int = 0
    bytes: int = 0
    samples: int = 0
    clips: int = 0
    untold: Counter[Untold] = field(default_factory=Counter)

    def as_numbers(self) -> dict[str, int]:
        told = {name: getattr(self, name) for name in ("triggers", "records", "bytes", "samples", "clips")}
        return {**told, **{f"untold_{reason}": count for reason, count in sorted(self.untold.items()) if count}}


@dataclass(frozen=True, slots=True)
class ClipWanted:
    """Pictures around a trigger; the agent has its redactor make them. `t_ns` is boot time of the sample that it came
    of; `before` and `after` count the camera's frames, within what Clip (campaign.py) allows."""

    campaign: str
    revision: int
    number: int
    t_ns: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Tell:
    """`due_ns`: from then on nothing can change it any more. Samples (`parts`), or an event."""

    due_ns: int
    captured_ns: int
    parts: tuple[Columns, ...] = ()
    event: AnyEvent | None = None
