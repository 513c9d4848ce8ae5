"""What the sections of a package's manifest are made of: closed classes, and the words and numbers allowed in them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MAX_FILE_BYTES = 64 << 20

FileName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9A-Z][a-zA-Z0-9._-]{0,63}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,47}$")]
Version = Annotated[str, StringConstraints(pattern=r"^(0|[1-9]\d{0,5})(\.(0|[1-9]\d{0,5})){1,2}$")]
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$", max_length=500)]
"""Text for people: no control characters, so that a package can't write on a terminal."""
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Side = Annotated[int, Field(ge=32, le=4096, multiple_of=32)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class Part(BaseModel):
    """Frozen and closed: an unknown key is refused, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class PackageFile(Part):
    """A file beside the manifest."""

    file: FileName
    sha256: Sha256
    bytes: Annotated[int, Field(ge=1, le=MAX_FILE_BYTES)]
