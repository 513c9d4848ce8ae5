"""What a set of campaigns may still tell today: each campaign its own bytes, and all together the vehicle's (law 11).

Pictures are granted at once, samples when all groups have got so far; so that no order of the two changes what is
granted, a campaign with clips has two purses, and so has the vehicle.
"""

from __future__ import annotations

from typing import Final

from telemetry.capture.campaigns.admission import Admitted
from telemetry.capture.campaigns.book import VEHICLE, CampaignBook
from telemetry.capture.campaigns.campaign import Campaign, Windows
from telemetry.capture.campaigns.costs import events_per_day
from telemetry.capture.campaigns.telling import Untold

CLIP_SHARE: Final = 0.75
"""The most of its budget that a campaign keeps for pictures."""
_CLIPS: Final = ":clips"
"""Behind a campaign's name; no name has it in it."""


class Purse:
    """Of one admitted set, in the vehicle's book."""

    def __init__(self, book: CampaignBook, admitted: Admitted) -> None:
        self._book = book
        self._picture_bytes = admitted.signals.floor.picture_bytes
        self._vehicle_most = admitted.signals.floor.bytes_per_day
        self._clips_most = sum(self._clip_budget(task.campaign) for task in admitted.tasks if task.idle is None)

    def why_empty(self, campaign: Campaign, t_ns: int) -> Untold | None:
        """Why nothing of the campaign could be told now; None when something could."""
        if self._book.withholds(t_ns):
            return Untold.BOOK
        left = self._book.bytes_left(campaign.name, self._samples_budget(campaign), t_ns)
        return None if left else Untold.CAMPAIGN_BUDGET

    def take(self, campaign: Campaign, amount: int, t_ns: int) -> Untold | None:
        """For a record; None when granted."""
        most = self._vehicle_most - self._clips_most
        return self._taken(campaign.name, self._samples_budget(campaign), VEHICLE, most, amount, t_ns)

    def take_clip(self, campaign: Campaign, t_ns: int) -> bool:
        """For the pictures of one trigger."""
        name, amount = campaign.name + _CLIPS, self._clip_bytes(campaign)
        return self._taken(name, self._clip_budget(campaign), _CLIPS, self._clips_most, amount, t_ns) is None

    def _taken(self, name: str, most: int, of_all: str, most_of_all: int, amount: int, t_ns: int) -> Untold | None:
        failures = self._book.failures
        if self._book.withholds(t_ns):
            return Untold.BOOK
        if self._book.bytes_left(name, most, t_ns) < amount:
            return Untold.CAMPAIGN_BUDGET
        if not self._vehicle_has(of_all, most_of_all, amount, t_ns):
            return Untold.VEHICLE_BUDGET
        granted = self._book.take_bytes(of_all, most_of_all, amount, t_ns) and (
            self._book.take_bytes(name, most, amount, t_ns)
        )
        if granted:
            return None
        return Untold.BOOK if self._book.failures > failures else Untold.CAMPAIGN_BUDGET

    def _vehicle_has(self, of_all: str, most_of_all: int, amount: int, t_ns: int) -> bool:
        """The two together count too: a set before may have kept less for pictures."""
        left = self._book.bytes_left(of_all, most_of_all, t_ns)
        used = sum(self._book.bytes_used(account, t_ns) for account in (VEHICLE, _CLIPS))
        return amount <= min(left, self._vehicle_most - used)

    def _samples_budget(self, campaign: Campaign) -> int:
        return campaign.budget.bytes_per_day - self._clip_budget(campaign)

    def _clip_budget(self, campaign: Campaign) -> int:
        if campaign.clip is None or not isinstance(campaign.trigger, Windows):
            return 0
        most = events_per_day(campaign.trigger) * self._clip_bytes(campaign)
        return min(most, int(campaign.budget.bytes_per_day * CLIP_SHARE))

    def _clip_bytes(self, campaign: Campaign) -> int:
        return (campaign.clip.before + campaign.clip.after) * self._picture_bytes if campaign.clip else 0
