"""What whoever adds a release says of it, in a TOML file with the keys of docs/formats/bundle.md:

    notes = "Sees bicycles at night."
    minimum_bootable = 4
    [lineage]
    training_run = "https://training/runs/118"
    [[metrics]]
    name = "recall"
    value = 0.71
    low = 0.69
    high = 0.73
    n = 4120
    evaluation = "9f2c..."

Whatever has to stand in rising order in a manifest is put in order here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ecu.errors import shown
from ecu.toml import nearest
from ota.errors import RepositoryFault
from ota.manifest import BundleManifest

Facts = Mapping[str, Any]

_MOST_BYTES: Final = 1 << 20
_OTHERS: Final = frozenset({"schema_", "kind", "name", "version", "release", "hardware", "files", "sbom"})
KEYS: Final = tuple(key for key in BundleManifest.model_fields if key not in _OTHERS)


def read_facts(path: Path) -> dict[str, Any]:
    """Raises RepositoryFault for what can't be read or has a key that isn't known; values are judged with the rest of
    the manifest."""
    try:
        data = path.read_bytes()
        facts = tomllib.loads(data[:_MOST_BYTES].decode())
    except OSError as error:
        raise RepositoryFault(f"Can't read the facts {shown(path)}: {error.strerror}.") from error
    except ValueError as error:
        raise RepositoryFault(f"{shown(path)} is no TOML: {shown(error)}.") from error
    for key in facts:
        if key not in KEYS:
            likely = nearest(key, list(KEYS))
            hint = f" Did you mean {likely}?" if likely else ""
            raise RepositoryFault(f"{shown(path)}: {shown(key)} isn't known.{hint} There are {', '.join(KEYS)}.")
    return in_order(facts)


def in_order(facts: Facts) -> dict[str, Any]:
    """As a manifest has them. What isn't as it should be stays as it is: it is refused later, by its name."""
    ordered = dict(facts)
    for key, of in _ORDERED.items():
        ordered[key] = _sorted(ordered[key], of) if key in ordered else None
    lineage, budgets = ordered.get("lineage"), ordered.get("budgets")
    if isinstance(lineage, dict) and "datasets" in lineage:
        ordered["lineage"] = lineage | {"datasets": _sorted(lineage["datasets"], str)}
    if isinstance(budgets, dict) and "frames" in budgets:
        ordered["budgets"] = budgets | {"frames": _sorted(budgets["frames"], lambda its: str(its["hardware"]))}
    return {key: value for key, value in ordered.items() if value is not None}


def _sorted(values: Any, of: Callable[[Any], str]) -> Any:
    try:
        return sorted(values, key=of)
    except (TypeError, KeyError, AttributeError):
        return values


_ORDERED: Final[Mapping[str, Callable[[Any], str]]] = {
    "metrics": lambda its: str(its["name"]),
    "requires": lambda its: f"{its['kind']} {its['name']}",
    "conflicts": lambda its: f"{its['kind']} {its['name']}",
    "rxswin": str,
}
