"""The names of the signals that rules look at, from COVESA's Vehicle Signal Specification 4, with its units."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

SPEED: Final = "Vehicle.Speed"
"""km/h."""

BRAKE_PEDAL: Final = "Vehicle.Chassis.Brake.PedalPosition"
"""Percent, 0 not pressed."""

LONGITUDINAL: Final = "Vehicle.Acceleration.Longitudinal"
"""m/s^2, forward positive: braking is negative."""

LOCATION: Final = "Vehicle.CurrentLocation"
LATITUDE: Final = f"{LOCATION}.Latitude"
"""Degrees, north positive, WGS 84."""

LONGITUDE: Final = f"{LOCATION}.Longitude"
"""Degrees, east positive, WGS 84."""

HEADING: Final = f"{LOCATION}.Heading"
"""Degrees clockwise from north."""

ALTITUDE: Final = f"{LOCATION}.Altitude"
"""Metres above mean sea level."""

HORIZONTAL_ACCURACY: Final = f"{LOCATION}.HorizontalAccuracy"
"""Metres."""

LATERAL: Final = "Vehicle.Acceleration.Lateral"
"""m/s^2, left positive."""

VERTICAL: Final = "Vehicle.Acceleration.Vertical"
"""m/s^2, up positive."""

UNITS: Final[Mapping[str, str]] = MappingProxyType(
    {
        SPEED: "km/h",
        BRAKE_PEDAL: "percent",
        LONGITUDINAL: "m/s^2",
        LATERAL: "m/s^2",
        VERTICAL: "m/s^2",
        LATITUDE: "degrees",
        LONGITUDE: "degrees",
        HEADING: "degrees",
        ALTITUDE: "m",
        HORIZONTAL_ACCURACY: "m",
        "Vehicle.AngularVelocity.Roll": "degrees/s",
        "Vehicle.AngularVelocity.Pitch": "degrees/s",
        "Vehicle.AngularVelocity.Yaw": "degrees/s",
        "Vehicle.Chassis.SteeringWheel.Angle": "degrees",
        "Vehicle.Chassis.Accelerator.PedalPosition": "percent",
        "Vehicle.Chassis.Axle.Row1.Wheel.Left.Speed": "km/h",
        "Vehicle.Chassis.Axle.Row1.Wheel.Right.Speed": "km/h",
        "Vehicle.Chassis.Axle.Row2.Wheel.Left.Speed": "km/h",
        "Vehicle.Chassis.Axle.Row2.Wheel.Right.Speed": "km/h",
        "Vehicle.Powertrain.CombustionEngine.Speed": "rpm",
        "Vehicle.Powertrain.CombustionEngine.ECT": "celsius",
        "Vehicle.Powertrain.TractionBattery.StateOfCharge.Current": "percent",
        "Vehicle.Exterior.AirTemperature": "celsius",
        "Vehicle.TraveledDistance": "km",
    }
)
"""The unit that VSS gives a signal: a signal from elsewhere that takes the name takes the unit too."""
