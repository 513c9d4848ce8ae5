"""The names of the signals that rules look at, from COVESA's Vehicle Signal Specification 4, with its units."""

from __future__ import annotations

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
