"""The capture rules: what was seen and signalled goes in, records come out.

No clock, no timer, no chance: the same samples always give the same records, live or replayed (law 7). Signals and
views don't depend on each other, so how the two interleave changes nothing.
"""

from __future__ import annotations

from ecu.clock import MILLISECOND_NS
from telemetry.capture.brake import BrakeWatch
from telemetry.capture.camera import CameraWatch
from telemetry.capture.config import CaptureConfig
from telemetry.capture.observations import View
from telemetry.capture.period import Period
from telemetry.records import HardBrake, Record, VehicleSummary, record_of
from telemetry.signals import vss
from telemetry.signals.state import SignalState


class CaptureRules:
    """Holds what must be remembered between samples, all of it bounded.

    `ignored` counts views of cameras beyond `max_cameras`.
    """

    def __init__(self, config: CaptureConfig | None = None) -> None:
        self.ignored = 0
        self._config = config or CaptureConfig()
        self._summary = Period(self._config.vehicle_summary_period_ms * MILLISECOND_NS)
        self._brake = BrakeWatch(self._config)
        self._cameras: dict[str, CameraWatch] = {}
        self._forgotten = 0

    @property
    def forgotten(self) -> int:
        """Objects forgotten because a camera saw more than `max_tracks`."""
        return self._forgotten + sum(camera.forgotten for camera in self._cameras.values())

    def forget_views(self) -> None:
        """What cameras saw since their last summaries, and which objects were told of: those are told of anew."""
        self._forgotten = self.forgotten
        self._cameras.clear()

    def on_signals(self, t_ns: int, state: SignalState) -> tuple[Record, ...]:
        """What the signals tell at `t_ns`, the boot time of the sample just put into `state`."""
        signals = {path: value for path in self._config.signals if (value := state.value(path, t_ns)) is not None}
        return (*self._hard_brake(t_ns, state, signals), *self._vehicle_summary(t_ns, signals))

    def on_view(self, view: View) -> tuple[Record, ...]:
        """What a camera's view tells."""
        watch = self._watch(view.camera)
        if watch is None:
            self.ignored += 1
            return ()
        return tuple(record_of(view.t_ns, event) for event in watch.on_view(view))

    def _watch(self, camera: str) -> CameraWatch | None:
        if camera not in self._cameras and len(self._cameras) < self._config.max_cameras:
            self._cameras[camera] = CameraWatch(self._config)
        return self._cameras.get(camera)

    def _hard_brake(self, t_ns: int, state: SignalState, signals: dict[str, float]) -> tuple[Record, ...]:
        acceleration_ms2 = state.value(vss.LONGITUDINAL, t_ns)
        if acceleration_ms2 is None or not self._brake.begins_at(t_ns, -acceleration_ms2):
            return ()
        # Speed and acceleration are the event's own fields; what withholds them must find them in one place.
        rest = {path: value for path, value in signals.items() if path not in (vss.SPEED, vss.LONGITUDINAL)}
        return (record_of(t_ns, HardBrake(-acceleration_ms2, signals.get(vss.SPEED), rest)),)

    def _vehicle_summary(self, t_ns: int, signals: dict[str, float]) -> tuple[Record, ...]:
        if not self._summary.begins_at(t_ns) or not signals:
            return ()
        return (record_of(t_ns, VehicleSummary(signals)),)
