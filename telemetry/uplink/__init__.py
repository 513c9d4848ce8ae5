"""What carries blocks out: which goes next, how many at a time, how long to stay away, and what the receipts free."""

from telemetry.uplink.backlog import Backlog, BlockRef
from telemetry.uplink.config import UplinkConfig
from telemetry.uplink.meter import Meter, MeterStatus
from telemetry.uplink.networks import NetworkConfig
from telemetry.uplink.status import UplinkState, UplinkStatus
from telemetry.uplink.uplink import AcceptanceIsNotStorage, Hooks, Uplink

__all__ = [
    "AcceptanceIsNotStorage",
    "Backlog",
    "BlockRef",
    "Hooks",
    "Meter",
    "MeterStatus",
    "NetworkConfig",
    "Uplink",
    "UplinkConfig",
    "UplinkState",
    "UplinkStatus",
]
