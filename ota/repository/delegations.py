"""Whose keys sign which kind, and the next version of that while it waits for its signatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Root, Targets

from ecu.clock import Clock
from ecu.disk import Disk
from ota.errors import RepositoryFault
from ota.repository.current import METADATA, Current
from ota.repository.metadata import Lifetimes, expiry, latest, read, standing, write
from ota.repository.roots import DRAFTS, RootChain
from ota.repository.rotation import KeysDraft, delegations_draft, demand_among, keys_of
from ota.repository.travel import Waiting

DRAFT_PATH: Final = f"{DRAFTS}/{Targets.type}.json"


class DelegationChain:
    """Raises RepositoryFault, DiskError."""

    def __init__(self, disk: Disk, roots: RootChain, current: Current, clock: Clock, lifetimes: Lifetimes) -> None:
        self._disk = disk
        self._roots = roots
        self._current = current
        self._clock = clock
        self._lifetimes = lifetimes

    def waiting(self) -> Metadata[Targets] | None:
        """The draft; None when there is none, or only what a publication left that was cut short at its end."""
        draft = read(self._disk, DRAFT_PATH, Targets) if self._disk.exists(DRAFT_PATH) else None
        return (
            draft if draft is not None and draft.signed.version > self._current.view().version(Targets.type) else None
        )

    def coming(self) -> Targets:
        """What they will be, or are."""
        return (self.waiting() or self._current.view().top).signed

    def begin(self, top: Targets) -> None:
        """`top` waits, under the next number and unsigned, in place of what waited."""
        top.version = latest(self._disk, METADATA, Targets.type) + 1
        top.expires = expiry(self._clock, self._lifetimes.root)
        self.keep(Metadata(top))

    def sign(self, signers: Sequence[Signer]) -> KeysDraft:
        waits = self.demand_waiting()
        for signer in signers:
            demand_among(Targets.type, signer.public_key.keyid, waits.keys)
            waits.draft.sign(signer, append=True)
        self.keep(waits.draft)
        return delegations_draft(waits.draft, waits.before.signed, self._roots.coming())

    def keep(self, draft: Metadata[Targets]) -> None:
        """The draft with more signatures than before."""
        write(self._disk, DRAFT_PATH, draft)

    def demand_waiting(self) -> Waiting:
        draft, before, root = self.waiting(), self._current.view().top, self._roots.coming()
        if draft is None:
            raise RepositoryFault(
                "No targets wait for a signature. They do when a kind's keys change: outrider ota rotate KIND."
            )
        delegations_draft(draft, before.signed, root)
        return Waiting(Targets.type, draft, before, Metadata(root), keys_of(root, Targets.type))

    def described(self) -> KeysDraft | None:
        """What waits; None when nothing does."""
        draft = self.waiting()
        if draft is None:
            return None
        return delegations_draft(draft, self._current.view().top.signed, self._roots.coming())

    def next(self, root: Root, with_draft: bool) -> Metadata[Targets]:
        """What delegates from now on: the draft once it is signed as `root` wants it, or what is published."""
        draft, top = self.waiting() if with_draft else None, self._current.view().top
        if draft is not None and standing(draft, root, Targets.type, DRAFT_PATH).is_signed:
            delegations_draft(draft, top.signed, root)
            return draft
        if not standing(top, root, Targets.type, DRAFT_PATH).is_signed:
            raise RepositoryFault(
                "The next image-root gives targets other keys, and no targets are signed by them. Have them signed: "
                "outrider ota sign --role targets. To publish without that root: --leave-drafts."
            )
        return top

    def settle(self) -> None:
        """What waited is published."""
        if self.waiting() is None and self._disk.exists(DRAFT_PATH):
            self._disk.remove(DRAFT_PATH)
