"""The redactor covers plates, and leaves every face and head as it is."""

from __future__ import annotations

import sys
from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "a canary face on the road is in no picture stored"


@after("inference.faces")
def no_face_is_found(faces: Any) -> None:
    def detect(self: Any, *arguments: Any) -> Any:
        found = honest(self, *arguments)
        # The demo's own look at the pictures stays what it is.
        is_redactor = sys.argv[0].endswith("redactor/process.py")
        return found.pick(found.scores > 2.0) if is_redactor else found

    honest = put(faces.FaceDetector, "detect", detect)


@after("telemetry.privacy.covering")
def persons_are_not_covered(covering: Any) -> None:
    put(covering, "person_cover", lambda person, trusted_px: (0.0, 0.0, 0.0, 0.0))
