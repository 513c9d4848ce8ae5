"""What may go over which network: the [network] section of outrider.toml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, assert_never

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ecu.conditions import Network
from telemetry.records import Lane

ALL_LANES: Final = tuple(Lane)


def _lane(given: Any) -> Any:
    return Lane.__members__.get(given.upper(), given) if isinstance(given, str) else given


LaneName = Annotated[Lane, BeforeValidator(_lane)]


class NetworkRule(BaseModel):
    """What may go over one kind of network, and come. Objects go with P3."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lanes: tuple[LaneName, ...] = Field(default=ALL_LANES, description="Lanes that may go; P0 always may.")
    bytes_per_day: int = Field(
        default=0, ge=0, description="Most in 24 hours, both ways, overhead included; 0: no limit."
    )
    p0_bytes_per_day: int = Field(
        default=2_000_000, ge=0, description="What P0 alone may take beyond bytes_per_day, bytes in 24 hours."
    )
    downloads: bool = Field(
        default=True, description="Whether releases are fetched; campaigns always are, and the question what is new."
    )
    kbit_s: float = Field(default=0.0, ge=0, description="Fastest, kbit/s; P0 doesn't wait for it. 0: no limit.")

    def lets(self, lane: Lane) -> bool:
        return lane is Lane.P0 or lane in self.lanes

    def most_bytes(self, lane: Lane) -> int | None:
        """What may have gone in a day for one of this lane to go still; None without a limit."""
        if not self.bytes_per_day:
            return None
        return self.bytes_per_day + (self.p0_bytes_per_day if lane is Lane.P0 else 0)


class MeteredRule(NetworkRule):
    lanes: tuple[LaneName, ...] = Field(
        default=(Lane.P0, Lane.P1, Lane.P2), description="Lanes that may go; P0 always may."
    )
    bytes_per_day: int = Field(
        default=50_000_000, ge=0, description="Most in 24 hours, both ways, overhead included; 0: no limit."
    )  # fmt: skip


class RoamingRule(NetworkRule):
    lanes: tuple[LaneName, ...] = Field(default=(Lane.P0,), description="Lanes that may go; P0 always may.")
    bytes_per_day: int = Field(
        default=1_000_000, ge=0, description="Most in 24 hours, both ways, overhead included; 0: no limit."
    )  # fmt: skip
    downloads: bool = Field(
        default=False, description="Whether releases are fetched; campaigns always are, and the question what is new."
    )


class NetworkConfig(BaseModel):
    """[network]: which network is which, and [network.wifi] and its like: what may go over it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    interfaces: Mapping[str, Literal["wired", "wifi", "metered", "roaming"]] = Field(
        default={}, description='What an interface is where the kernel can\'t tell, by globs: {"enx*" = "metered"}.'
    )
    roaming_file: str = Field(
        default="",
        description="Says 1 or 0: whether the modem roams. Unreadable counts as roaming. Empty: it never does.",
    )
    wired: NetworkRule = Field(default=NetworkRule(), description="What may go over a wire.")
    wifi: NetworkRule = Field(default=NetworkRule(), description="What may go over Wi-Fi.")
    metered: MeteredRule = Field(default=MeteredRule(), description="What may go over a cellular network.")
    roaming: RoamingRule = Field(default=RoamingRule(), description="What may go over a cellular network abroad.")
    none: NetworkRule = Field(default=NetworkRule(), description="What may go where there is no default route.")

    def rule(self, network: Network) -> NetworkRule:
        """Without a default route there may still be a way, by loopback or a private line: it has a rule, too."""
        match network:
            case Network.WIRED:
                return self.wired
            case Network.WIFI:
                return self.wifi
            case Network.METERED:
                return self.metered
            case Network.ROAMING:
                return self.roaming
            case Network.NONE:
                return self.none
            case _:
                assert_never(network)

    def kinds(self) -> dict[str, Network]:
        """`interfaces`, as ecu.network takes them."""
        return {glob: Network(kind) for glob, kind in self.interfaces.items()}
