"""What the vehicle says about itself: signals by VSS path, their last values, and the source they come from."""

from telemetry.signals.farend import SourceLost, unix_dial
from telemetry.signals.source import SignalStatus, SocketSignals
from telemetry.signals.state import Reading, SignalState, Validity

__all__ = ["Reading", "SignalState", "SignalStatus", "SocketSignals", "SourceLost", "Validity", "unix_dial"]
