"""A draft on its way to those who sign it: a file that goes to other computers and comes back with signatures.

It holds the draft, what is published in its place now, whose keys may sign it, and the manifests of its new releases:
whoever signs can read what it is a signature for where there is no repository. The file itself is believed nowhere:
whoever signs compares the draft's digest with what the desk shows, and the desk takes from it signatures alone, each
verified, over the very bytes that wait there.

JSON: {"outrider-draft": 1, "role", "draft", "before", "by": metadata as in the repository, "manifests": {target: text}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets

from ecu.errors import shown
from ota.errors import RepositoryFault, TrustError
from ota.kinds import Kind
from ota.manifest import BundleManifest, bundle_digest, decode_manifest
from ota.repository.metadata import digest_of, standing
from ota.repository.rotation import KeysDraft, delegations_draft, demand_among, keys_of, root_draft, root_signers

MOST_BYTES: Final = 64 << 20
SIGNED: Final = ("image-root", "director-root", Targets.type, *(kind.value for kind in Kind))
"""The roles whose drafts wait for people."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A draft; what is published now; what names the keys that may sign it (a root; of a kind its delegations), and
    those keys by their ids; its new releases' manifests by target."""

    role: str
    draft: Metadata[Any]
    before: Metadata[Any]
    by: Metadata[Any]
    keys: Mapping[str, Key]
    manifests: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return digest_of(self.draft)


def merged(here: Waiting, came: Waiting) -> tuple[str, ...]:
    """Puts the signatures that came into the draft that is here; the ids of the keys that hadn't signed it. Raises
    RepositoryFault, and nothing was put anywhere, when one is for other bytes, by another key, or wrong."""
    if came.digest != here.digest:
        raise RepositoryFault(
            f"What was signed there isn't what waits here for {here.role}: its digest is {came.digest[:16]}, here "
            f"it is {here.digest[:16]}. Send the draft again: outrider ota sign --role {here.role} --send FILE."
        )
    new = {key_id: its for key_id, its in came.draft.signatures.items() if key_id not in here.draft.signatures}
    for key_id, signature in new.items():
        demand_among(here.role, key_id, here.keys)
        try:
            here.keys[key_id].verify_signature(signature, here.draft.signed_bytes)
        except UnverifiedSignatureError as error:
            raise RepositoryFault(
                f"The signature of key {key_id[:16]} isn't one over this draft of {here.role}. Have it signed again."
            ) from error
    here.draft.signatures.update(new)
    return tuple(new)


def sign_there(waits: Waiting, digest: str, signers: Sequence[Signer]) -> None:
    """Adds signatures where there is no repository. Raises RepositoryFault unless `digest` is what was shown: at least
    the first 32 characters of the draft's."""
    if len(digest) < _SHOWN or not waits.digest.startswith(digest):
        raise RepositoryFault(
            f"This draft's digest is {waits.digest}, and not {shown(digest)}. Sign what you were shown and nothing "
            "else: ask at the desk which digest it waits with (outrider ota inspect)."
        )
    for signer in signers:
        demand_among(waits.role, signer.public_key.keyid, waits.keys)
        waits.draft.sign(signer, append=True)


def encode(waits: Waiting) -> bytes:
    content = {
        "outrider-draft": 1,
        "role": waits.role,
        "draft": waits.draft.to_dict(),
        "before": waits.before.to_dict(),
        "by": waits.by.to_dict(),
        "manifests": {target: data.decode() for target, data in sorted(waits.manifests.items())},
    }
    return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False).encode() + b"\n"


def decode(data: bytes) -> Waiting:
    """Raises RepositoryFault for what is no draft that travels. Its signatures may be anybody's."""
    try:
        content = json.loads(data)
        if not isinstance(content, dict) or content.get("outrider-draft") != 1 or content["role"] not in SIGNED:
            raise ValueError("it isn't made by outrider ota sign --send")
        return _waiting(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, RepositoryError) as error:
        raise RepositoryFault(f"That file is no draft: {shown(error)}. Have it sent again.") from error


def releases_of(waits: Waiting) -> tuple[BundleManifest, ...]:
    """The manifests of what a kind's draft brings, each the one that its target names. Raises RepositoryFault."""
    before, after = waits.before.signed.targets, waits.draft.signed.targets
    changed = [path for path in sorted(after) if before.get(path) != after[path]]
    for path in changed:
        if bundle_digest(waits.manifests.get(path, b"")) != after[path].hashes.get("sha256"):
            raise RepositoryFault(f"The draft came without the manifest of {shown(path)}. Have it sent again.")
    try:
        return tuple(decode_manifest(waits.manifests[path]) for path in changed)
    except TrustError as refusal:
        raise RepositoryFault(f"The draft holds what is no manifest for this version: {refusal}.") from refusal


def keys_draft(waits: Waiting) -> KeysDraft:
    """What the draft of a root, or of the delegations, says."""
    if waits.role == Targets.type:
        return delegations_draft(waits.draft, waits.before.signed, cast(Root, waits.by.signed))
    return root_draft(waits.role, waits.draft, waits.before.signed)


_SHOWN: Final = 32


def _waiting(content: dict[str, Any]) -> Waiting:
    role: str = content["role"]
    draft, before, by = (Metadata.from_dict(content[name]) for name in ("draft", "before", "by"))
    manifests = {str(target): text.encode() for target, text in content["manifests"].items()}
    if role.endswith(f"-{Root.type}"):
        _demand(Root, draft, before, by)
        return Waiting(role, draft, before, by, root_signers(draft.signed, before.signed), manifests)
    _demand(Targets, draft, before)
    _demand(Root if role == Targets.type else Targets, by)
    if cast(Targets, before.signed).targets and not standing(before, by.signed, role, "What is published").is_signed:
        raise ValueError("what it says is published isn't signed, so it could hide a release")
    return Waiting(role, draft, before, by, keys_of(by.signed, role), manifests)


def _demand(kind: type[Root | Targets], *several: Metadata[Any]) -> None:
    for metadata in several:
        if not isinstance(metadata.signed, kind):
            raise ValueError(f"it holds {metadata.signed.type} where {kind.type} belongs")
