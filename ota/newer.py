"""What a newer version wrote into a boot record and this one doesn't know: it stays, whoever writes next (law 10)."""

from __future__ import annotations

from typing import Any

import msgspec


def with_unknown(payload: bytes, before: bytes, known: frozenset[str], known_of_slot: frozenset[str]) -> bytes:
    """`payload` with the keys of `before` that aren't `known`: of the record, and of each slot that holds the same
    release still. Both are JSON objects that were decoded as boot records."""
    new, old = _object(payload), _object(before)
    kept = {**new, **{key: value for key, value in old.items() if key not in known}}
    slots = {name: _slot(its, old.get("slots", {}).get(name), known_of_slot) for name, its in new["slots"].items()}
    return msgspec.json.encode({**kept, "slots": slots}) if (kept, slots) != (new, new["slots"]) else payload


def _slot(new: dict[str, Any], old: dict[str, Any] | None, known: frozenset[str]) -> dict[str, Any]:
    if old is None or old["digest"] != new["digest"]:
        return new
    return {**new, **{key: value for key, value in old.items() if key not in known}}


def _object(payload: bytes) -> dict[str, Any]:
    return msgspec.json.decode(payload, type=dict[str, Any])
