"""Frames in, detections out: model packages, sessions, workers, tracking, fidelity."""

__distribution__ = "outrider"
