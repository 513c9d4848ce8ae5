"""A flat folder that holds exactly the files its manifest names: read without following links, never beyond a cap.

Whoever loads such a folder makes an error of its own out of Unlike, so that the message can say what is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

_Manifest = TypeVar("_Manifest", bound=BaseModel)


class Unlike(Exception):
    """The folder isn't what its manifest says. The text is the reason, for a sentence that names the folder."""


class NamedFile(Protocol):
    """What a manifest says of a file beside it. `sha256` is hex."""

    @property
    def file(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def bytes(self) -> int: ...


def demand_only(folder: Path, named: Iterable[str]) -> None:
    """Raises Unlike when anything else lies in the folder. What is missing shows when it is read."""
    try:
        strangers = sorted(set(os.listdir(folder)) - set(named))
    except OSError as error:
        raise Unlike(f"the folder can't be listed: {error.strerror}") from error
    if strangers:
        raise Unlike(f"{strangers[0]} isn't named in the manifest")


def read_checked(folder: Path, entry: NamedFile) -> bytes:
    """The file's bytes, exactly those that the manifest names. Raises Unlike."""
    data = read_plain(folder, entry.file, entry.bytes)
    if len(data) != entry.bytes:
        raise Unlike(f"{entry.file} has {len(data)} bytes instead of {entry.bytes}")
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise Unlike(f"{entry.file} isn't the file that the manifest names (SHA-256 differs)")
    return data


def read_plain(folder: Path, name: str, most: int) -> bytes:
    """Up to `most` bytes of a plain file. Raises Unlike.

    O_NOFOLLOW: a link would let a manifest name what lies outside the folder.
    """
    try:
        fd = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Unlike(f"{name} can't be opened as a plain file: {error.strerror}") from error
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise Unlike(f"{name} isn't a plain file")
        if status.st_size > most:
            raise Unlike(f"{name} has {status.st_size} bytes; {most} are the most it may have")
        return file.read(most + 1)


def parse_closed(validate: Callable[[bytes], _Manifest], file: str, data: bytes, choices: int = 0) -> _Manifest:
    """By a closed model's `validate`. Raises Unlike, naming the file and the key; a key that comes twice is refused,
    too. Where a model is chosen by a key, each place begins with so many `choices`, which nobody wrote."""
    try:
        parsed = validate(data)
        json.loads(data, object_pairs_hook=_demand_distinct_keys)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(step) for step in first["loc"][choices:]) or "the whole"
        raise Unlike(f"{file}: {key}: {first['msg']}") from error
    except ValueError as error:
        raise Unlike(f"{file}: {error}") from error
    return parsed


def canonical_json(manifest: BaseModel) -> bytes:
    """The manifest as one line of UTF-8 JSON with sorted keys."""
    content = manifest.model_dump(mode="json", by_alias=True)
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _demand_distinct_keys(pairs: list[tuple[str, Any]]) -> None:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("a key is named twice")
