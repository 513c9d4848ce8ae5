"""A vehicle's place at AWS IoT Core: how it is provisioned there once, and the link that it has from then on.

Either AWS knows the receiver's authority, and the vehicle connects with the certificate that it was paired with; or it
is provisioned with a certificate of AWS's own, whose key is made here, beside that of the pairing.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Final

import msgspec

from agent.config import LinkSection, read_ca
from agent.pairing import Paired
from ecu.clock import Clock
from ecu.disk import Disk, RealDisk, replace_file
from ecu.errors import UsageFault
from ecu.keys import FileKeyStore, KeyStore
from telemetry.links.aws import AwsLink
from telemetry.links.aws.link import PORT
from telemetry.links.aws.proof import Claim, Door
from telemetry.links.link import Acks, Link
from telemetry.links.pairing import BadMessage, read_message
from telemetry.uplink.config import UplinkConfig

FORMAT: Final = "outrider-aws-1"
LINK_FOLDER: Final = "link"
THING_FILE: Final = f"{LINK_FOLDER}/aws.json"
KEYS_FOLDER: Final = f"{LINK_FOLDER}/aws-keys"
TIMEOUT_S: Final = 30.0


class ClaimFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="format", tag=FORMAT):
    """What the operator hands to a batch of vehicles: where to ask, and a claim that lets them. It holds a secret."""

    endpoint: str
    template: str
    claim_certificate: str  # PEM
    claim_key: str  # PEM
    port: int = PORT
    serial: str = ""  # empty: the vehicle's own id
    ca: str = ""  # PEM of who signs the endpoint; empty: whom this computer trusts


class ProvisionedThing(msgspec.Struct, frozen=True, kw_only=True):
    """What AWS IoT Core knows this vehicle as, and where."""

    endpoint: str
    port: int
    thing: str
    ca: str = ""


def demand_sdk() -> None:
    """Raises UsageFault where the SDK isn't installed. Loads nothing of it."""
    if importlib.util.find_spec("awscrt") is None or importlib.util.find_spec("awsiot") is None:
        raise UsageFault("awsiotsdk isn't installed. Run: pip install 'outrider[aws]'.")


def read_claim_file(data: bytes) -> ClaimFile:
    """Raises UsageFault for a file that isn't whole."""
    try:
        return read_message(data, ClaimFile)
    except BadMessage as error:
        raise UsageFault(f"This isn't a claim file: {error}. See docs/clouds.md for what is in one.") from error


def open_thing_keys(state: Path) -> FileKeyStore:
    """The credential for AWS alone. Raises KeyStoreError or DiskError."""
    (state / LINK_FOLDER).mkdir(mode=0o700, exist_ok=True)
    return FileKeyStore.open(state / KEYS_FOLDER)


async def provision(
    file: ClaimFile, paired: Paired, keys: KeyStore, disk: Disk, clock: Clock, timeout_s: float = TIMEOUT_S
) -> ProvisionedThing:
    """A certificate of AWS's for a key made here, and the thing it belongs to. `keys` are `open_thing_keys`'. It may be
    repeated: each time there is a new key, and the one before goes when it is installed.

    Raises UsageFault for a claim or a template that isn't for this vehicle, else as links.aws.provisioning does.
    """
    demand_sdk()
    serial = file.serial or paired.vehicle
    if serial != paired.vehicle:
        raise UsageFault(
            f"The file provisions {serial}, but this vehicle is paired as {paired.vehicle}, and its receiver knows it "
            "by that name. Give it the file of its own, or one without a serial."
        )
    keys.retire_previous()
    pending = keys.begin_identity()
    sdk = importlib.import_module("telemetry.links.aws.provisioning")
    claim = Claim(file.claim_key.encode(), file.claim_certificate.encode())
    door = Door(file.endpoint, file.port, file.ca or None)
    issued = await sdk.provision(door, claim, file.template, serial, pending.csr(serial), clock, timeout_s)
    if issued.thing != paired.vehicle:
        raise UsageFault(
            f"The template {file.template} calls this thing {issued.thing}, not {paired.vehicle}. Let it take "
            'ThingName from {"Ref": "SerialNumber"}, and pair once more.'
        )
    thing = ProvisionedThing(endpoint=file.endpoint, port=file.port, thing=issued.thing, ca=file.ca)
    disk.make_folder(LINK_FOLDER)
    replace_file(disk, THING_FILE, msgspec.json.encode(thing))
    keys.install(pending, issued.certificate_pem)
    keys.retire_previous()
    return thing


def load_thing(disk: Disk) -> ProvisionedThing | None:
    """None where this vehicle was never provisioned. Raises UsageFault."""
    try:
        return read_message(disk.read(THING_FILE), ProvisionedThing)
    except FileNotFoundError:
        return None
    except BadMessage as error:
        raise UsageFault(
            f"What this vehicle knew of its AWS thing is damaged: {error}. Pair it there again."
        ) from error


def open_aws_link(
    link: LinkSection, uplink: UplinkConfig, vehicle: str, keys: KeyStore, clock: Clock, disk: RealDisk
) -> Link:
    """Not connected yet. Raises UsageFault when nobody said which endpoint."""
    demand_sdk()
    thing = load_thing(disk)
    host = link.host or (thing.endpoint if thing is not None else "")
    if not host:
        raise UsageFault(
            '[link] kind = "aws" needs a [link] host: the endpoint that `aws iot describe-endpoint --endpoint-type '
            "iot:Data-ATS` tells; or pair this vehicle there: outrider pair FILE, with a file of docs/clouds.md."
        )
    ca = read_ca(link.ca_file) if link.ca_file else (thing.ca if thing is not None else "")
    return AwsLink(
        host,
        link.port or (thing.port if thing is not None else PORT),
        vehicle,
        keys if thing is None else open_thing_keys(disk.root),
        clock,
        ca_pem=ca or None,
        timeout_s=link.timeout_s,
        in_flight=uplink.window,
        acks=Acks(link.acks),
    )
