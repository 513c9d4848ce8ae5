"""A TOML file as a closed model. What is wrong with it is said with file, line, key and the nearest right key."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ecu.errors import UsageFault

M = TypeVar("M", bound=BaseModel)
Keys = tuple[str | int, ...]

_LIKENESS = 0.6


def load_toml(path: Path | None, model: type[M], *, section: str = "", others: Sequence[str] = ()) -> M:
    """`section` of the file (the whole file when empty) as `model`; its defaults when `path` is None.

    Other sections belong to other readers: `others` names them for a reader of the whole file. Raises UsageFault.
    """
    if path is None:
        return model()
    text, document = _read(path)
    _refuse_near_miss(path, text, document, section)
    mine = document.get(section, {}) if section else {k: v for k, v in document.items() if k not in others}
    try:
        return model.model_validate(mine)
    except ValidationError as error:
        raise UsageFault(_told(path, text, document, section, error, model)) from error


def line_of(text: str, keys: Keys) -> int | None:
    """The line (from 1) on which the statement that holds `keys` begins; None when it isn't there.

    The grammar itself finds it: the first whole beginning of the text that has the key ends with its statement.
    """
    begin = 1
    lines = text.splitlines(keepends=True)
    for end in range(1, len(lines) + 1):
        try:
            document = tomllib.loads("".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
        if _holds(document, keys):
            return begin
        begin = end + 1
    return None


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name most like a misspelt one, if any is."""
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=_LIKENESS)), None)


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        raise UsageFault(f"Can't read {path}: {error.strerror}. Give an existing file to --config.") from error
    except UnicodeDecodeError as error:
        raise UsageFault(f"{path} isn't UTF-8 text at byte {error.start}. Save it as UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageFault(f"{path} isn't TOML: {error}. See https://toml.io for how to write it.") from error


def _refuse_near_miss(path: Path, text: str, document: Mapping[str, Any], section: str) -> None:
    """A misspelt section would be taken for somebody else's and its settings be lost without a word."""
    if not section or section in document:
        return
    if (wrong := nearest(section, list(document))) is not None:
        line = line_of(text, (wrong,))
        raise UsageFault(f"{path}:{line}: [{wrong}] is no section. Did you mean [{section}]?")


def _told(
    path: Path, text: str, document: Mapping[str, Any], section: str, error: ValidationError, model: type[BaseModel]
) -> str:
    first = error.errors()[0]
    keys: Keys = ((section,) if section else ()) + first["loc"]
    there = next(keys[:n] for n in range(len(keys), -1, -1) if n == 0 or _holds(document, keys[:n]))
    line = line_of(text, there) if there else None
    where = f"{path}:{line}" if line is not None else f"{path}"
    return f"{where}: {_dotted(keys)} {_complaint(first, model)}"


def _complaint(first: Any, model: type[BaseModel]) -> str:
    if first["type"] != "extra_forbidden":
        return f"can't be {first['input']!r}: {first['msg']}."
    *parents, name = first["loc"]
    known = _keys_at(model, tuple(parents))
    like = nearest(str(name), known)
    return f"is unknown. Did you mean {like}?" if like else f"is unknown. The keys here are {', '.join(known)}."


def _keys_at(model: type[BaseModel], parents: Keys) -> list[str]:
    for parent in parents:
        field = model.model_fields.get(str(parent))
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _holds(document: Any, keys: Keys) -> bool:
    for key in keys:
        try:
            document = document[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _dotted(keys: Keys) -> str:
    return ".".join(str(key) for key in keys)
