"""What can be wrong with an update: whom it is believed from, how it came, or what the repository holds.

OtaError
├── TrustError        an attack, or what can't be told from one: never retry these bytes; `attack` names its class
├── DoesNotFit        signed and right, and not for what this vehicle runs now: look again when that has changed
├── FetchError        the network let us down, or the far side has no such file: retry with backoff
│   ├── SlowRetrieval it trickles: tell it, too
│   └── HeldBack      nothing is wrong: it waits for another network, or another day
├── NoRoomForUpdate   the disk can't hold it
└── RepositoryFault   at the signing desk: a key, a name or a folder that can't be used
"""

from __future__ import annotations

from typing import Final

from ecu.errors import EnvironmentFault, OutriderError, UsageFault, shown
from ota.attacks import Attack as Attack
from ota.attacks import Flaw as Flaw

MOST_WORDS: Final = 400
"""Characters of words that others had a hand in: they go into records of a fixed size, and onto screens."""


class OtaError(OutriderError):
    """Anything an update can go wrong with. Bugs aren't OtaErrors."""


class TrustError(OtaError):
    """These bytes are not what the fleet owner signed for this vehicle. `detail` may quote them: what it tells is
    printable, and up to 400 characters. `flaw` is the exact defect, where the check can tell."""

    def __init__(self, what: Flaw | Attack, detail: str) -> None:
        self.flaw = what if isinstance(what, Flaw) else None
        self.attack = what.attack if isinstance(what, Flaw) else what
        super().__init__(f"{self.attack}: {shown(detail)}"[:MOST_WORDS])


class DoesNotFit(OtaError):
    """A release that the fleet owner signed for this hardware, and that what runs here can't run, or can't run beside
    what is installed. `detail` may quote the release: what it tells is printable, and up to 400 characters."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"doesn't fit: {shown(detail)}"[:MOST_WORDS])


class FetchError(OtaError, EnvironmentFault):
    """The source can't be reached, or ended early."""


class NotThere(FetchError):
    """The source has no such file."""


class SlowRetrieval(FetchError):
    """The source trickles. A bad network looks the same, so it is tried again; and it is told, since an attacker's
    looks the same, too."""

    def __init__(self, flaw: Flaw, detail: str) -> None:
        self.flaw = flaw
        self.attack = flaw.attack
        super().__init__(f"{self.attack}: {shown(detail)}"[:MOST_WORDS])


class HeldBack(FetchError):
    """The network there is may not carry it now. `until_ns` is the boot time at which that ends by itself, if it
    does."""

    def __init__(self, words: str, until_ns: int | None = None) -> None:
        super().__init__(words)
        self.until_ns = until_ns


class NoRoomForUpdate(OtaError, EnvironmentFault):
    """The release is larger than what the disk has left."""


class RepositoryFault(OtaError, UsageFault):
    """What the signing desk was asked to do can't be done."""
