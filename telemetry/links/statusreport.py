"""What a vehicle reports of itself: docs/formats/status.md. One form for every link and every reader."""

from __future__ import annotations

from enum import Enum

import msgspec

from telemetry.links.pairing import BadMessage, read_message

FORMAT = "outrider-status-1"
MAX_STATUS_BYTES = 7 * 1024
"""What fits into the shadow of a thing, whose document has 8 KiB, beside its desired part."""


class UpdateState(Enum):
    """Where the vehicle is with what the fleet's owner wants it to run."""

    UNDER_WAY = "under_way"  # being fetched or tried
    SETTLED = "settled"  # it runs what is wanted of it
    FAILED = "failed"  # what was wanted was refused, or found worse, or couldn't be had


class UpdateNews(msgspec.Struct, frozen=True, kw_only=True):
    """`looks` counts finished looks at the receiver's shelf since the start: who asked for one waits for it to rise."""

    looks: int
    state: UpdateState
    title: str = ""  # of the model that is live, or on trial while one is
    digest: str = ""
    words: str = ""  # of a failure


class StatusReport(msgspec.Struct, frozen=True, kw_only=True, tag_field="format", tag=FORMAT, omit_defaults=True):
    """Small, and nothing personal: counts, names of releases, and whether the laws hold."""

    version: str
    records_waiting: int = 0
    records_lost: int = 0  # dropped, evicted or quarantined
    law_1_holds: bool = True
    law_2_holds: bool | None = None
    law_6_holds: bool = True
    update: UpdateNews | None = None


def pack_status(report: StatusReport) -> bytes:
    """As JSON."""
    return msgspec.json.encode(report)


def read_status(data: bytes) -> StatusReport | None:
    """None for a status of another form: it is passed on as it is, and nothing is concluded from it."""
    try:
        return read_message(data, StatusReport)
    except BadMessage:
        return None
