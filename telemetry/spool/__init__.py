"""Keeps records on flash until the receiver has stored them: law 1, lane by lane."""

from telemetry.spool.counts import LEDGER_NAMES, SpoolCounts
from telemetry.spool.keeper import SpoolKeeper
from telemetry.spool.limits import SpoolLimits
from telemetry.spool.spool import Spool

__all__ = ["LEDGER_NAMES", "Spool", "SpoolCounts", "SpoolKeeper", "SpoolLimits"]
