"""What the receiver can be told: `[receiver]` of outrider.toml. It runs with no file at all."""

from __future__ import annotations

import ipaddress
import re

from pydantic import BaseModel, ConfigDict, Field, field_validator

SECTION = "receiver"

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?")


class ReceiverConfig(BaseModel):
    """Defaults suit one machine that speaks to itself; `listen` and `hosts` open it to a network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 or :: for all.")
    mqtt_port: int = Field(default=8883, ge=0, le=65535, description="MQTT 5 over TLS; 0 picks a free one.")
    https_port: int = Field(default=8443, ge=0, le=65535, description="Pairing, renewal, time; 0 picks a free one.")
    hosts: tuple[str, ...] = Field(
        default=("localhost", "127.0.0.1"),
        min_length=1,
        description="Names and addresses in the receiver's certificate; vehicles are told the first.",
    )
    store: str = Field(default="", description="SQLAlchemy URL; empty for SQLite in the state folder.")
    updates: str = Field(default="", description="Folder the signing desk publishes to; empty for no updates.")
    certificate_days: float = Field(default=14.0, gt=0, le=90, description="Life of a vehicle's certificate, days.")
    enrolment_minutes: float = Field(default=60.0, gt=0, le=43_200, description="Life of a pairing token, minutes.")
    receive_maximum: int = Field(default=128, ge=1, le=1024, description="Blocks in flight on one connection.")
    max_vehicles: int = Field(default=10_000, ge=1, description="Connections of vehicles at once.")
    connect_s: float = Field(default=10.0, gt=0, description="From TLS to CONNECT, seconds.")
    keep_alive_max_s: int = Field(default=300, ge=1, le=3600, description="Longest keep-alive granted, seconds.")
    queue_blocks: int = Field(default=16_384, ge=1, description="Blocks that may wait for the disk.")
    queue_bytes: int = Field(default=64 * 1024 * 1024, ge=128 * 1024, description="Their bytes together.")
    vehicle_bytes_per_s: float = Field(
        default=4 * 1024 * 1024, gt=0, description="What one vehicle may send, steadily: bytes as sent and as inflated."
    )
    vehicle_burst_bytes: float = Field(
        default=256 * 1024 * 1024, gt=0, description="What it may send at once, after an outage."
    )
    object_bytes: int = Field(default=2 * 1024 * 1024, gt=0, description="Largest object taken of a vehicle.")
    vehicle_object_bytes: int = Field(
        default=1024 * 1024 * 1024, gt=0, description="What one vehicle's objects may take of the disk, all together."
    )
    object_partial_hours: float = Field(
        default=24.0, gt=0, description="An object that isn't whole is thrown away after so long without a slice."
    )
    refusals_at_once: int = Field(default=10, ge=1, description="Refusals of one address or vehicle before it waits.")
    refusals_per_minute: float = Field(default=10.0, gt=0, description="How fast that is forgiven.")

    @field_validator("hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not _is_host(host):
                raise ValueError(f"{host!r} is neither a host name nor an address")
        return hosts


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _HOST.fullmatch(host) is not None
    return True
