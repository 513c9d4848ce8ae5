"""A double of Azure IoT Hub and its provisioning service, as devices see them: MQTT 3.1.1 over TLS on port 8883.

Devices are isolated by connection, as in a hub: twin and method topics carry no device's name. Who a device is, its
certificate says. What it tells is handed on (simulator/clouds/eventgrid.py); the service side is
simulator/clouds/hubservice.py. Topics: learn.microsoft.com/azure/iot/iot-mqtt-connect-to-iot-hub and
learn.microsoft.com/azure/iot/iot-mqtt-connect-to-iot-dps.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import parse_qsl

from cryptography import x509
from cryptography.x509.oid import NameOID

from ecu.clock import Clock, SystemClock
from ecu.disk import RealDisk
from ecu.errors import EnvironmentFault
from receiver.counters import Counters
from receiver.listener import Listener, listen
from receiver.pki import Authority
from simulator.clouds import mqtt311
from simulator.clouds.mqtt311 import Framer, Kind, Malformed, Packet, Publish

PORT: Final = 8883
MAX_MESSAGE_BYTES: Final = 256 * 1024
ADDRESSES_TRIED: Final = 20
_NOT_AUTHORIZED: Final = 5
_EVENTS: Final = re.compile(r"devices/([^/]+)/messages/events/(.*)")
_TWIN_GET: Final = re.compile(r"\$iothub/twin/GET/\?\$rid=(.+)")
_TWIN_PATCH: Final = re.compile(r"\$iothub/twin/PATCH/properties/reported/\?\$rid=(.+)")
_METHOD_ANSWER: Final = re.compile(r"\$iothub/methods/res/(\d+)/\?\$rid=(.+)")
_REGISTER: Final = re.compile(r"\$dps/registrations/PUT/iotdps-register/\?\$rid=(.+)")
_POLL: Final = re.compile(r"\$dps/registrations/GET/iotdps-get-operationstatus/\?\$rid=([^&]+)&operationId=(.+)")
_DPS_USER: Final = re.compile(r"([^/]+)/registrations/([^/]+)/.*")
_TWIN_ANSWERS: Final = "$iothub/twin/res/#"
_TWIN_PATCHES: Final = "$iothub/twin/PATCH/properties/desired/#"
_METHODS: Final = "$iothub/methods/POST/#"
_DPS_ANSWERS: Final = "$dps/registrations/res/#"


class NotOnline(Exception):
    """The device isn't connected, or answers no methods."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One message of a device, as the hub took it."""

    device: str
    body: bytes
    properties: Mapping[str, str]


@dataclass(slots=True)
class Device:
    """What the hub knows of one, and how it is to fail for it on command."""

    enabled: bool = True
    desired: dict[str, Any] = field(default_factory=lambda: {"$version": 1})
    reported: dict[str, Any] = field(default_factory=lambda: {"$version": 1})
    twin_status: int = 204
    acknowledges: bool = True
    over_quota: bool = False


class HubDouble:
    """Vehicles know it as `host`; it listens at `address`. `scope` is the provisioning service's; who registers there
    with a certificate of a trusted authority is enrolled with this hub."""

    def __init__(self, host: str, address: str, authority: Authority, scope: str = "0ne00DOUBLE") -> None:
        self.host = host
        self.address = address
        self.scope = scope
        self.devices: dict[str, Device] = {}
        self.on_telemetry: Callable[[Telemetry], None] = lambda told: None
        self.sessions_asked_for = 0
        # On command it falls silent, or talks nonsense.
        self.greets = True
        self.tells_registrations = True
        self._authority = authority
        self._context = authority.server_context((host,), ssl.CERT_REQUIRED)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._sessions: dict[str, _Session] = {}
        self._connections: set[_Session] = set()
        self._names = itertools.count(1)

    @property
    def ca_pem(self) -> str:
        """Whoever signs this hub's own certificate."""
        return self._authority.pem

    def server_context(self) -> ssl.SSLContext:
        """For the service side: no client certificates."""
        context = self._authority.server_context((self.host,), ssl.CERT_NONE)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def trust(self, ca_pem: str) -> None:
        """An enrolment group: whoever has a certificate of this authority may register."""
        self._context.load_verify_locations(cadata=ca_pem)

    def enrol(self, device: str) -> Device:
        return self.devices.setdefault(device, Device())

    def disable(self, device: str) -> None:
        """As an operator does: its session ends, and it is let in no more."""
        self.devices[device].enabled = False
        self.cut(device)

    def is_connected(self, device: str) -> bool:
        return device in self._sessions

    def cut(self, device: str) -> None:
        if (session := self._sessions.pop(device, None)) is not None:
            session.cut()

    def desire(self, device: str, patch: Mapping[str, Any]) -> None:
        """Changes a twin's desired properties, and tells the device when it is there."""
        desired = self.devices[device].desired
        merge(desired, patch)
        desired["$version"] += 1
        if (session := self._sessions.get(device)) is not None and _TWIN_PATCHES in session.filters:
            told = {**patch, "$version": desired["$version"]}
            session.publish(f"$iothub/twin/PATCH/properties/desired/?$version={desired['$version']}", told)

    async def invoke(self, device: str, method: str, payload: Any, timeout_s: float) -> tuple[int, Any]:
        """A direct method; what the device answered. Raises NotOnline or TimeoutError."""
        session = self._sessions.get(device)
        if session is None or _METHODS not in session.filters:
            raise NotOnline(device)
        name = f"{next(self._names):x}"
        answer: asyncio.Future[tuple[int, Any]] = asyncio.get_running_loop().create_future()
        session.calls[name] = answer
        session.publish(f"$iothub/methods/POST/{method}/?$rid={name}", payload)
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        finally:
            del session.calls[name]

    @contextlib.asynccontextmanager
    async def serving(self, listening: socket.socket) -> AsyncIterator[None]:
        # The receiver's own listener: of a refused certificate it says so, which asyncio's server doesn't.
        listener = Listener(listening, self._context, lambda: _Session(self), lambda: True, SystemClock(), Counters())
        accepting = asyncio.get_running_loop().create_task(listener.run())
        try:
            yield
        finally:
            accepting.cancel()
            for session in list(self._connections):
                session.cut()

    def arrived(self, session: _Session) -> None:
        self._connections.add(session)

    def left(self, session: _Session) -> None:
        self._connections.discard(session)
        if self._sessions.get(session.device) is session:
            del self._sessions[session.device]

    def admit(self, session: _Session) -> bool:
        """One session a device: a newer one takes over."""
        device = self.devices.get(session.device)
        if device is None or not device.enabled:
            return False
        self.cut(session.device)
        self._sessions[session.device] = session
        return True


class _Session(asyncio.Protocol):
    """One connection: of a device to the hub, or of one that registers."""

    def __init__(self, hub: HubDouble) -> None:
        self.device = ""
        self.filters: set[str] = set()
        self.calls: dict[str, asyncio.Future[tuple[int, Any]]] = {}
        self._hub = hub
        self._framer = Framer()
        self._act: Callable[[Publish], None] | None = None
        self._common_name = ""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._common_name = _common_name(transport.get_extra_info("ssl_object").getpeercert(True))
        self._hub.arrived(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._hub.left(self)
        for answer in self.calls.values():
            if not answer.done():
                answer.set_exception(NotOnline(self.device))

    def data_received(self, data: bytes) -> None:
        try:
            for packet in self._framer.feed(data):
                self._take(packet)
        except (Malformed, ValueError):
            self.cut()

    def publish(self, topic: str, payload: Any) -> None:
        self._transport.write(mqtt311.publish(topic, b"" if payload is None else json.dumps(payload).encode()))

    def cut(self) -> None:
        self._transport.abort()

    def _take(self, packet: Packet) -> None:
        match packet.kind:
            case Kind.CONNECT:
                self._connect(mqtt311.read_connect(packet.body))
            case Kind.PUBLISH if self._act is not None:
                self._act(mqtt311.read_publish(packet))
            case Kind.SUBSCRIBE if self._act is not None:
                number, filters = mqtt311.read_subscribe(packet.body)
                self.filters |= set(filters)
                self._transport.write(mqtt311.suback(number, len(filters)))
            case Kind.PINGREQ:
                self._transport.write(mqtt311.pingresp())
            case Kind.PUBACK:
                pass
            case Kind.DISCONNECT:
                self._transport.close()
            case _:
                raise Malformed(packet.kind.name)

    def _connect(self, connect: mqtt311.Connect) -> None:
        if not self._hub.greets:
            return
        self._hub.sessions_asked_for += not connect.clean
        if (told := _DPS_USER.fullmatch(connect.username)) is not None:
            welcome = told[1] == self._hub.scope and told[2] == connect.client_id == self._common_name
            self._act = self._provision
        else:
            self.device = self._common_name
            named = connect.username.startswith(f"{self._hub.host}/{self.device}/?")
            welcome = named and connect.client_id == self.device and self._hub.admit(self)
            self._act = self._serve
        self._transport.write(mqtt311.connack(0 if welcome else _NOT_AUTHORIZED))
        if not welcome:
            self._act = None
            self._transport.close()

    # --- the hub ----------------------------------------------------------------------------------

    def _serve(self, told: Publish) -> None:
        device = self._hub.devices[self.device]
        if (found := _EVENTS.fullmatch(told.topic)) is not None:
            self._telemetry(device, told, found[1], found[2])
            return
        if told.packet_id is not None:
            self._transport.write(mqtt311.puback(told.packet_id))
        if (found := _TWIN_GET.fullmatch(told.topic)) is not None:
            self._answer(found[1], 200, {"desired": device.desired, "reported": device.reported})
        elif (found := _TWIN_PATCH.fullmatch(told.topic)) is not None:
            self._reported(device, found[1], told.payload)
        elif (found := _METHOD_ANSWER.fullmatch(told.topic)) is not None:
            self._answered(found[2], int(found[1]), json.loads(told.payload or b"null"))
        else:
            raise Malformed(f"{self.device} published {told.topic}")

    def _telemetry(self, device: Device, told: Publish, name: str, properties: str) -> None:
        if name != self.device or len(told.payload) + len(properties) > MAX_MESSAGE_BYTES or device.over_quota:
            # No reason codes in 3.1.1: a hub that won't take a message ends the connection.
            raise Malformed(f"{self.device} published {told.topic}")
        if not device.acknowledges:
            return
        self._hub.on_telemetry(Telemetry(self.device, told.payload, dict(parse_qsl(properties))))
        if told.packet_id is not None:
            self._transport.write(mqtt311.puback(told.packet_id))

    def _reported(self, device: Device, name: str, payload: bytes) -> None:
        if device.twin_status != 204:
            self._answer(name, device.twin_status, {"errorCode": device.twin_status})
            return
        merge(device.reported, json.loads(payload))
        device.reported["$version"] += 1
        self._answer(f"{name}&$version={device.reported['$version']}", 204, None)

    def _answer(self, name: str, status: int, payload: Any) -> None:
        if _TWIN_ANSWERS in self.filters:
            self.publish(f"$iothub/twin/res/{status}/?$rid={name}", payload)

    def _answered(self, name: str, status: int, payload: Any) -> None:
        if (answer := self.calls.get(name)) is not None and not answer.done():
            answer.set_result((status, payload))

    # --- the provisioning service -----------------------------------------------------------------

    def _provision(self, told: Publish) -> None:
        if told.packet_id is not None:
            self._transport.write(mqtt311.puback(told.packet_id))
        if (found := _REGISTER.fullmatch(told.topic)) is not None:
            self._tell(found[1], 202, {"operationId": "4.double", "status": "assigning"})
        elif (found := _POLL.fullmatch(told.topic)) is not None:
            self._hub.enrol(self._common_name)
            self._tell(found[1], 200, _assigned(self._common_name, self._hub.host))

    def _tell(self, name: str, status: int, payload: Any) -> None:
        if _DPS_ANSWERS not in self.filters:
            return
        if not self._hub.tells_registrations:
            payload = {"nothing": "that a client expects"}
        self.publish(f"$dps/registrations/res/{status}/?$rid={name}&retry-after=0", payload)


@contextlib.asynccontextmanager
async def running_hub(folder: Path, clock: Clock, rng: Random, *, behind: str = "") -> AsyncIterator[HubDouble]:
    """A hub on an address of its own: the SDK knows no other port than 8883, so each hub has another 127.x.y.z.

    `behind` is where vehicles find it instead, when something stands in between.
    """
    listening = listen_anywhere(PORT, rng)
    address = str(listening.getsockname()[0])
    disk = RealDisk(folder)
    disk.make_folder("")
    hub = HubDouble(behind or address, address, Authority(disk, clock, vehicle_days=1))
    async with hub.serving(listening):
        yield hub


def listen_anywhere(port: int, rng: Random) -> socket.socket:
    """Listens on some loopback address where nobody has this port yet. All of 127.0.0.0/8 is this computer."""
    for _ in range(ADDRESSES_TRIED - 1):
        with contextlib.suppress(EnvironmentFault):
            return listen(some_address(rng), port, "a double of a cloud")
    return listen("127.0.0.1", port, "a double of a cloud")


def some_address(rng: Random) -> str:
    """Of this computer's millions; that nobody else has just this one is likely, not sure."""
    return f"127.{rng.randrange(1, 255)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"


def merge(whole: dict[str, Any], patch: Mapping[str, Any]) -> None:
    """As a twin does: null removes, objects are merged, the rest is replaced."""
    for name, value in patch.items():
        if value is None:
            whole.pop(name, None)
        elif isinstance(value, dict):
            merge(whole.setdefault(name, {}), value)
        else:
            whole[name] = value


def _assigned(device: str, hub: str) -> dict[str, Any]:
    moment = "2026-01-01T00:00:00.0000000Z"
    state = {
        "registrationId": device,
        "assignedHub": hub,
        "deviceId": device,
        "status": "assigned",
        "substatus": "initialAssignment",
        "createdDateTimeUtc": moment,
        "lastUpdatedDateTimeUtc": moment,
        "etag": "double",
    }
    return {"operationId": "4.double", "status": "assigned", "registrationState": state}


def _common_name(der: bytes) -> str:
    names = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""
