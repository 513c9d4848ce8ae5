"""The composition root on the vehicle: config, wiring, supervision, pairing, local API."""

__distribution__ = "outrider"
