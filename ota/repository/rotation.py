"""Other keys for a role: what a root or the delegations will say, and how that differs from what they say. Pure.

Roles are named as their keys are: "image-root", "director-timestamp"; a kind by its own name.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import DelegatedRole, Delegations, Key, Metadata, Role, Root, Snapshot, Targets, Timestamp

from ecu.errors import shown
from ota.errors import RepositoryFault
from ota.kinds import Kind
from ota.layout import DIRECTOR, IMAGE
from ota.repository.metadata import digest_of, standing

_LEAST_PREFIX: Final = 8
_TOP_LEVEL: Final = (Root.type, Targets.type, Snapshot.type, Timestamp.type)

ROOT_ROLES: Final = MappingProxyType(
    {f"{repository}-{role}": (repository, role) for repository in (IMAGE, DIRECTOR) for role in _TOP_LEVEL}
)
"""Those that a root names: its repository, and the role as TUF calls it."""
ROTATED: Final = (*ROOT_ROLES, *(kind.value for kind in Kind))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be different: ids of keys that go, keys that come, and how many have to sign (None: as before)."""

    out: tuple[str, ...] = ()
    into: tuple[Key, ...] = ()
    threshold: int | None = None


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One role's keys before and after: the ids of all that it had and has, and how many have to sign."""

    role: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    threshold_before: int
    threshold_after: int


@dataclass(frozen=True, slots=True)
class Signatures:
    """How many of the keys `of` somebody have signed, and how many have to."""

    of: str
    count: int
    threshold: int


@dataclass(frozen=True, slots=True)
class KeysDraft:
    """A root, or the kinds' delegations ("targets"), that waits: whose keys it changes and who has signed it. `digest`
    is the SHA-256 of what is signed."""

    role: str
    version: int
    expires: datetime
    digest: str
    changes: tuple[KeyChange, ...]
    signatures: tuple[Signatures, ...]
    signed_by: tuple[str, ...]

    @property
    def is_signed(self) -> bool:
        return all(its.count >= its.threshold for its in self.signatures)


def next_root(root: Root, role: str, wanted: Wanted) -> Root:
    """As `root`, with the role's keys changed. Raises RepositoryFault."""
    changed = copy.deepcopy(root)
    _change(changed, changed.roles[role], role, wanted)
    return changed


def next_delegations(top: Targets, kind: Kind, wanted: Wanted) -> Targets:
    """As `top`, with the kind's keys changed. Raises RepositoryFault."""
    changed = copy.deepcopy(top)
    _change(changed, delegated(changed)[kind], kind, wanted)
    return changed


def delegated(top: Targets) -> Mapping[str, DelegatedRole]:
    delegations = top.delegations
    return (delegations.roles or {}) if isinstance(delegations, Delegations) else {}


def roles_of(signed: Root | Targets) -> Mapping[str, Role]:
    """Whose keys it names."""
    return signed.roles if isinstance(signed, Root) else delegated(signed)


def key_changes(before: Root | Targets, after: Root | Targets) -> Iterator[KeyChange]:
    """The roles whose keys or threshold differ."""
    old, new = roles_of(before), roles_of(after)
    for role in sorted(old.keys() | new.keys()):
        was, will = old.get(role, _NOBODY), new.get(role, _NOBODY)
        if (sorted(was.keyids), was.threshold) != (sorted(will.keyids), will.threshold):
            yield KeyChange(role, tuple(was.keyids), tuple(will.keyids), was.threshold, will.threshold)


def root_draft(role: str, draft: Metadata[Root], before: Root) -> KeysDraft:
    """What the next root says, and who has signed it. Raises RepositoryFault for one that says more, or isn't next."""
    its = draft.signed
    plain = Root(its.version, its.spec_version, its.expires, its.keys, its.roles, consistent_snapshot=True)
    if its != plain:
        raise _says_more(role)
    try:
        result = its.get_root_verification_result(before, draft.signed_bytes, draft.signatures)
    except (ValueError, RepositoryError) as error:
        raise RepositoryFault(
            f"The draft of {role} is no next root of this repository: {error}. Remove it and begin again: outrider "
            f"ota rotate {role}."
        ) from error
    return KeysDraft(
        role=role,
        version=its.version,
        expires=its.expires,
        digest=digest_of(draft),
        changes=tuple(key_changes(before, its)),
        signatures=(
            Signatures("the root before", len(result.first.signed), result.first.threshold),
            Signatures("this root", len(result.second.signed), result.second.threshold),
        ),
        signed_by=tuple(sorted(result.signed)),
    )


def delegations_draft(draft: Metadata[Targets], before: Targets, root: Root) -> KeysDraft:
    """What the next delegations say, and who has signed them. Raises RepositoryFault for some that say more."""
    if not only_delegates(draft.signed):
        raise _says_more(Targets.type)
    its = standing(draft, root, Targets.type, f"The draft of {Targets.type}")
    changes = tuple(key_changes(before, draft.signed))
    signatures = (Signatures(Targets.type, len(its.signed_by), its.threshold),)
    return KeysDraft(Targets.type, its.version, its.expires, digest_of(draft), changes, signatures, its.signed_by)


def root_signers(draft: Root, before: Root) -> dict[str, Key]:
    """By id the keys that may sign the next root: its own and those of the one before."""
    return keys_of(before, Root.type) | keys_of(draft, Root.type)


def keys_of(signed: Root | Targets, role: str) -> dict[str, Key]:
    """By id the keys that `signed` names for the role."""
    known = signed.keys if isinstance(signed, Root) else signed.delegations.keys if signed.delegations else {}
    return {key_id: known[key_id] for key_id in roles_of(signed)[role].keyids if key_id in known}


def only_delegates(top: Targets) -> bool:
    """Whether it says no more than which keys sign which kind."""
    roles = delegated(top)
    if sorted(roles) != sorted(kind.value for kind in Kind) or top.delegations is None:
        return False
    used = {key_id for role in roles.values() for key_id in role.keyids}
    plain = Delegations(
        {key_id: key for key_id, key in top.delegations.keys.items() if key_id in used},
        {
            kind.value: DelegatedRole(
                kind.value, roles[kind].keyids, roles[kind].threshold, terminating=True, paths=[kind.paths]
            )
            for kind in Kind
        },
    )
    return top == Targets(top.version, top.spec_version, top.expires, {}, plain)


def _says_more(role: str) -> RepositoryFault:
    return RepositoryFault(
        f"The draft of {role} says more than whose keys sign what: somebody changed it. Remove it and begin again: "
        "outrider ota rotate."
    )


def demand_among(role: str, key_id: str, owners: Iterable[str]) -> None:
    """Raises RepositoryFault for a key that can't sign the role."""
    if key_id not in owners:
        raise RepositoryFault(
            f"The key {key_id[:16]} can't sign {role}. Name one of its own with --key: "
            f"{', '.join(owner[:16] for owner in sorted(owners))}."
        )


def demand_unused(keys: Sequence[Key], by: Mapping[str, Mapping[str, Role]]) -> None:
    """Raises RepositoryFault for a key that signs something already: a key signs one thing only."""
    taken = {key_id: f"{of}{role}" for of, roles in by.items() for role, its in roles.items() for key_id in its.keyids}
    for key in keys:
        if key.keyid in taken:
            raise RepositoryFault(
                f"The key {key.keyid[:16]} is {taken[key.keyid]}'s already. A key signs one thing only: make another "
                "one with outrider ota keygen."
            )


def key_id_like(text: str, ids: Sequence[str]) -> str:
    """The one id that begins so. Raises RepositoryFault."""
    found = [key_id for key_id in ids if len(text) >= _LEAST_PREFIX and key_id.startswith(text)]
    if len(found) != 1:
        raise RepositoryFault(
            f"{shown(text)} is none of its keys. Give the first {_LEAST_PREFIX} or more characters of one of their "
            f"ids: {', '.join(key_id[:16] for key_id in ids)}."
        )
    return found[0]


_NOBODY: Final = Role([], 1)


def _change(holder: Root | Targets, its: Role, role: str, wanted: Wanted) -> None:
    for key in wanted.into:
        holder.add_key(key, role)
    for key_id in wanted.out:
        holder.revoke_key(key_id, role)
    its.threshold = wanted.threshold if wanted.threshold is not None else its.threshold
    if not 1 <= its.threshold <= len(its.keyids):
        raise RepositoryFault(
            f"{role} would want {its.threshold} signatures by {len(its.keyids)} keys. Give it at least one, and as "
            "many keys as signatures: --add another key, or a lower --threshold."
        )
