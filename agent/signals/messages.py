"""What the agent and its signals process tell each other (over ecu.channel).

The agent says once what there is to work with (Work), then which campaigns are wanted, what it sees and hears itself
(Told), and in lockstep how far time may go. The process says what the vehicle does (Values), what campaigns made of it
(Captured, PicturesWanted), and how it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Union

import msgspec

from ecu.channel import Advance, Done, Message

MOST_ITEMS: Final = 256
"""Records in one Captured."""
MOST_ITEM_BYTES: Final = 100 * 1024


class Work(Message, frozen=True, tag="work"):
    """All that a process begins with. `source` is a bus (a URL) or empty, then only what the agent tells comes in;
    `plan` is a file, or empty; `privacy` and `floor` are the owner's sections as JSON; `told` are the VSS paths that
    the agent wants as Values; `folder` is where the campaigns' book lies. Not `realtime` means lockstep from `from_ns`
    on. `gnss` is a receiver's serial line, or empty; there is none in lockstep. Without `has_camera` no PicturesWanted
    is said."""

    source: str
    plan: str
    privacy: str
    floor: str
    told: tuple[str, ...]
    folder: str
    most_event_bytes: int
    realtime: bool
    from_ns: int
    gnss: str = ""
    gnss_baud: int = 9600
    has_camera: bool = True


class Wanted(Message, frozen=True, tag="wanted"):
    """campaigns.json as it was signed; what it holds replaces what was in force, once it is taken."""

    campaigns: bytes


class WallTime(Message, frozen=True, tag="wall_time"):
    """What the agent believes the time is; 0 while it has no reason to."""

    wall_s: int


class Told(Message, frozen=True, tag="told"):
    """Values by VSS path that the agent knows and no bus tells, true at boot time `t_ns`."""

    t_ns: int
    values: dict[str, float]


class Finish(Message, frozen=True, tag="finish"):
    """The ignition is off: tell all that was captured, whole or not, and answer Done. Nothing is captured after it; one
    that comes again is answered again."""

    t_ns: int


class SignalsReady(Message, frozen=True, tag="signals_ready"):
    """The source is open, or there is none; `groups` and `signals` are those of the plan."""

    groups: int
    signals: int
    now_ns: int


class Admission(Message, frozen=True, tag="admission"):
    """What became of the campaigns that were Wanted: `refused` has the reasons, empty when they were taken."""

    revision: int
    refused: str
    ring_bytes: int = 0
    bytes_per_day: int = 0


class Values(Message, frozen=True, tag="values"):
    """The last values of the signals that the agent wants and that came since the last Values."""

    t_ns: int
    values: dict[str, float]


class TimeHeard(Message, frozen=True, tag="time_heard"):
    """UTC as the GNSS receiver has it, ns since 1970, at boot time `t_ns`; one a second at most. Nobody signed it."""

    t_ns: int
    wall_ns: int


class Item(msgspec.Struct, frozen=True, array_like=True):
    """A record for the spool. `event` is encoded; `keep_s` is for how long it is wanted, seconds."""

    lane: int
    purpose: int
    captured_ns: int
    event: bytes
    keep_s: int


class Captured(Message, frozen=True, tag="captured"):
    """What campaigns told, in order."""

    items: tuple[Item, ...]


class PicturesWanted(Message, frozen=True, tag="pictures_wanted"):
    """A campaign's trigger wants pictures of what the camera sees: of so many frames from before `t_ns`, boot time of
    the sample that it came of, 0 to 8, and of so many from then on, 1 to 16 (docs/formats/campaign.md)."""

    campaign: str
    number: int
    t_ns: int
    before: int
    after: int


class CampaignCounts(msgspec.Struct, frozen=True):
    """One campaign: `state` is "active", or why it tells nothing. What it told since the process began: `dropped` is
    what it didn't, by reason; `bytes_per_day` its budget."""

    name: str
    revision: int
    state: str
    triggers: int
    records: int
    bytes: int
    bytes_per_day: int
    dropped: Mapping[str, int]


class SignalsStatus(Message, frozen=True, tag="signals_status"):
    """`source` in words, empty when all is well, and so `gnss`; `counts` are the sources' and the engine's; `cpu_ns` is
    what the process has used so far."""

    source: str
    counts: Mapping[str, int]
    campaigns: tuple[CampaignCounts, ...]
    cpu_ns: int
    gnss: str = ""


class SignalsFault(Message, frozen=True, tag="signals_fault"):
    """It can't go on; the process ends after saying so. `usage` says that what it was given is unusable, `plan` that it
    is the plan."""

    reason: str
    usage: bool
    plan: bool


ToSignals = Union[Work, Wanted, WallTime, Told, Finish, Advance]  # noqa: UP007
FromSignals = Union[  # noqa: UP007
    SignalsReady, Admission, Values, TimeHeard, Captured, PicturesWanted, SignalsStatus, SignalsFault, Done
]
