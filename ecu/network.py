"""Which network the computer has: the interface that its default route names, and what that interface is."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from ecu.conditions import Network

CELLULAR_NAMES: Final = ("wwan*", "ppp*", "rmnet*", "ccmni*")
ETHERNET_TYPE: Final = 1
"""ARPHRD_ETHER (linux/if_arp.h). What isn't of it has no neighbours: a modem, a dialled line or a tunnel over one."""
_ROUTE_UP: Final = 0x1
_ROUTE_REJECT: Final = 0x200
_TRUE: Final = frozenset({"1", "y", "yes", "true", "on", "roaming"})
_FALSE: Final = frozenset({"0", "n", "no", "false", "off", "home"})


@dataclass(frozen=True, slots=True)
class Reach:
    """How the cloud is reached now; `interface` is empty without a default route."""

    network: Network
    interface: str = ""


class NetworkSource(Protocol):
    """Says which network there is now. Quick, and never raises: it is asked before each slice."""

    def now(self) -> Reach: ...


class SettableNetwork:
    """Whatever it was told: tests, scenarios, and a vehicle whose other computer knows."""

    def __init__(self, network: Network = Network.WIRED) -> None:
        self.reach = Reach(network)

    def now(self) -> Reach:
        return self.reach


class LinuxNetwork:
    """From the kernel's own files. `interfaces` says by globs over names what the kernel can't: a modem that looks like
    Ethernet. `roaming`, if given, is a file that whoever runs the modem keeps up to date; see `is_roaming`."""

    def __init__(
        self,
        interfaces: Mapping[str, Network] | None = None,
        roaming: Path | None = None,
        *,
        proc: Path = Path("/proc/net"),
        devices: Path = Path("/sys/class/net"),
    ) -> None:
        self._interfaces = dict(interfaces or {})
        self._roaming = roaming
        self._proc = proc
        self._devices = devices

    def now(self) -> Reach:
        name = default_interface(_text(self._proc / "route"), _text(self._proc / "ipv6_route"))
        if name is None:
            return Reach(Network.NONE)
        network = self._kind(name)
        if network is Network.METERED and self._roaming is not None and is_roaming(_text(self._roaming)):
            network = Network.ROAMING
        return Reach(network, name)

    def _kind(self, name: str) -> Network:
        for glob, network in self._interfaces.items():
            if fnmatch.fnmatchcase(name, glob):
                return network
        device = self._devices / name
        is_wireless = (device / "wireless").exists() or (device / "phy80211").exists()
        return kind_of(name, is_wireless, _text(device / "type"), _text(device / "uevent"))


def default_interface(ipv4: str, ipv6: str = "") -> str | None:
    """The interface of the best default route: IPv4's before IPv6's, the lowest metric first. `ipv4` and `ipv6` are
    /proc/net/route and /proc/net/ipv6_route."""
    routes = [*_ipv4_defaults(ipv4), *_ipv6_defaults(ipv6)]
    return min(routes, default=(0, 0, None))[2]


def kind_of(name: str, is_wireless: bool, type_text: str, uevent: str) -> Network:
    """What an interface is. What isn't plainly wireless or Ethernet counts as metered: a tunnel's own way is unknown,
    and a wrong guess the other way costs its owner money."""
    if is_wireless:
        return Network.WIFI
    is_cellular = any(fnmatch.fnmatchcase(name, glob) for glob in CELLULAR_NAMES) or "DEVTYPE=wwan" in uevent.split()
    return Network.WIRED if type_text == str(ETHERNET_TYPE) and not is_cellular else Network.METERED


def is_roaming(text: str) -> bool:
    """Of the roaming file's text: 1, yes, true, on or roaming; 0, no, false, off or home. What says neither, or can't
    be read, counts as roaming: nobody wants to find that out from a bill."""
    word = text.strip().casefold()
    return word in _TRUE or word not in _FALSE


def _ipv4_defaults(text: str) -> list[tuple[int, int, str]]:
    """Lines of proc(5), net/route: Iface Destination Gateway Flags RefCnt Use Metric Mask ..."""
    return [
        (4, _number(fields[6], 10), fields[0])
        for fields in map(str.split, text.splitlines()[1:])
        if len(fields) >= 8 and fields[1] == fields[7] == "00000000" and _is_usable(fields[3])
    ]


def _ipv6_defaults(text: str) -> list[tuple[int, int, str]]:
    """Lines of net/ipv6_route: destination, prefix, source, prefix, next hop, metric, references, use, flags, Iface."""
    return [
        (6, _number(fields[5], 16), fields[9])
        for fields in map(str.split, text.splitlines())
        if len(fields) >= 10 and (fields[0], fields[1]) == ("0" * 32, "00") and _is_usable(fields[8])
        if fields[9] != "lo"
    ]


def _is_usable(flags: str) -> bool:
    bits = _number(flags, 16)
    return bool(bits & _ROUTE_UP) and not bits & _ROUTE_REJECT


def _number(text: str, base: int) -> int:
    try:
        return int(text, base)
    except ValueError:
        return 0


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
