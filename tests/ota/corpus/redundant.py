"""Checks that may be off without any case noticing, each with what stands behind it, or why it is there at all."""

from __future__ import annotations

from typing import Final

REDUNDANT: Final[dict[str, str]] = {}
