"""The process that turns a bus into signals and signals into what campaigns want, and the agent's side of it."""

from agent.signals.side import SignalSide, SignalSideStatus

__all__ = ["SignalSide", "SignalSideStatus"]
