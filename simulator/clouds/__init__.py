"""Doubles of the big clouds, as far as a vehicle and its receiver can see them, on loopback."""
