"""Records of every real kind with believable values, from a seed: what dictionaries are trained and measured with."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

import msgspec

from ecu.clock import SECOND_NS
from simulator.vehicle import Plan, signals_at
from telemetry.federated.update import ModelUpdate
from telemetry.records import (
    AnyEvent,
    ClockAnchor,
    HardBrake,
    Health,
    Lane,
    LastKnownState,
    Learned,
    LowConfidence,
    NewTrack,
    PerceptionSummary,
    PictureTaken,
    RecordsLeft,
    SignalBlock,
    Stored,
    TimeSource,
    Triggered,
    UpdateReport,
    VehicleSummary,
    encode_event,
)
from telemetry.signals import vss

LABELS: Final = (
    "person", "bicycle", "car", "motorcycle", "bus", "train",
    "truck", "traffic_light", "stop_sign", "dog", "cat", "horse",
)  # fmt: skip
_CAMERAS: Final = ("front", "rear", "left", "right")
_FAULTS: Final = (
    ("camera_lost", "the camera's process ended; {} frames lost with it"),
    ("camera_fault", "no frame for {} ms"),
    ("model_fault", "the model {} gave no result"),
    ("worker_lost", "the live worker, pid {}, ended"),
    ("worker_hung", "pid {} gave no result in time and was killed"),
    ("redactor_lost", "the redactor, pid {}, ended"),
    ("clock_untrusted", "the clock is {} s before the newest signed time"),
)
_LOSSES: Final = ("evicted:quota", "evicted:expired", "evicted:disk_full", "quarantined:corrupt", "erased")
_STEPS: Final = ("refused", "staged", "shadow", "switched", "committed", "rolled_back", "damaged")
_CAMPAIGNS: Final = ("hard-brake", "harsh-corner", "battery-health", "low-confidence", "lane-keeping", "cold-start")
PATHS: Final = (
    "Vehicle.Speed", "Vehicle.TraveledDistance", "Vehicle.IsMoving", "Vehicle.CurrentOverallWeight",
    "Vehicle.Acceleration.Longitudinal", "Vehicle.Acceleration.Lateral", "Vehicle.Acceleration.Vertical",
    "Vehicle.AngularVelocity.Yaw", "Vehicle.AngularVelocity.Pitch", "Vehicle.AngularVelocity.Roll",
    "Vehicle.CurrentLocation.Latitude", "Vehicle.CurrentLocation.Longitude", "Vehicle.CurrentLocation.Heading",
    "Vehicle.CurrentLocation.Altitude", "Vehicle.CurrentLocation.HorizontalAccuracy",
    "Vehicle.Chassis.Accelerator.PedalPosition", "Vehicle.Chassis.Brake.PedalPosition",
    "Vehicle.Chassis.SteeringWheel.Angle", "Vehicle.Chassis.ParkingBrake.IsEngaged",
    "Vehicle.Chassis.Axle.Row1.Wheel.Left.Speed", "Vehicle.Chassis.Axle.Row1.Wheel.Right.Speed",
    "Vehicle.Chassis.Axle.Row2.Wheel.Left.Speed", "Vehicle.Chassis.Axle.Row2.Wheel.Right.Speed",
    "Vehicle.Chassis.Axle.Row1.Wheel.Left.Tire.Pressure", "Vehicle.Chassis.Axle.Row1.Wheel.Right.Tire.Pressure",
    "Vehicle.Powertrain.CombustionEngine.Speed", "Vehicle.Powertrain.CombustionEngine.ECT",
    "Vehicle.Powertrain.CombustionEngine.Torque", "Vehicle.Powertrain.Transmission.CurrentGear",
    "Vehicle.Powertrain.ElectricMotor.Speed", "Vehicle.Powertrain.ElectricMotor.Torque",
    "Vehicle.Powertrain.TractionBattery.StateOfCharge.Current", "Vehicle.Powertrain.TractionBattery.CurrentVoltage",
    "Vehicle.Powertrain.TractionBattery.CurrentCurrent", "Vehicle.Powertrain.TractionBattery.Temperature.Average",
    "Vehicle.LowVoltageBattery.CurrentVoltage", "Vehicle.Exterior.AirTemperature", "Vehicle.Exterior.LightIntensity",
    "Vehicle.ADAS.ABS.IsEngaged", "Vehicle.ADAS.ESC.IsEngaged", "Vehicle.ADAS.CruiseControl.IsActive",
    "Vehicle.ADAS.CruiseControl.SpeedSet", "Vehicle.Body.Windshield.Front.Wiping.Mode",
    "Vehicle.Body.Lights.Brake.IsActive", "Vehicle.Body.Lights.DirectionIndicator.Left.IsSignaling",
    "Vehicle.Outrider.Perception.front.Tracks", "Vehicle.Outrider.Perception.front.MeanScore",
)  # fmt: skip
"""COVESA VSS 4 names that campaigns ask for most, and two of the runtime's own."""


def make_records(rng: Random, count: int) -> list[Stored]:
    """`count` records of all kinds in turn, their times a drive's; the same of the same state of `rng`."""
    boot_ns, wall_ns = rng.randrange(10**9, 10**15), rng.randrange(1_750_000_000, 1_900_000_000) * SECOND_NS
    made = []
    for _ in range(count):
        step_ns = rng.randrange(10**6, 3 * 10**9)
        boot_ns, wall_ns = boot_ns + step_ns, wall_ns + step_ns
        event = encode_event(rng.choice(_MAKERS)(rng, boot_ns))
        made.append(Stored(boot_ns, wall_ns, msgspec.Raw(event)))
    return made


def _score(rng: Random) -> float:
    return rng.randrange(25, 256) / 256


def _signals(rng: Random) -> dict[str, float]:
    """As the gateway says them; some are withheld or coarse now and then."""
    said = signals_at(rng.randrange(0, 600 * SECOND_NS), Plan())
    return {path: value for path, value in said.items() if rng.random() < 0.9}


def _wanted(rng: Random) -> dict[str, float]:
    paths = sorted(rng.sample(PATHS, rng.randrange(2, 9)))
    return {path: round(rng.uniform(-50, 3000), rng.randrange(4)) for path in paths}


def _hard_brake(rng: Random, _: int) -> HardBrake:
    signals = _signals(rng)
    return HardBrake(round(rng.uniform(4, 9), 3), signals.pop(vss.SPEED, None), signals)


def _new_track(rng: Random, boot_ns: int) -> NewTrack:
    left, top = rng.uniform(0, 600), rng.uniform(0, 400)
    box = (left, top, left + rng.uniform(8, 200), top + rng.uniform(8, 200))
    return NewTrack(
        rng.choice(_CAMERAS), boot_ns // 40_000_000, rng.randrange(5000), rng.choice(LABELS), _score(rng), box
    )


def _low_confidence(rng: Random, boot_ns: int) -> LowConfidence:
    return LowConfidence(
        rng.choice(_CAMERAS), boot_ns // 40_000_000, rng.randrange(5000), rng.choice(LABELS), _score(rng)
    )


def _health(rng: Random, _: int) -> Health:
    what, words = rng.choice(_FAULTS)
    return Health(what, words.format(rng.randrange(100_000)))


def _update_report(rng: Random, _: int) -> UpdateReport:
    unit = rng.choice(("model", "config", "campaign", "plan", "runtime", "system"))
    title = f"{unit} {rng.randrange(9)}.{rng.randrange(20)}"
    return UpdateReport(rng.choice(_STEPS), unit, title, rng.randbytes(32).hex(), "", "")


def _vehicle_summary(rng: Random, _: int) -> VehicleSummary:
    return VehicleSummary(_signals(rng))


def _perception_summary(rng: Random, boot_ns: int) -> PerceptionSummary:
    classes = {label: rng.randrange(1, 9) for label in sorted(rng.sample(LABELS, rng.randrange(5)))}
    frames = rng.randrange(1, 300)
    return PerceptionSummary(
        rng.choice(_CAMERAS), boot_ns // 40_000_000, frames, sum(classes.values()), classes, rng.uniform(0.3, 0.9)
    )


def _picture_taken(rng: Random, boot_ns: int) -> PictureTaken:
    return PictureTaken(
        rng.choice(_CAMERAS), boot_ns // 40_000_000, rng.randbytes(32).hex(), rng.randrange(9_000, 300_000),
        *rng.choice(((640, 360), (960, 540), (1280, 720))), rng.randrange(6), rng.choice(("hard_brake", "new_track")),
    )  # fmt: skip


def _learned(rng: Random, _: int) -> Learned:
    payload = rng.randbytes(48)  # a real one is kilobytes of noise that no dictionary helps
    return Learned(
        ModelUpdate("lights", "light-state-1.0", "mixer", "v1", rng.randrange(50), payload, rng.randbytes(70))
    )


def _signal_block(rng: Random, _: int) -> SignalBlock:
    return SignalBlock(rng.choice(_CAMPAIGNS), rng.randrange(1, 30), rng.randbytes(48))


def _triggered(rng: Random, _: int) -> Triggered:
    return Triggered(
        rng.choice(_CAMPAIGNS), rng.randrange(1, 30), rng.randrange(500), "the condition became true", _wanted(rng)
    )


def _last_known_state(rng: Random, _: int) -> LastKnownState:
    signals = {path: (value, rng.randrange(2000)) for path, value in _wanted(rng).items()}
    return LastKnownState(rng.choice(_CAMPAIGNS), rng.randrange(1, 30), signals)


def _records_left(rng: Random, _: int) -> RecordsLeft:
    first = rng.randrange(1 << 20)
    ranges = [(first, first + rng.randrange(1, 5000)) for _ in range(rng.randrange(1, 3))]
    return RecordsLeft(rng.randrange(4), rng.randbytes(16), rng.choice(_LOSSES), ranges, 0)


def _clock_anchor(rng: Random, boot_ns: int) -> ClockAnchor:
    wall_ns = rng.randrange(1_750_000_000, 1_900_000_000) * SECOND_NS
    epochs = {lane.name: rng.randbytes(16).hex() for lane in Lane}
    source = rng.choice(tuple(TimeSource)).value
    return ClockAnchor(rng.randbytes(16).hex(), boot_ns, wall_ns, source, rng.randrange(2000), epochs)


_MAKERS: Final[tuple[Callable[[Random, int], AnyEvent], ...]] = (
    _hard_brake, _new_track, _low_confidence, _health, _update_report, _vehicle_summary, _perception_summary,
    _picture_taken, _learned, _signal_block, _triggered, _last_known_state, _records_left,
    _clock_anchor,
)  # fmt: skip
