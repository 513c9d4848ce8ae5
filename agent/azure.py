"""A vehicle's place at Azure IoT Hub: how it registers there once, and the link that it has from then on.

It registers with the certificate that its receiver gave it: the receiver's authority is an enrolment group at the
provisioning service, so a renewed certificate is as good as the first, and no key of Azure's is ever on the vehicle.
"""

from __future__ import annotations

import asyncio
import importlib.util
import ssl
from typing import Final

import msgspec

from agent.config import LinkSection, read_ca
from agent.pairing import Paired
from ecu.clock import Clock
from ecu.disk import Disk, replace_file
from ecu.errors import UsageFault
from ecu.keys import KeyStore
from telemetry.links.azure import HubLink, hub_context
from telemetry.links.azure.tls import HubDialer
from telemetry.links.link import Acks, Link, Unreachable
from telemetry.links.pairing import BadMessage, read_message
from telemetry.uplink.config import UplinkConfig

FORMAT: Final = "outrider-azure-1"
PUBLIC_DPS: Final = "global.azure-devices-provisioning.net"
LINK_FOLDER: Final = "link"
ASSIGNED_FILE: Final = f"{LINK_FOLDER}/azure.json"
TIMEOUT_S: Final = 30.0


class RegistrationFile(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="format", tag=FORMAT
):
    """What the operator hands to a fleet: where vehicles register. No secret is in it."""

    scope: str
    dps: str = PUBLIC_DPS
    registration: str = ""  # empty: the vehicle's own id, which its certificate names
    ca: str = ""  # PEM of who signs DPS and hub; empty: whom this computer trusts


class Assigned(msgspec.Struct, frozen=True, kw_only=True):
    """Where the provisioning service sent this vehicle."""

    hub: str
    device: str
    ca: str = ""


def demand_sdk() -> None:
    """Raises UsageFault where the SDK isn't installed. Loads nothing of it."""
    try:
        found = importlib.util.find_spec("azure.iot.device") is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise UsageFault("azure-iot-device isn't installed. Run: pip install 'outrider[azure]'.")


def read_registration_file(data: bytes) -> RegistrationFile:
    """Raises UsageFault for a file that isn't whole."""
    try:
        return read_message(data, RegistrationFile)
    except BadMessage as error:
        raise UsageFault(f"This isn't a registration file: {error}. See docs/clouds.md for what is in one.") from error


async def register(
    file: RegistrationFile, paired: Paired, keys: KeyStore, disk: Disk, clock: Clock, timeout_s: float = TIMEOUT_S
) -> Assigned:
    """Asks the provisioning service for this vehicle's hub, and remembers it. It may be repeated.

    Raises Unreachable, Untrusted, ClockUntrusted, Unauthorized, Throttled or Refused, and UsageFault for a registration
    that isn't this vehicle's.
    """
    if file.registration not in ("", paired.vehicle):
        raise UsageFault(
            f"The file registers {file.registration}, but this vehicle's certificate says {paired.vehicle}, and the "
            "provisioning service believes the certificate. Give it the file of its own, or one without a name."
        )
    demand_sdk()
    hub, device = await _ask(file, paired.vehicle, keys, clock, timeout_s)
    assigned = Assigned(hub=hub, device=device, ca=file.ca)
    disk.make_folder(LINK_FOLDER)
    replace_file(disk, ASSIGNED_FILE, msgspec.json.encode(assigned))
    return assigned


def load_assigned(disk: Disk) -> Assigned:
    """Raises UsageFault."""
    try:
        return read_message(disk.read(ASSIGNED_FILE), Assigned)
    except FileNotFoundError as error:
        raise UsageFault(
            '[link] kind = "azure", but this vehicle is registered at no hub. Run: outrider pair FILE, with a file of '
            "docs/clouds.md, or name the hub: [link] host."
        ) from error
    except BadMessage as error:
        raise UsageFault(f"What this vehicle knew of its hub is damaged: {error}. Register it again.") from error


def open_hub_link(
    link: LinkSection, uplink: UplinkConfig, vehicle: str, keys: KeyStore, clock: Clock, disk: Disk
) -> Link:
    """Not connected yet. Raises UsageFault when nobody said which hub."""
    demand_sdk()
    assigned = Assigned(hub=link.host, device=vehicle) if link.host else load_assigned(disk)
    ca = read_ca(link.ca_file) if link.ca_file else assigned.ca
    return HubLink(
        assigned.hub,
        assigned.device,
        lambda: proving(keys, ca),
        clock,
        timeout_s=link.timeout_s,
        in_flight=uplink.window,
        acks=Acks(link.acks),
    )


def proving(keys: KeyStore, ca_pem: str) -> ssl.SSLContext:
    """TLS to a hub by the identity that is in use now."""
    context = hub_context(ca_pem)
    keys.load_identity(context)
    return context


async def _ask(file: RegistrationFile, vehicle: str, keys: KeyStore, clock: Clock, timeout_s: float) -> tuple[str, str]:
    from telemetry.links.azure.engine import DpsConnection  # the SDK: only a vehicle that registers loads it

    connection = DpsConnection(file.dps, HubDialer(proving(keys, file.ca), clock, file.dps, timeout_s))
    try:
        async with asyncio.timeout(timeout_s):
            assignment = await connection.register(file.scope, vehicle)
    except TimeoutError as error:
        raise Unreachable(f"{file.dps} took too long to answer. Check the network, and try again.") from error
    finally:
        connection.abandon()
    return assignment.hub, assignment.device
