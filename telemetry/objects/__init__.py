"""Keeps large objects on flash until the receiver has stored them, and carries them there beside the records."""

from telemetry.objects.config import ObjectsConfig
from telemetry.objects.counts import LEDGER_NAMES, ObjectCounts
from telemetry.objects.errors import NotKept, ObjectGone
from telemetry.objects.format import ObjectRef
from telemetry.objects.keeper import ObjectKeeper
from telemetry.objects.store import ObjectStore

__all__ = [
    "LEDGER_NAMES", "NotKept", "ObjectCounts", "ObjectGone", "ObjectKeeper", "ObjectRef", "ObjectStore",
    "ObjectsConfig",
]  # fmt: skip
