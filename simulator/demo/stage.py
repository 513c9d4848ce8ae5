"""The demo's machine: folders, ports and processes of one vehicle and one receiver, all on loopback.

Every process is the product's own, started as its user would start it; what stands between them is a proxy that can
cut the link, and a witness who hears what the agent claims to be durable.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from agent.apiclient import AgentNotRunning, ask_status
from ecu.clock import SystemClock
from ecu.errors import EnvironmentFault
from ecu.process import PARENT_VARIABLE
from ecu.urgency import Urgency, prefer
from inference.evaluation import DEFAULT_EVALUATION
from inference.package import find_package
from ota.kinds import Kind
from ota.manifest import BundleManifest
from receiver.pki import CA_FILE
from simulator.demo.clouds.cloud import Cloud
from simulator.demo.script import Script
from simulator.demo.settings import Sections, write_settings
from simulator.demo.signalproof import campaign
from simulator.demo.signing import SigningDesk
from simulator.faults.net import FaultProxy
from telemetry.capture.campaigns.campaign import CAMPAIGNS_FILE

START_WITHIN_S: Final = 30.0
STOP_WITHIN_S: Final = 20.0
VEHICLE: Final = "demo-vehicle"
INTRUDER: Final = "demo-intruder"
OLD_MODEL: Final = "drive-detect@1.0"
NEW_MODEL: Final = "drive-detect@2.0"
PICTURES_EVERY: Final = 12
LOCKSTEP_PICTURES_EVERY: Final = 25
"""Of its pre-roll. In lockstep the drive waits for each picture to be covered."""
OBJECTS_BYTES_PER_S: Final = 16 * 1024 * 1024
"""Nobody else needs this network."""
LEARNING: Final = {"learning_buffer": 1000, "learning_rate": 1.0}
"""The receiver's: the classroom says when everybody has told what it learned, and takes one step."""
HARD_BRAKES_AT_S: Final = (3.0, 13.0, 25.0, 37.0)


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything lies, below one folder with a short name (a Unix socket's path has at most 107 characters)."""

    root: Path

    @property
    def agent(self) -> Path:
        return self.root / "vehicle"

    @property
    def receiver(self) -> Path:
        return self.root / "receiver"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def scratch(self) -> Path:
        """For what its processes leave in a temporary folder when they are killed."""
        return self.root / "tmp"

    @property
    def owner(self) -> Path:
        """The fleet's owner: keys, and the releases that the receiver serves."""
        return self.root / "owner"

    @property
    def drive(self) -> Path:
        """What the vehicle's camera sees."""
        return self.root / "drive.avi"

    @property
    def config(self) -> Path:
        return self.root / "outrider.toml"

    @property
    def intruder(self) -> Path:
        return self.root / "intruder"

    @property
    def signals(self) -> Path:
        return self.root / "signals.sock"

    @property
    def witness(self) -> Path:
        return self.root / "witness.sock"

    @property
    def testimony(self) -> Path:
        return self.root / "witness.log"

    @property
    def agent_socket(self) -> Path:
        return self.agent / "agent.sock"


class StageFault(EnvironmentFault):
    """A process of the demo didn't do its part. The message ends with what it said last."""


class Stage:
    """Starts, kills and asks the demo's processes. Use as an async context; leaving it ends all of them."""

    def __init__(
        self, places: Places, drive: Path, script: Script, environment: Mapping[str, str], cloud: Cloud | None = None
    ) -> None:
        self.places = places
        self._cloud = cloud
        self._registering = asyncio.Lock()
        self.proxy: FaultProxy | None = None
        self.desk: SigningDesk | None = None
        self._served = ""
        self._releases: list[BundleManifest] = []
        self._drive = drive
        self._script = script
        self._environment = {**environment, PARENT_VARIABLE: str(os.getpid()), "TMPDIR": str(places.scratch)}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._receiver_ports: dict[str, Any] = {}
        self._exits = contextlib.AsyncExitStack()

    @property
    def shares_the_road(self) -> bool:
        """At real speed: what is another computer on a real road must not take the car's processors here."""
        return not self._script.lockstep

    async def __aenter__(self) -> Stage:
        for folder in (self.places.logs, self.places.scratch, self.places.agent, self.places.intruder):
            folder.mkdir(parents=True, exist_ok=True)
        if self._cloud is not None:
            self._exits.push_async_callback(self._cloud.stop)
            await self._cloud.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in list(self._processes):
            await self.kill(name)
        await self._exits.aclose()

    async def found_desk(self) -> None:
        """Repositories, the labelled set by which every model is judged, and a model that nobody is to have yet. A
        receiver that is started from now on serves them."""
        self._served = str(self.places.owner / "fleet")
        await asyncio.to_thread(self._found_desk)

    def _found_desk(self) -> None:
        self.desk = desk = SigningDesk(self.places.owner, SystemClock())
        name, _, version = NEW_MODEL.partition("@")
        self._releases = [
            desk.release(DEFAULT_EVALUATION, Kind.EVALUATION, "road", "1.0", 1),
            desk.release(find_package(NEW_MODEL), Kind.MODEL, name, version, 1),
        ]
        if self.shares_the_road:
            self._releases.insert(0, desk.release(self._campaign_folder(), Kind.CAMPAIGN, "braking", "1.0", 1))
        desk.assign([], [])

    def _campaign_folder(self) -> Path:
        folder = self.places.owner / "campaign"
        folder.mkdir()
        (folder / CAMPAIGNS_FILE).write_bytes(campaign())
        return folder

    async def assign_new_model(self) -> str:
        """From now on the vehicle is to have it; the rest is the vehicle's. What it is called."""
        assert self.desk is not None
        await asyncio.to_thread(self.desk.assign, [VEHICLE], self._releases)
        return self._releases[-1].title

    # --- the cast ---------------------------------------------------------------------------------

    async def start_receiver(self) -> None:
        """On ports of its own choice the first time, on the same ones ever after."""
        self._write_config()
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb", 0) as pipe:
            try:
                await self._start(
                    "receiver", ["outrider", "receiver", "run", "--state", str(self.places.receiver), "--config",
                                 str(self.places.config), "--ready-fd", str(writing)], (writing,),
                )  # fmt: skip
            finally:
                os.close(writing)
            if self.shares_the_road:
                prefer(self.pid("receiver"), Urgency.PATIENT)
            line = await self._within(first_line(pipe), "receiver", "to be ready")
        if not line:
            raise StageFault(f"The receiver ended before it was ready. {self._last_words('receiver')}")
        self._receiver_ports = json.loads(line)
        if self._cloud is not None:
            authority = certificate_of(self.places.receiver / CA_FILE)
            await self._cloud.join("localhost", int(self._receiver_ports["https_port"]), authority)

    async def start_proxy(self) -> None:
        if self._cloud is None:
            proxy = FaultProxy("127.0.0.1", int(self._receiver_ports["mqtt_port"]))
        else:
            host, port = self._cloud.door
            proxy = FaultProxy(*self._cloud.target, host=host, port=port)
        self.proxy = await self._exits.enter_async_context(proxy)

    async def pair(self, vehicle: str, state: Path) -> None:
        """Enrols a vehicle with the receiver and pairs it, by the two commands that people use."""
        pairing = self.places.root / f"{vehicle}.pairing.json"
        await self.run(["receiver", "enrol", vehicle, "--state", str(self.places.receiver), "--out",
                                 str(pairing)])  # fmt: skip
        await self.run(["pair", str(pairing), "--state", str(state)])
        if self._cloud is not None and (registration := self._cloud.registration(vehicle)) is not None:
            # One after the other: on a plain broker everybody who asks hears what AWS would tell each alone.
            async with self._registering:
                await self.run(["pair", str(registration), "--state", str(state)])

    async def start_world(self) -> None:
        """What the agent finds around it: a vehicle that speaks, and a witness that listens."""
        await self._start("vehicle", ["simulator.vehicle", "--socket", str(self.places.signals), "--hard-brake-at",
                                      *(str(at_s) for at_s in HARD_BRAKES_AT_S)])  # fmt: skip
        await self._start("witness", ["simulator.witness", "--socket", str(self.places.witness), "--out",
                                      str(self.places.testimony)])  # fmt: skip
        await self._until("vehicle", self.places.signals.exists)
        await self._until("witness", self.places.witness.exists)

    async def start_agent(self, wall_error_s: float = 0.0, parked: bool = False) -> None:
        """Returns when it answers. A parked one has no sources and only sends. Each begins where the last one ended."""
        self._write_config(wall_error_s, parked)
        await self._start("agent", ["outrider", "agent", "run", "--state", str(self.places.agent), "--config",
                                    str(self.places.config)])  # fmt: skip
        await self._until("agent", self._agent_answers)

    def status(self) -> Any:
        """The agent's own status. Raises AgentNotRunning."""
        return ask_status(self.places.agent_socket)

    def pids(self) -> dict[str, int]:
        """The processes that run now, by name."""
        return {name: process.pid for name, process in self._processes.items()}

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def condition(self, name: str) -> str:
        """Whether it runs, and what it logged last: for a message about something that it should have done."""
        process = self._processes.get(name)
        ended = "isn't there" if process is None else f"ended with {process.returncode}"
        is_running = process is not None and process.returncode is None
        return f"The {name} {'runs' if is_running else ended}. {self._last_words(name)}"

    async def kill(self, name: str) -> None:
        """SIGKILL, and waits until the kernel has taken it away."""
        process = self._processes.pop(name, None)
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    async def stop(self, name: str) -> int:
        """SIGTERM, as ignition off or a service manager does; its exit code."""
        process = self._processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                return await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise StageFault(f"The {name} didn't stop within {STOP_WITHIN_S:.0f} s. {self._last_words(name)}") from None

    async def run(self, verb: Sequence[str], patient: bool = False, may_find_fault: bool = False) -> str:
        """One `outrider` command to its end; its standard output. A patient one lets every other process go first, and
        one that may find fault (exit code 1) has its say all the same."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "outrider", *verb,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=self._environment,
        )  # fmt: skip
        if patient:
            prefer(process.pid, Urgency.PATIENT)
        try:
            out, errors = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        found_fault = may_find_fault and process.returncode == 1 and out
        if process.returncode != 0 and not found_fault:
            raise StageFault(f"`outrider {' '.join(verb)}` answered {process.returncode}: {errors.decode().strip()}")
        return out.decode()

    # --- how --------------------------------------------------------------------------------------

    async def _start(self, name: str, module_and_arguments: Sequence[str], pass_fds: Sequence[int] = ()) -> None:
        with (self.places.logs / f"{name}.log").open("ab") as log:
            self._processes[name] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *module_and_arguments,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=pass_fds, env=self._environment,
                start_new_session=True,
            )  # fmt: skip

    def _write_config(self, wall_error_s: float = 0.0, parked: bool = False) -> None:
        """One file for agent and receiver."""
        write_settings(self.places.config, {**self._agent_sections(wall_error_s, parked), **self._link_sections()})

    def _agent_sections(self, wall_error_s: float, parked: bool) -> Sections:
        lockstep = self._script.lockstep and not parked
        return {
            "run": {"lockstep": lockstep, "wall_error_s": wall_error_s},
            "camera": {"source": "" if parked else f"video:{self._drive}?loop=1"},
            "signals": {"source": "" if parked else f"unix:{self.places.signals}"},
            "privacy": {"consents": ["safety", "driving", "perception", "operation"]},
            "perception": {"model": OLD_MODEL},
            "updates": {
                "poll_s": 1.0,
                "shadow_frames": self._script.shadow_frames,
                "prove_frames": self._script.prove_frames,
            },
            "pictures": {"every": LOCKSTEP_PICTURES_EVERY if lockstep else PICTURES_EVERY},
            "objects": {"bytes_per_s": OBJECTS_BYTES_PER_S},
            "witness": {"socket": str(self.places.witness)},
        }

    def _link_sections(self) -> Sections:
        port = self.proxy.port if self.proxy is not None else 0
        more = dict(self._cloud.receiver_sections) if self._cloud is not None else {}
        receiver = more.pop("receiver", {})
        return {
            "uplink": {"backoff_base_s": 0.2, "backoff_cap_s": 1.0, "throttle_cap_s": 1.0},
            "link": {"port": port, "timeout_s": 3.0, **(self._cloud.link_section if self._cloud is not None else {})},
            **more,
            "receiver": {
                **LEARNING,
                **receiver,
                "updates": self._served,
                "mqtt_port": self._receiver_ports.get("mqtt_port", 0),
                "https_port": self._receiver_ports.get("https_port", 0),
            },
        }

    def _agent_answers(self) -> bool:
        try:
            self.status()
        except AgentNotRunning:
            return False
        return True

    async def _until(self, name: str, reached: Any) -> None:
        async def look() -> None:
            while not await asyncio.to_thread(reached):
                if self._processes[name].returncode is not None:
                    raise StageFault(f"The {name} ended at once. {self._last_words(name)}")
                await asyncio.sleep(0.02)

        await self._within(look(), name, "to answer")

    async def _within(self, waited_for: Any, name: str, what: str) -> Any:
        try:
            async with asyncio.timeout(START_WITHIN_S):
                return await waited_for
        except TimeoutError:
            raise StageFault(f"Waited {START_WITHIN_S:.0f} s for the {name} {what}. {self._last_words(name)}") from None

    def _last_words(self, name: str) -> str:
        log = self.places.logs / f"{name}.log"
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        return f"It said: {' / '.join(lines[-3:]) if lines else 'nothing'}"


def certificate_of(file: Path) -> str:
    """The certificate, PEM, of a file that holds a key too."""
    return x509.load_pem_x509_certificate(file.read_bytes()).public_bytes(serialization.Encoding.PEM).decode()


async def first_line(pipe: BinaryIO) -> bytes:
    """Empty when the other end is closed before. It can be given up: a thread that reads could not, nor the pipe be
    closed beside it."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    try:
        return await reader.readline()
    finally:
        transport.close()
