"""Clouds that the demo can put between its vehicle and its receiver."""
