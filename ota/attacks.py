"""Every way in which an update can be wrong: what it is, which check refuses it, and whose threat it is.

`Attack` is what reports, screens and operators know: few names, as the standards have them. `Flaw` is one exact defect
within an attack. docs/attacks.md is printed from ABOUT.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Attack(StrEnum):
    """Attack classes by their names in the TUF specification (section 1.5.2) and the Uptane standard (section 4.3)."""

    ROLLBACK = "rollback"
    FREEZE = "freeze"
    WRONG_VEHICLE = "wrong-vehicle"
    WRONG_HARDWARE = "wrong-hardware"
    WRONG_SIGNER = "wrong-signer"
    MIX_AND_MATCH = "mix-and-match"
    TAMPERED = "tampered"
    ARBITRARY_SOFTWARE = "arbitrary-software"
    ENDLESS_DATA = "endless-data"
    MALFORMED = "malformed"
    SLOW_RETRIEVAL = "slow-retrieval"


class Flaw(StrEnum):
    """One defect each: mend it alone, and the same bytes are accepted."""

    ROOT_ROLLBACK = "root-rollback"
    ROOT_OUT_OF_ORDER = "root-out-of-order"
    TIMESTAMP_ROLLBACK = "timestamp-rollback"
    SNAPSHOT_ROLLBACK = "snapshot-rollback"
    TARGETS_ROLLBACK = "targets-rollback"
    DELEGATED_ROLLBACK = "delegated-rollback"
    ROLE_WITHDRAWN = "role-withdrawn"
    FORGOTTEN_ROLLBACK = "forgotten-rollback"
    RELEASE_ROLLBACK = "release-rollback"

    ROOT_EXPIRED = "root-expired"
    TIMESTAMP_EXPIRED = "timestamp-expired"
    SNAPSHOT_EXPIRED = "snapshot-expired"
    TARGETS_EXPIRED = "targets-expired"
    DELEGATED_EXPIRED = "delegated-expired"

    OTHER_VEHICLE = "other-vehicle"
    NO_VEHICLE = "no-vehicle"
    OTHER_HARDWARE = "other-hardware"
    OTHER_ABI = "other-abi"

    STRANGERS_ROOT = "strangers-root"
    ROOT_BY_OLD_KEYS = "root-by-old-keys"
    ROOT_BY_NEW_KEYS = "root-by-new-keys"
    STRANGERS_KEY = "strangers-key"
    OTHER_ROLES_KEY = "other-roles-key"
    OTHER_KINDS_KEY = "other-kinds-key"
    JUDGE_IN_OWN_CAUSE = "judge-in-own-cause"
    UNSIGNED = "unsigned"

    TOO_FEW_SIGNERS = "too-few-signers"
    CHANGED_ROOT = "changed-root"
    CHANGED_TIMESTAMP = "changed-timestamp"
    CHANGED_SNAPSHOT = "changed-snapshot"
    CHANGED_TARGETS = "changed-targets"
    CHANGED_DELEGATED = "changed-delegated"
    CHANGED_MANIFEST = "changed-manifest"
    CHANGED_BLOCK = "changed-block"
    CHANGED_ARTIFACT = "changed-artifact"

    OTHER_SNAPSHOT = "other-snapshot"
    OTHER_TARGETS = "other-targets"
    OTHER_DELEGATED = "other-delegated"
    SNAPSHOT_HASH = "snapshot-hash"
    TARGETS_HASH = "targets-hash"
    UNLISTED_ROLE = "unlisted-role"
    OTHER_RELEASES_MANIFEST = "other-releases-manifest"
    OTHER_HARDWARES_MANIFEST = "other-hardwares-manifest"

    DIRECTOR_ALONE = "director-alone"
    OTHER_LENGTH = "other-length"
    OTHER_HASH = "other-hash"
    OTHER_CUSTOM = "other-custom"

    ENDLESS_METADATA = "endless-metadata"
    ENDLESS_MANIFEST = "endless-manifest"
    ENDLESS_FILE = "endless-file"
    ENDLESS_ARCHIVE = "endless-archive"

    NOT_METADATA = "not-metadata"
    OTHER_TYPE = "other-type"
    DELEGATING_DIRECTOR = "delegating-director"
    TWO_OF_A_KIND = "two-of-a-kind"
    UNKNOWN_KIND = "unknown-kind"
    NO_CUSTOM = "no-custom"
    UNASKABLE_NAME = "unaskable-name"
    VERSION_OUT_OF_RANGE = "version-out-of-range"
    UNKNOWN_HASH = "unknown-hash"
    MALFORMED_MANIFEST = "malformed-manifest"
    MANIFEST_NOT_CANONICAL = "manifest-not-canonical"
    BLOCKS_OF_ANOTHER_FILE = "blocks-of-another-file"
    UNKNOWN_NEEDS = "unknown-needs"

    MALFORMED_ARCHIVE = "malformed-archive"
    LINK_IN_ARCHIVE = "link-in-archive"
    NAME_LEADS_ELSEWHERE = "name-leads-elsewhere"
    NAME_TWICE = "name-twice"
    MEMBERS_OVERLAP = "members-overlap"
    COMPRESSED_MEMBER = "compressed-member"
    ENCRYPTED_MEMBER = "encrypted-member"

    SLOW_LOOK = "slow-look"
    SLOW_DOWNLOAD = "slow-download"

    @property
    def attack(self) -> Attack:
        return ABOUT[self].attack


@dataclass(frozen=True, slots=True)
class About:
    """`words` say what is wrong, `check` which module refuses it, `threat` where a standard names it: sections of the
    TUF specification 1.0 ("TUF") and of the Uptane standard 2.1.0 ("Uptane")."""

    attack: Attack
    words: str
    check: str
    threat: str


_TUF, _TRUST, _FLOORS = "ota/tufclient.py", "ota/trust.py", "ota/floors.py"
_FETCH, _MANIFEST, _PACE, _ARTIFACTS = "ota/fetch.py", "ota/manifest.py", "ota/pace.py", "ota/artifacts.py"
_FITNESS, _RUNTIME, _ZIP = "ota/fitness.py", "ota/runtime.py", "ota/zipsource.py"

ABOUT: Final[Mapping[Flaw, About]] = MappingProxyType({
    Flaw.ROOT_ROLLBACK: About(
        Attack.ROLLBACK, "a root older than one that was seen", _FLOORS, "Uptane 5.4.4.3 step 2.4"
    ),
    Flaw.ROOT_OUT_OF_ORDER: About(
        Attack.MIX_AND_MATCH, "the root after N says that it is another than N+1", _TUF, "TUF 5.3.5"
    ),
    Flaw.TIMESTAMP_ROLLBACK: About(
        Attack.ROLLBACK, "a timestamp older than the one that was seen", _TUF, "Uptane 5.4.4.4 step 3"
    ),
    Flaw.SNAPSHOT_ROLLBACK: About(
        Attack.ROLLBACK, "a new timestamp that names an older snapshot", _TUF, "TUF 5.4.3.2, Uptane 5.4.4.5 step 4"
    ),
    Flaw.TARGETS_ROLLBACK: About(
        Attack.ROLLBACK, "a new snapshot that names older targets", _TUF, "Uptane 5.4.4.5 step 5"
    ),
    Flaw.DELEGATED_ROLLBACK: About(
        Attack.ROLLBACK, "a new snapshot that names an older delegated role", _TUF, "Uptane 5.4.4.5 step 5"
    ),
    Flaw.ROLE_WITHDRAWN: About(
        Attack.ROLLBACK, "a new snapshot that no longer names a role it named", _TUF, "Uptane 5.4.4.5 step 6"
    ),
    Flaw.FORGOTTEN_ROLLBACK: About(
        Attack.ROLLBACK, "older metadata, served to a vehicle that lost its copies", _FLOORS, "TUF 1.5.2 rollback"
    ),
    Flaw.RELEASE_ROLLBACK: About(
        Attack.ROLLBACK, "a release below the one that was kept", _FLOORS, "Uptane 5.4.3.4 step 5"
    ),
    Flaw.ROOT_EXPIRED: About(Attack.FREEZE, "the newest root has expired", _TUF, "Uptane 5.4.4.3 step 3"),
    Flaw.TIMESTAMP_EXPIRED: About(Attack.FREEZE, "the timestamp has expired", _TUF, "Uptane 5.4.4.4 step 4"),
    Flaw.SNAPSHOT_EXPIRED: About(Attack.FREEZE, "the snapshot has expired", _TUF, "Uptane 5.4.4.5 step 7"),
    Flaw.TARGETS_EXPIRED: About(Attack.FREEZE, "the targets have expired", _TUF, "Uptane 5.4.4.6 step 5"),
    Flaw.DELEGATED_EXPIRED: About(Attack.FREEZE, "a kind's role has expired", _TUF, "Uptane 5.4.4.6 step 5"),
    Flaw.OTHER_VEHICLE: About(
        Attack.WRONG_VEHICLE, "the director's targets name another vehicle", _TRUST, "Uptane 5.2.3.1"
    ),
    Flaw.NO_VEHICLE: About(Attack.WRONG_VEHICLE, "the director's targets name no vehicle", _TRUST, "Uptane 5.2.3.1"),
    Flaw.OTHER_HARDWARE: About(
        Attack.WRONG_HARDWARE, "the release is made for other hardware", _TRUST, "Uptane 5.4.3.4 step 3"
    ),
    Flaw.OTHER_ABI: About(
        Attack.WRONG_HARDWARE, "a runtime that is built for another ABI", _FITNESS, "Uptane 5.4.3.4 step 3"
    ),
    Flaw.STRANGERS_ROOT: About(
        Attack.WRONG_SIGNER, "a root that keys of neither the old nor the new one signed", _TUF, "TUF 1.5.2 arbitrary"
    ),
    Flaw.ROOT_BY_OLD_KEYS: About(
        Attack.WRONG_SIGNER, "a new root that its own keys didn't sign", _TUF, "Uptane 5.4.4.3 step 2.3"
    ),
    Flaw.ROOT_BY_NEW_KEYS: About(
        Attack.WRONG_SIGNER, "a new root that the keys before didn't sign", _TUF, "Uptane 5.4.4.3 step 2.3"
    ),
    Flaw.STRANGERS_KEY: About(Attack.WRONG_SIGNER, "signed by a key that nobody names", _TUF, "TUF 1.5.2 arbitrary"),
    Flaw.OTHER_ROLES_KEY: About(
        Attack.WRONG_SIGNER, "signed by the key of another of the four roles", _TUF, "TUF 1.5.2 key compromise"
    ),
    Flaw.OTHER_KINDS_KEY: About(
        Attack.WRONG_SIGNER, "signed by the key of another kind of release", _TUF, "TUF 1.5.2 key compromise"
    ),
    Flaw.JUDGE_IN_OWN_CAUSE: About(
        Attack.WRONG_SIGNER, "one key signs a kind and what judges it", _TRUST, "TUF 1.5.2 key compromise"
    ),
    Flaw.UNSIGNED: About(Attack.WRONG_SIGNER, "nobody has signed it", _TUF, "TUF 1.5.2 arbitrary"),
    Flaw.TOO_FEW_SIGNERS: About(
        Attack.TAMPERED, "signed by fewer keys than its role needs; one key counts once", _TUF,
        "TUF 1.5.2 key compromise",
    ),
    Flaw.CHANGED_ROOT: About(Attack.TAMPERED, "a root changed after it was signed", _TUF, "Uptane 5.4.4.3 step 2.3"),
    Flaw.CHANGED_TIMESTAMP: About(
        Attack.TAMPERED, "a timestamp changed after it was signed", _TUF, "Uptane 5.4.4.4 step 2"
    ),
    Flaw.CHANGED_SNAPSHOT: About(
        Attack.TAMPERED, "a snapshot changed after it was signed", _TUF, "Uptane 5.4.4.5 step 3"
    ),
    Flaw.CHANGED_TARGETS: About(
        Attack.TAMPERED, "targets changed after they were signed", _TUF, "Uptane 5.4.4.6 step 3"
    ),
    Flaw.CHANGED_DELEGATED: About(
        Attack.TAMPERED, "a kind's role changed after it was signed", _TUF, "Uptane 5.4.4.6 step 3"
    ),
    Flaw.CHANGED_MANIFEST: About(
        Attack.TAMPERED, "a bundle's manifest that isn't what both repositories name", _FETCH, "Uptane 5.4.3.4 step 7"
    ),
    Flaw.CHANGED_BLOCK: About(
        Attack.TAMPERED, "a block that isn't what the manifest names", _FETCH, "Uptane 5.4.3.4 step 7"
    ),
    Flaw.CHANGED_ARTIFACT: About(
        Attack.TAMPERED, "a file whose bytes have another hash than was signed", _ARTIFACTS, "TUF 5.7.2"
    ),
    Flaw.OTHER_SNAPSHOT: About(
        Attack.MIX_AND_MATCH, "a snapshot of another version than the timestamp names", _TUF, "Uptane 5.4.4.5 step 2"
    ),
    Flaw.OTHER_TARGETS: About(
        Attack.MIX_AND_MATCH, "targets of another version than the snapshot names", _TUF, "Uptane 5.4.4.6 step 2"
    ),
    Flaw.OTHER_DELEGATED: About(
        Attack.MIX_AND_MATCH, "a kind's role of another version than the snapshot names", _TUF, "Uptane 5.4.4.6 step 2"
    ),
    Flaw.SNAPSHOT_HASH: About(
        Attack.MIX_AND_MATCH, "a snapshot with another hash or length than the timestamp names", _TUF,
        "Uptane 5.4.4.5 step 2",
    ),
    Flaw.TARGETS_HASH: About(
        Attack.MIX_AND_MATCH, "targets with another hash or length than the snapshot names", _TUF, "TUF 5.6.2"
    ),
    Flaw.UNLISTED_ROLE: About(
        Attack.MIX_AND_MATCH, "a kind's role that the snapshot doesn't name", _TUF, "Uptane 5.2.4"
    ),
    Flaw.OTHER_RELEASES_MANIFEST: About(
        Attack.MIX_AND_MATCH, "a signed manifest that is of another release", _FETCH, "Uptane 4.3.3 mix-and-match"
    ),
    Flaw.OTHER_HARDWARES_MANIFEST: About(
        Attack.MIX_AND_MATCH, "a signed manifest for other hardware than was signed", _FETCH, "Uptane 5.4.3.4 step 3"
    ),
    Flaw.DIRECTOR_ALONE: About(
        Attack.ARBITRARY_SOFTWARE, "the director names what the kind's own key never signed", _TRUST,
        "Uptane 5.4.4.2 step 10.1",
    ),
    Flaw.OTHER_LENGTH: About(
        Attack.ARBITRARY_SOFTWARE, "the repositories name other lengths", _TRUST, "Uptane 5.4.4.2 step 10.2"
    ),
    Flaw.OTHER_HASH: About(
        Attack.ARBITRARY_SOFTWARE, "the repositories name other hashes", _TRUST, "Uptane 5.4.4.2 step 10.2"
    ),
    Flaw.OTHER_CUSTOM: About(
        Attack.ARBITRARY_SOFTWARE, "the repositories name another release counter or other hardware", _TRUST,
        "Uptane 5.4.4.2 step 10.2",
    ),
    Flaw.ENDLESS_METADATA: About(
        Attack.ENDLESS_DATA, "metadata that goes on beyond its limit", _TUF, "TUF 1.5.2 endless data"
    ),
    Flaw.ENDLESS_MANIFEST: About(
        Attack.ENDLESS_DATA, "a manifest longer than any may be, or than was signed", _FETCH, "TUF 1.5.2 endless data"
    ),
    Flaw.ENDLESS_FILE: About(
        Attack.ENDLESS_DATA, "a file that goes on beyond what was asked for", _FETCH, "Uptane 4.3.3 endless data"
    ),
    Flaw.NOT_METADATA: About(Attack.MALFORMED, "no metadata at all", _TUF, "TUF 4.1"),
    Flaw.OTHER_TYPE: About(Attack.MALFORMED, "rightly signed metadata of another role", _TUF, "TUF 4.2"),
    Flaw.DELEGATING_DIRECTOR: About(Attack.MALFORMED, "the director delegates", _TRUST, "Uptane 5.4.4.6 step 6"),
    Flaw.TWO_OF_A_KIND: About(
        Attack.MALFORMED, "the director names two releases of one kind", _TRUST, "Uptane 5.4.4.6 step 7"
    ),
    Flaw.UNKNOWN_KIND: About(
        Attack.MALFORMED, "the director names a release of no known kind", _TRUST, "Uptane 5.4.4.6 step 8"
    ),
    Flaw.NO_CUSTOM: About(
        Attack.MALFORMED, "a target without a release counter or hardware", _TRUST, "Uptane 5.2.3.1.1"
    ),
    Flaw.UNASKABLE_NAME: About(
        Attack.MALFORMED, "a target's name or hash that could lead out of its folder", _TRUST, "Uptane 5.2.7 rule 3"
    ),
    Flaw.VERSION_OUT_OF_RANGE: About(
        Attack.MALFORMED, "a version so high that none could follow", _TUF, "TUF 1.5.2 fast-forward"
    ),
    Flaw.UNKNOWN_HASH: About(Attack.MALFORMED, "a hash of a kind that nobody here can check", _ARTIFACTS, "TUF 4.5"),
    Flaw.MALFORMED_MANIFEST: About(
        Attack.MALFORMED, "a signed manifest that breaks the format", _MANIFEST, "docs/formats/bundle.md"
    ),
    Flaw.MANIFEST_NOT_CANONICAL: About(
        Attack.MALFORMED, "a signed manifest that is written in another way", _MANIFEST, "docs/formats/bundle.md"
    ),
    Flaw.BLOCKS_OF_ANOTHER_FILE: About(
        Attack.MALFORMED, "signed blocks that make another file than was signed", _FETCH, "docs/formats/bundle.md"
    ),
    Flaw.UNKNOWN_NEEDS: About(
        Attack.MALFORMED, "a signed runtime that doesn't say what it runs with", _RUNTIME, "docs/formats/bundle.md"
    ),
    Flaw.ENDLESS_ARCHIVE: About(
        Attack.ENDLESS_DATA, "an archive that says it holds more than any may", _ZIP, "TUF 1.5.2 endless data"
    ),
    Flaw.MALFORMED_ARCHIVE: About(
        Attack.MALFORMED, "an archive that is damaged, or not as an export makes it", _ZIP, "APPNOTE 4.3"
    ),
    Flaw.LINK_IN_ARCHIVE: About(Attack.MALFORMED, "an archive with a link or a device", _ZIP, "CWE-59"),
    Flaw.NAME_LEADS_ELSEWHERE: About(
        Attack.MALFORMED, "an archive with a name that leads out of it", _ZIP, "APPNOTE 4.4.17, CWE-22"
    ),
    Flaw.NAME_TWICE: About(Attack.MALFORMED, "an archive that has one name twice", _ZIP, "CWE-436"),
    Flaw.MEMBERS_OVERLAP: About(Attack.MALFORMED, "an archive whose members share bytes", _ZIP, "CWE-436"),
    Flaw.COMPRESSED_MEMBER: About(
        Attack.MALFORMED, "an archive with something compressed, which may be a bomb", _ZIP, "CWE-409"
    ),
    Flaw.ENCRYPTED_MEMBER: About(Attack.MALFORMED, "an archive with something encrypted", _ZIP, "APPNOTE 4.4.4"),
    Flaw.SLOW_LOOK: About(
        Attack.SLOW_RETRIEVAL, "metadata that trickles", _PACE, "TUF 1.5.2 slow retrieval, Uptane 5.4"
    ),
    Flaw.SLOW_DOWNLOAD: About(
        Attack.SLOW_RETRIEVAL, "a release that trickles", _PACE, "TUF 1.5.2 slow retrieval, Uptane 5.4"
    ),
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unrefused:
    """A threat that no check of a vehicle's refuses, and what answers it."""

    name: str
    words: str
    answer: str
    threat: str


UNREFUSED: Final = (
    Unrefused(
        "drop-request", "nothing comes at all", "at the receiver a vehicle that is silent counts as failed",
        "Uptane 4.3.2",
    ),
    Unrefused(
        "partial-bundle", "some releases of a set are kept back",
        "none is tried without what it is judged by; the signed report names what is there", "Uptane 4.3.2",
    ),
    Unrefused(
        "mixed-bundles", "releases of two sets at once",
        "both repositories name the same releases, by one snapshot each", "TUF 1.5.2 mix-and-match",
    ),
    Unrefused(
        "denial-of-service", "the repositories are drowned", "vehicles drive on with what they have", "Uptane 4.3.2"
    ),
    Unrefused(
        "eavesdrop", "somebody reads a release", "releases come by mutual TLS; they aren't encrypted themselves",
        "Uptane 4.3.1",
    ),
)  # fmt: skip


def table() -> str:
    """The part of docs/attacks.md that is printed."""
    flaws = [f"| `{flaw}` | `{its.attack}` | {its.words} | {its.check} | {its.threat} |" for flaw, its in ABOUT.items()]
    others = [f"| `{its.name}` | {its.words} | {its.answer} | {its.threat} |" for its in UNREFUSED]
    return "\n".join([
        "| flaw | told as | what is wrong | refused by | threat |", "|---|---|---|---|---|", *flaws, "",
        "| threat | what happens | what answers it | named in |", "|---|---|---|---|", *others,
    ])  # fmt: skip
