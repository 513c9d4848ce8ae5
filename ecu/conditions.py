"""What heavy or risky work waits for: the vehicle parked, power, a cool computer, a network that costs nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol


class Power(Enum):
    """What the computer lives on."""

    EXTERNAL = "external"
    BATTERY = "battery"
    UNKNOWN = "unknown"


class Network(Enum):
    """By what the computer reaches the cloud, and so what a byte costs."""

    NONE = "none"  # there is no way out that we know of
    ROAMING = "roaming"  # cellular, by a network that isn't the owner's
    METERED = "metered"  # cellular
    WIFI = "wifi"
    WIRED = "wired"

    @property
    def costs_nothing(self) -> bool:
        return self in (Network.WIFI, Network.WIRED)


class Heat(Enum):
    """How near the computer is to throttling itself. A computer without sensors is COOL."""

    COOL = "cool"
    WARM = "warm"
    HOT = "hot"


@dataclass(frozen=True, slots=True)
class Conditions:
    """The world around the work, at one instant.

    `cpu_pressure` is the share of the last 10 s in which some task waited for a CPU (0..1; 0 without PSI), `load` the
    runnable tasks per CPU over the last minute.
    """

    parked: bool = False
    power: Power = Power.UNKNOWN
    network: Network = Network.NONE
    heat: Heat = Heat.COOL
    hottest_c: float | None = None
    cpu_pressure: float = 0.0
    load: float = 0.0


class ConditionsSource(Protocol):
    """Says how things are now. Quick, and never raises: what can't be read counts as unknown."""

    def now(self) -> Conditions: ...


class SettableConditions:
    """Whatever it was told: tests, scenarios and a bench without sensors."""

    def __init__(self, conditions: Conditions | None = None) -> None:
        self.conditions = conditions or Conditions()

    def now(self) -> Conditions:
        return self.conditions


class LinuxConditions:
    """Heat, power and load from the kernel; what only the vehicle knows, from whoever knows it."""

    def __init__(
        self,
        parked: Callable[[], bool],
        network: Callable[[], Network],
        *,
        warm_c: float = 75.0,
        hot_c: float = 90.0,
        thermal: Path = Path("/sys/class/thermal"),
        power_supply: Path = Path("/sys/class/power_supply"),
        pressure: Path = Path("/proc/pressure/cpu"),
        load: Path = Path("/proc/loadavg"),
        cpus: int | None = None,
    ) -> None:
        self._parked = parked
        self._network = network
        self._warm_c = warm_c
        self._hot_c = hot_c
        self._thermal = thermal
        self._power_supply = power_supply
        self._pressure = pressure
        self._load = load
        self._cpus = cpus or os.cpu_count() or 1

    def now(self) -> Conditions:
        hottest_c = hottest([_text(path) for path in sorted(self._thermal.glob("thermal_zone*/temp"))])
        supplies = [(_text(path), _text(path.with_name("online"))) for path in self._power_supply.glob("*/type")]
        return Conditions(
            parked=self._parked(),
            power=power(supplies),
            network=self._network(),
            heat=heat(hottest_c, self._warm_c, self._hot_c),
            hottest_c=hottest_c,
            cpu_pressure=cpu_pressure(_text(self._pressure)),
            load=_number(_text(self._load).split(" ")[0]) / self._cpus,
        )


def hottest(millidegrees: list[str]) -> float | None:
    """Degrees Celsius of the hottest zone that says anything (thermal/sysfs-api: `temp` in millidegrees)."""
    return max((int(text) / 1000 for text in millidegrees if text.lstrip("-").isdecimal()), default=None)


def heat(hottest_c: float | None, warm_c: float, hot_c: float) -> Heat:
    if hottest_c is None or hottest_c < warm_c:
        return Heat.COOL
    return Heat.WARM if hottest_c < hot_c else Heat.HOT


def power(supplies: list[tuple[str, str]]) -> Power:
    """From each supply's `type` and `online` (ABI/testing/sysfs-class-power)."""
    outside = [online for kind, online in supplies if kind in ("Mains", "USB", "Wireless")]
    # 1 is online at a fixed voltage, 2 at one that is programmed (USB-C PPS).
    if "1" in outside or "2" in outside:
        return Power.EXTERNAL
    return Power.BATTERY if any(kind == "Battery" for kind, _ in supplies) else Power.UNKNOWN


def cpu_pressure(text: str) -> float:
    """0..1 from the line "some avg10=1.23 ..." (accounting/psi); 0 without it."""
    fields = next((line.split(" ") for line in text.splitlines() if line.startswith("some ")), [])
    return next((_number(field[len("avg10=") :]) / 100 for field in fields if field.startswith("avg10=")), 0.0)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _text(path: Path) -> str:
    """ "" where it can't be read: a sensor may be absent, asleep or forbidden."""
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
