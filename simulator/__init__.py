"""The world around the agent: drives, replay, faults, benchmarks and the demo."""

__distribution__ = "outrider"
