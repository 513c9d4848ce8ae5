"""What the receiver can be told: `[receiver]` of outrider.toml. It runs with no file at all."""

from __future__ import annotations

import ipaddress
import re

from pydantic import BaseModel, ConfigDict, Field, field_validator

SECTION = "receiver"

_BROKER = re.compile(r"mqtts://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):([0-9]{1,5})")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?")


class HubSection(BaseModel):
    """An Azure IoT hub that this receiver is behind: docs/clouds.md. Secrets lie in files of their own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="", description="The hub's name, NAME.azure-devices.net; empty for no hub.")
    port: int = Field(default=443, ge=1, le=65535, description="Of its service API.")
    policy: str = Field(default="service", description="Shared access policy with ServiceConnect and no more.")
    key_file: str = Field(default="", description="File with that policy's key, base64.")
    push_code_file: str = Field(default="", description="File with the code that Event Grid's address for us holds.")
    ca_file: str = Field(default="", description="PEM of the hub's authority; empty for those this computer trusts.")


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
    director_keys: str = Field(
        default="", description="Folder with the director's online keys: this receiver assigns. Empty: it doesn't."
    )
    operators: str = Field(default="", description="Folder with the public keys of those who may approve rollouts.")
    certificate_days: float = Field(default=14.0, gt=0, le=90, description="Life of a vehicle's certificate, days.")
    enrolment_minutes: float = Field(default=60.0, gt=0, le=43_200, description="Life of a pairing token, minutes.")
    receive_maximum: int = Field(default=128, ge=1, le=1024, description="Blocks in flight on one connection.")
    max_vehicles: int = Field(default=10_000, ge=1, description="Connections of vehicles at once.")
    connect_s: float = Field(default=10.0, gt=0, description="From TLS to CONNECT, seconds.")
    keep_alive_max_s: int = Field(default=300, ge=1, le=3600, description="Longest keep-alive granted, seconds.")
    queue_blocks: int = Field(default=16_384, ge=1, description="Blocks that may wait for the disk.")
    queue_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=128 * 1024,
        description="Their bytes together; behind a broker, as many again for the word on their senders.",
    )
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
    learning_buffer: int = Field(
        default=10, ge=1, le=1000, description="Vehicles whose updates make an aggregate; fewer by `learn close` alone."
    )
    learning_momentum: float = Field(default=0.5, ge=0, lt=1, description="What an aggregate takes over of the last.")
    learning_rate: float = Field(default=0.5, gt=0, le=10, description="By how much of an aggregate the model moves.")
    learning_job_s: float = Field(
        default=1800.0, gt=0, description="Longest that making and judging a candidate takes, seconds."
    )
    learning_again_s: float = Field(
        default=600.0, gt=0, description="An aggregate that something was in the way of is begun again after, seconds."
    )
    refusals_at_once: int = Field(default=10, ge=1, description="Refusals of one address or vehicle before it waits.")
    refusals_per_minute: float = Field(default=10.0, gt=0, description="How fast that is forgiven.")

    broker: str = Field(default="", description="Broker to be behind, mqtts://HOST:PORT; empty for none.")
    broker_ca: str = Field(default="", description="PEM of the broker's authority; empty for this receiver's own.")
    broker_identity: str = Field(
        default="", description="PEM of key and certificate for the broker; empty: made by this receiver's authority."
    )
    broker_client: str = Field(
        default="outrider-receiver", pattern=r"^[A-Za-z0-9-]{1,64}$", description="Its client id there, its alone."
    )
    hub: HubSection = HubSection()

    @field_validator("broker")
    @classmethod
    def _is_broker(cls, url: str) -> str:
        if url and _BROKER.fullmatch(url) is None:
            raise ValueError(f"{url!r} isn't mqtts://HOST:PORT")
        return url

    @field_validator("hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not _is_host(host):
                raise ValueError(f"{host!r} is neither a host name nor an address")
        return hosts


def broker_address(url: str) -> tuple[str, int]:
    """Host and port of a `broker` that was checked."""
    found = _BROKER.fullmatch(url)
    assert found is not None
    return found[1].strip("[]"), int(found[2])


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _HOST.fullmatch(host) is not None
    return True
