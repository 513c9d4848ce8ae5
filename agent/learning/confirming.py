"""Labels from the drive: crops of traffic lights, named by what the vehicle then did."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from agent.learning.labelsource import DRIVE
from telemetry.federated.confirmation import Confirmation
from telemetry.federated.examples import Example, Now
from telemetry.federated.plan import LabelSource
from telemetry.privacy.pictures import RedactedCrop
from telemetry.signals import vss


class DriveLabels:
    """As agent.learning.labels.Labels; `see` takes the redactor's crops, `hear` the vehicle's signals."""

    name = DRIVE
    fault = ""

    def __init__(self, now: Callable[[], Now], confirmation: Confirmation | None = None) -> None:
        self._now = now
        self._confirmation = confirmation or Confirmation()
        self._take: Callable[[Example], None] | None = None
        self.untaken = 0
        """Confirmed while nobody took examples."""

    @property
    def is_heard(self) -> bool:
        return self._take is not None

    def has(self, source: LabelSource) -> bool:
        return source is LabelSource.CONFIRMED

    async def run(self, take: Callable[[Example], None]) -> None:
        """Until cancelled: what is confirmed meanwhile is taken."""
        self._take = take
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._take = None

    def see(self, crop: RedactedCrop) -> None:
        self._confirmation.on_crop(crop)

    def forget(self) -> None:
        """Crops that nobody has confirmed yet."""
        self._confirmation.forget()

    def hear(self, t_ns: int, signals: Mapping[str, float]) -> None:
        speed_kmh = signals.get(vss.SPEED)
        if speed_kmh is None:
            return
        for told in self._confirmation.on_speed(t_ns, speed_kmh):
            if self._take is None:
                self.untaken += 1
            else:
                self._take(Example(told.crop.pixels, told.crop.size, told.label, self.name, self._now()))

    def dropped(self) -> Mapping[str, int]:
        return {why.value: number for why, number in self._confirmation.dropped.items() if number}
