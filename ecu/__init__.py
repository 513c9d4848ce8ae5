"""The computer under us, as small ports: clock, samples, durable files, keys, conditions, processes."""

__distribution__ = "outrider"
