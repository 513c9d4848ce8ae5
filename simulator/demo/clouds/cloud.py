"""What the demo needs of a cloud that it puts between its vehicle and its receiver."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol

from ecu.errors import UsageFault
from ecu.toml import nearest
from simulator.demo.clouds.azure import AzureCloud
from simulator.demo.settings import Sections

DIRECT: Final = "mqtt"


class Cloud(Protocol):
    """Between `start` and `stop` it is there. Vehicles go to `door`, where the demo hands them on to `target`."""

    door: tuple[str, int]

    @property
    def target(self) -> tuple[str, int]: ...

    @property
    def receiver_sections(self) -> Sections:
        """What the receiver must know of it."""
        ...

    @property
    def link_section(self) -> Mapping[str, Any]:
        """A vehicle's `[link]`; the port that the demo chose at the door isn't in it."""
        ...

    async def start(self) -> None:
        """Raises UsageFault or EnvironmentFault for what isn't installed."""
        ...

    async def join(self, host: str, https_port: int, authority_pem: str) -> None:
        """The receiver is up, for the first time or again."""
        ...

    def registration(self, vehicle: str) -> Path | None:
        """The file that a paired vehicle is given too, if it needs one."""
        ...

    async def stop(self) -> None: ...


CLOUDS: Final[Mapping[str, Callable[[Path, Random], Cloud]]] = {"azure": AzureCloud}


def cloud_of(link: str, folder: Path, rng: Random) -> Cloud | None:
    """None for the receiver's own endpoint. Raises UsageFault for a link that the demo doesn't know."""
    if link == DIRECT:
        return None
    if link not in CLOUDS:
        likely = nearest(link, [DIRECT, *CLOUDS])
        raise UsageFault(
            f"--link {link}: the demo knows {', '.join([DIRECT, *CLOUDS])}."
            + (f" Did you mean {likely}?" if likely else "")
        )
    return CLOUDS[link](folder, rng)
