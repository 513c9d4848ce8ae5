"""What reading signal blocks can go wrong with."""

from __future__ import annotations

from telemetry.records import TelemetryError


class ColumnsError(TelemetryError):
    """A signal block can't be read."""


class BadColumns(ColumnsError):
    """These bytes are no signal block of this version. Reading them again gives the same answer."""


class UnknownSchema(ColumnsError):
    """The block is made by a schema that isn't known here. Read it again with the release that brought it."""

    def __init__(self, digest: bytes) -> None:
        super().__init__(f"the schema {digest.hex()} isn't known here: read the block again with its release")
        self.digest = digest
