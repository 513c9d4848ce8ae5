"""The settings of the demo's agents and receiver, as the file that each of them reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

Sections = Mapping[str, Mapping[str, object]]


def write_settings(path: Path, sections: Sections) -> None:
    """As TOML."""
    path.write_text(toml(sections), encoding="utf-8")


def toml(sections: Sections) -> str:
    """Strings, numbers, truths and lists of them are written as in JSON."""
    lines = ["# Written by `outrider demo`."]
    for name, values in sections.items():
        lines += ["", f"[{name}]", *(f"{key} = {_shown(value)}" for key, value in values.items())]
    return "\n".join([*lines, ""])


def _shown(value: object) -> str:
    # TOML knows no pairs of surrogates, and no bare DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
