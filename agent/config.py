"""`outrider.toml` on the vehicle: closed, frozen, and complete; the daemon runs with no file at all."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from agent.learning.gates import PowerWanted
from agent.learning.labelsource import parse_source
from ecu.errors import UsageFault
from ecu.toml import load_toml
from inference.floor import GateFloor
from telemetry.capture.campaigns.floor import CampaignFloor
from telemetry.capture.config import CaptureConfig
from telemetry.federated.plan import LearningFloor
from telemetry.objects.config import ObjectsConfig
from telemetry.privacy.policy import PrivacyPolicy
from telemetry.spool.limits import SpoolLimits
from telemetry.uplink.config import UplinkConfig
from telemetry.uplink.networks import NetworkConfig


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunSection(Section):
    lockstep: bool = Field(default=False, description="Run as fast as the sources allow, in the drive's own time.")
    step_ms: int = Field(default=200, gt=0, le=1000, description="Lockstep: how far each grant goes.")
    flush_within_s: float = Field(
        default=5.0, gt=0, le=60, description="At ignition off: how long flash may take for what waits, seconds."
    )
    wall_error_s: float = Field(
        default=0.0, description="Test benches: how wrong the computer's wall clock is taken to be."
    )


class CameraSection(Section):
    name: str = Field(default="front", pattern=r"^[a-z0-9-]{1,32}$", description="Names the channel camera/NAME.")
    source: str = Field(default="", description="Where frames come from: video:PATH[?loop=1]. Empty = no camera.")
    slots: int = Field(default=6, ge=3, le=32, description="Frames that memory holds.")


class PerceptionSection(Section):
    model: str = Field(default="drive-detect@2.0", description="Model package: NAME@VERSION or a folder.")
    states: str = Field(
        default="light-state@1.0",
        description="Model package that tells the state of what is found; empty: none, and no release of one is tried.",
    )
    threads: int = Field(default=0, ge=0, le=16, description="Of a worker; 0 = two in real time, otherwise one.")
    hang_ms: int = Field(default=400, ge=50, description="A worker without a result for so long is replaced.")


class SignalsSection(Section):
    source: str = Field(
        default="",
        description="Where vehicle signals come from: unix:PATH, which tells VSS paths; or a bus, which needs a plan: "
        "can:INTERFACE, bus:PATH (simulated), frames:FILE[?rate=R&loop=1] (recorded). Empty = none.",
    )
    plan: str = Field(
        default="", description="File that says what a bus's frames hold, until a release brings one (signals compile)."
    )

    gnss: str = Field(
        default="", description="Serial line (or pipe) of a GNSS receiver that speaks NMEA 0183; at real time only."
    )
    gnss_baud: Literal[4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800] = Field(
        default=9600, description="That line's speed, 8N1."
    )

    @property
    def bus(self) -> str:
        """The source, where it is a bus."""
        return "" if self.source.startswith("unix:") else self.source


class CampaignsSection(CampaignFloor):
    """[campaigns]: the most that all campaigns together cost, whoever asks."""

    file: str = Field(default="", description="Test benches: the owner's own campaigns.json, until one is signed.")


class LinkSection(Section):
    kind: Literal["mqtt", "aws", "azure", "none"] = Field(
        default="mqtt", description="How blocks travel; aws and azure need the extra of that name."
    )
    broker: bool = Field(default=False, description="mqtt: host is a broker's, with the receiver behind it.")
    host: str = Field(default="", description="The broker's or the cloud's; empty for the receiver's from pairing.")
    port: int = Field(default=0, ge=0, le=65535, description="0: the receiver's from pairing, or 8883 of a cloud.")
    ca_file: str = Field(
        default="", description="PEM of who signs the host's certificate; empty: the receiver's authority."
    )
    acks: Literal["stored", "accepted"] = Field(
        default="stored", description="accepted: the broker's word frees records, nobody's that they are stored."
    )
    timeout_s: float = Field(default=10.0, gt=0, le=120, description="Longest wait for any answer.")


class PicturesSection(Section):
    faces: str = Field(default="face-blur", description="Package of the model that finds faces to cover.")
    every: int = Field(default=12, ge=1, description="Every so many frames one is covered and remembered (pre-roll).")
    before: int = Field(default=1, ge=0, le=8, description="Remembered pictures that go with an event's own.")
    per_hour: int = Field(default=60, ge=0, description="Events that get a picture, an hour.")


class UpdatesSection(Section):
    enabled: bool = Field(default=True, description="Look for signed releases at the receiver.")
    poll_s: float = Field(default=3600.0, gt=0, le=86_400, description="Longest time between two looks, seconds.")
    media: str = Field(
        default="", description="Folder where sticks with updates are mounted, like /media; empty: none."
    )
    hardware: str = Field(default="", description="What a release must be made for; empty: this processor's kind.")
    shadow_frames: int = Field(default=100, ge=1, description="Frames a candidate sees beside the live model.")
    prove_frames: int = Field(default=500, ge=1, description="Frames it sees while live before it is kept.")
    prove_s: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        description="A config or a runtime is in use for so long before it is kept, seconds.",
    )
    needs_parked: bool = Field(
        default=True, description="A new runtime is started while parked; false on benches without signals."
    )
    parked_s: float = Field(default=120.0, ge=0, description="Standing for so long counts as parked, seconds.")
    power: PowerWanted = Field(
        default=PowerWanted.NOT_BATTERY,
        description="What the computer must live on for that: external, not_battery or any.",
    )
    system: Literal["", "rauc"] = Field(
        default="", description="Who installs the computer's own system; empty: none is taken. Needs the extra rauc."
    )
    reboot: tuple[str, ...] = Field(
        default=(),
        description='Restarts the computer into a new system: ["systemctl", "reboot"]. Empty: the next ignition does.',
    )
    services: tuple[str, ...] = Field(
        default=(),
        description="systemd units that must be active before a new system is kept; one that failed sends it back.",
    )


class LearningSection(LearningFloor):
    """[learning]: what this vehicle does at most whoever asks, when, and from what."""

    source: str = Field(
        default="drive",
        description="Who names examples: drive (lights that driving on confirmed); benches: crops:DIR[?take=0-39,500].",
    )
    needs_parked: bool = Field(default=True, description="Learn only while parked; false on benches without signals.")
    parked_s: float = Field(default=120.0, ge=0, description="Standing for so long counts as parked, seconds.")
    power: PowerWanted = Field(
        default=PowerWanted.EXTERNAL, description="What the computer must live on: external, not_battery or any."
    )
    longest_s: float = Field(default=600.0, gt=0, le=3600, description="A run that takes longer is ended, seconds.")
    pause_s: float = Field(default=900.0, ge=0, description="Shortest time between two runs, seconds.")
    crop_px: int = Field(default=32, ge=8, le=64, description="Side of a crop that is kept, pixels.")
    most_examples: int = Field(default=500, ge=0, le=10_000, description="Examples kept; the oldest go first.")
    max_bytes: int = Field(default=8 << 20, ge=1 << 16, description="Flash for examples, bytes.")
    keep_days: float = Field(default=30.0, gt=0, le=365, description="After so many days an example is gone.")

    @field_validator("source")
    @classmethod
    def _is_a_source(cls, source: str) -> str:
        parse_source(source)
        return source


class WitnessSection(Section):
    socket: str = Field(default="", description="Tells each durable record to a witness process on this socket.")


class AgentConfig(Section):
    """Everything the daemon can be told. Each section is one subject."""

    run: RunSection = RunSection()
    camera: CameraSection = CameraSection()
    perception: PerceptionSection = PerceptionSection()
    signals: SignalsSection = SignalsSection()
    capture: CaptureConfig = CaptureConfig()
    campaigns: CampaignsSection = CampaignsSection()
    privacy: PrivacyPolicy = PrivacyPolicy()
    spool: SpoolLimits = SpoolLimits()
    pictures: PicturesSection = PicturesSection()
    objects: ObjectsConfig = ObjectsConfig()
    uplink: UplinkConfig = UplinkConfig()
    network: NetworkConfig = NetworkConfig()
    link: LinkSection = LinkSection()
    updates: UpdatesSection = UpdatesSection()
    gate: GateFloor = GateFloor()
    learning: LearningSection = LearningSection()
    witness: WitnessSection = WitnessSection()


def load_config(path: Path | None) -> AgentConfig:
    """The file's configuration, or the defaults. Raises UsageFault naming file, line, key and the nearest right one.

    The receiver may have its section in the same file.
    """
    return load_toml(path, AgentConfig, others=("receiver",))


def read_ca(path: str) -> str:
    """The PEM that [link] ca_file names, read once: what becomes of the file later ends no link. Raises UsageFault."""
    try:
        pem = Path(path).read_text(encoding="ascii")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError, UnicodeDecodeError a ValueError
        raise UsageFault(
            f"[link] ca_file = {path!r} can't be read: {error}. Name a PEM file with the authority's certificate."
        ) from error
    return pem
