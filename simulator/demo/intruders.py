"""Those who aren't our vehicle: a stranger with a certificate of its own, and whoever throws bytes at the port."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from pathlib import Path
from random import Random
from typing import Final

from agent.pairing import KEYS_FOLDER, Paired, load_paired, tls_context
from ecu.clock import Clock
from ecu.disk import RealDisk
from ecu.keys import FileKeyStore, MemoryKeyStore
from receiver.pki import Authority
from simulator.demo.stage import INTRUDER, VEHICLE, Stage
from simulator.faults.packets import assault, hostile_packets
from telemetry.links.link import LinkError, Unauthorized
from telemetry.links.mqtt import MqttLink
from telemetry.links.tls import pinned_context

PACKETS: Final = 2000
SEED: Final = 1883


def _paired(state: Path) -> Paired:
    """Where a vehicle's receiver is, as that vehicle itself remembers it."""
    return load_paired(RealDisk(state))


async def try_stranger(stage: Stage, clock: Clock) -> str | None:
    """Knocks with the vehicle's name in a certificate of another authority; the refusal's words.

    None when it was let in, or failed for another reason: only a door that is open to its owner can refuse.
    """
    receiver = _paired(stage.places.agent)
    link = MqttLink(
        receiver.host, receiver.mqtt_port, VEHICLE, await asyncio.to_thread(_forged, receiver.ca, clock), clock,
        timeout_s=5.0,
    )  # fmt: skip
    try:
        await link.connect()
    except Unauthorized as refusal:
        return str(refusal)
    except LinkError:
        return None
    finally:
        await link.close()
    return None


def _forged(ca_pem: str, clock: Clock) -> ssl.SSLContext:
    """Trusts the real receiver, and proves to be the vehicle by a certificate that only a stranger signed."""
    keys = MemoryKeyStore()
    with tempfile.TemporaryDirectory(prefix="outrider-stranger-") as folder:
        authority = Authority(RealDisk(Path(folder)), clock, vehicle_days=1.0)
        pending = keys.begin_identity()
        keys.install(pending, authority.issue(pending.csr(VEHICLE), VEHICLE).pem)
    context = pinned_context(ca_pem)
    keys.load_identity(context)
    return context


async def besiege(stage: Stage) -> int:
    """A paired vehicle gone bad throws PACKETS hostile packets at the endpoint; how many it threw.

    Raises TimeoutError when the endpoint no longer answers.
    """
    await stage.pair(INTRUDER, stage.places.intruder)
    receiver = _paired(stage.places.intruder)
    context = tls_context(receiver, FileKeyStore.open(stage.places.intruder / KEYS_FOLDER))

    async def dial() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            receiver.host, receiver.mqtt_port, ssl=context, server_hostname=receiver.host
        )

    thrown = await assault(dial, hostile_packets(Random(SEED), PACKETS, INTRUDER, VEHICLE))
    return thrown.packets
