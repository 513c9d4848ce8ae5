"""That who makes a release can't also say what is good: the kinds that judge are signed by other keys than what they
judge. The desk makes no others; a vehicle believes none, whoever wrote its repository.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from types import MappingProxyType
from typing import Final

from ota.kinds import Kind

JUDGES: Final[Mapping[Kind, Kind]] = MappingProxyType({Kind.MODEL: Kind.EVALUATION, Kind.STATE: Kind.CROPS})
"""By what is judged: what it is judged by."""


def shared_key(keys: Mapping[str, Set[str]]) -> str:
    """`keys` are the public ones of each kind. Whether one signs both a kind and what that is judged by, in words; ""
    where none does."""
    shared = (f"one key signs {judged} and {judge}, which judges it" for judged, judge in JUDGES.items()
              if keys.get(judged, set()) & keys.get(judge, set()))  # fmt: skip
    return next(shared, "")
