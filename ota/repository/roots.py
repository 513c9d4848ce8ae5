"""A repository's roots: the newest, and the next one while it waits for its signatures.

The next one is signed by enough keys of the root before and by enough of its own (TUF specification section 5.3). It is
published first and everything else after it, so that a publication that was cut short in between is known by its draft.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Root

from ecu.clock import Clock
from ecu.disk import Disk
from ota.errors import RepositoryFault
from ota.repository.metadata import Lifetimes, expiry, latest, read, read_bytes, read_root, write
from ota.repository.rotation import KeysDraft, demand_among, root_draft, root_signers
from ota.repository.travel import Waiting

DRAFTS: Final = "drafts"


class RootChain:
    """Of "image" or "director". Raises RepositoryFault, DiskError."""

    def __init__(self, disk: Disk, repository: str, clock: Clock, lifetimes: Lifetimes) -> None:
        self._disk = disk
        self._clock = clock
        self._lifetimes = lifetimes
        self._folder = f"{repository}/metadata"
        self.role = f"{repository}-{Root.type}"
        self.draft_path = f"{DRAFTS}/{self.role}.json"

    def first(self) -> bytes:
        """What a vehicle leaves the factory with."""
        return read_bytes(self._disk, f"{self._folder}/1.{Root.type}.json")

    def paths(self) -> tuple[str, ...]:
        """The files of all that are published."""
        return tuple(f"{self._folder}/{n}.{Root.type}.json" for n in range(1, self.newest().signed.version + 1))

    def newest(self) -> Metadata[Root]:
        return read_root(self._disk, self._folder)

    def believed(self) -> Iterator[Root]:
        """Whose signatures what is published may have: the newest root's keys', and where a publication was cut short
        after it, still those of the one before."""
        newest = self.newest()
        yield newest.signed
        draft = self._draft()
        if draft is not None and draft.signed == newest.signed and newest.signed.version > 1:
            yield read_root(self._disk, self._folder, newest.signed.version - 1).signed

    # --- the next one -----------------------------------------------------------------------------

    def waiting(self) -> Metadata[Root] | None:
        """The draft; None when there is none, or only what a publication left that was cut short."""
        draft, version = self._draft(), latest(self._disk, self._folder, Root.type)
        return draft if draft is not None and draft.signed.version > version else None

    def coming(self) -> Root:
        """What the root will say, or says."""
        waiting = self.waiting()
        return (waiting or self.newest()).signed

    def signed(self) -> Metadata[Root]:
        """The draft once enough have signed it; the newest before."""
        waiting, newest = self.waiting(), self.newest()
        if waiting is not None and root_draft(self.role, waiting, newest.signed).is_signed:
            return waiting
        return newest

    def begin(self, root: Root) -> None:
        """`root` waits, under the next number and unsigned, in place of what waited."""
        root.version = latest(self._disk, self._folder, Root.type) + 1
        root.expires = expiry(self._clock, self._lifetimes.root)
        write(self._disk, self.draft_path, Metadata(root))

    def sign(self, signers: Sequence[Signer]) -> KeysDraft:
        waits = self.demand_waiting()
        for signer in signers:
            demand_among(self.role, signer.public_key.keyid, waits.keys)
            waits.draft.sign(signer, append=True)
        self.keep(waits.draft)
        return root_draft(self.role, waits.draft, waits.before.signed)

    def keep(self, draft: Metadata[Root]) -> None:
        """The draft with more signatures than before."""
        write(self._disk, self.draft_path, draft)

    def demand_waiting(self) -> Waiting:
        draft, newest = self.waiting(), self.newest()
        if draft is None:
            raise RepositoryFault(
                f"No {self.role} waits for a signature. Begin one, with other keys or only a later expiry: outrider "
                f"ota rotate {self.role}."
            )
        root_draft(self.role, draft, newest.signed)
        return Waiting(self.role, draft, newest, newest, root_signers(draft.signed, newest.signed))

    def described(self) -> KeysDraft | None:
        """What waits; None when nothing does."""
        draft = self.waiting()
        return root_draft(self.role, draft, self.newest().signed) if draft is not None else None

    # --- publishing -------------------------------------------------------------------------------

    def publish(self) -> None:
        """Makes a draft that enough have signed the newest. Whatever it gives other keys is signed by them next."""
        root = self.signed()
        if root.signed.version > latest(self._disk, self._folder, Root.type):
            write(self._disk, f"{self._folder}/{root.signed.version}.{Root.type}.json", root)

    def settle(self) -> None:
        """All that follows from the newest root is published."""
        if self.waiting() is None and self._disk.exists(self.draft_path):
            self._disk.remove(self.draft_path)

    def _draft(self) -> Metadata[Root] | None:
        return read(self._disk, self.draft_path, Root) if self._disk.exists(self.draft_path) else None
