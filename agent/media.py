"""Media with updates that somebody may bring to the vehicle: each is looked at when it comes, or was written to."""

from __future__ import annotations

from pathlib import Path

from ota.medium import Medium, find_medium
from ota.source import Source


class MediaShelf:
    """Where media are mounted; None where none are looked for. It blocks: give it a thread."""

    def __init__(self, media: Path | None, vehicle: str) -> None:
        self._media = media
        self._vehicle = vehicle
        self._seen: Medium | None = None
        self._is_refused = False

    @property
    def is_wanted(self) -> bool:
        return self._media is not None

    def is_new(self) -> bool:
        """Whether another medium is there than at the last look."""
        found = self._find()
        return found is not None and found != self._seen

    def open(self) -> Source | None:
        """What is there; None for nothing, and for what was refused already. Raises TrustError, FetchError."""
        found = self._find()
        if found is None or (found == self._seen and self._is_refused):
            return None
        self._seen, self._is_refused = found, False
        return found.open(self._vehicle)

    def refuse(self) -> None:
        """What was opened last isn't what the fleet's owner signed, or older than what this vehicle knows: a stick that
        was forgotten in a car isn't refused again and again."""
        self._is_refused = True

    def _find(self) -> Medium | None:
        return find_medium(self._media) if self._media is not None else None
