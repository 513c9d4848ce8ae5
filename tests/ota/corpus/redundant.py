"""Checks that may be off without any case noticing, each with what stands behind it, or which test needs it instead."""

from __future__ import annotations

from typing import Final

_FLASH: Final = "no source brings this about: the vehicle's own flash does, and tests/ota/test_updates.py breaks it"
_FLOORS: Final = "no source brings this about: tests/ota/test_floors.py breaks both twins"
_MEDIUM: Final = "no source brings this about: a medium that is pulled out while it is read does"
_STRICTER: Final = "without it more is refused, not less: tests/ota/test_pace.py"
_REPORT: Final = "what a report says of the vehicle, and no release: tests/ota/test_report.py"
_AGAIN: Final = "of a vehicle that lost what it kept: tests/ota/test_dead_ends.py"
_WAY: Final = "what waits for the vehicle's rest while another comes: tests/ota/test_giving_way.py"
_RUNS: Final = "what this computer's interpreter has: tests/ota/test_updates.py"

REDUNDANT: Final[dict[str, str]] = {
    "trust.Trust.refresh: except OSError": "the computer's temporary folder is broken by tests/ota/test_trust.py",
    "trust.Trust._cached: if hashlib.sha256(packed).digest() != digest": "the cache is verified anew as metadata is",
    "trust.Trust._cached: except msgspec.DecodeError": "only another version of the runtime writes such a cache",
    "tufclient.TufRepository._refreshed: except RepositoryError": "a rotation after theft: tests/ota/test_rotation.py",
    "tufclient._content: except (ValueError, RecursionError)": "for words: what comes here was read as JSON before",
    "floors.Floors._read: except (TwinLost, msgspec.DecodeError, UnicodeDecodeError)": _FLOORS,
    "floors.Floors._read_releases: except (TwinLost, msgspec.DecodeError, UnicodeDecodeError)": _FLOORS,
    "fetch.fetch_bundle: except DiskFull": "tests/ota/test_fetch.py fills the disk",
    "fetch._still_there: except UNREADABLE": _FLASH,
    "fetch.check_bundle: if whole.hexdigest() != entry.sha256": "the desk's, of what it has: tests/ota/test_fetch.py",
    "fitness.fits: if not {ANY_HARDWARE, host.hardware} & set(manifest.hardware)": (
        "both repositories name this vehicle's hardware, and the manifest says the same: before it comes here"
    ),
    "ranges.is_within: if leading is None": "the computer's own versions: tests/ota/test_fitness.py",
    "layout.published: if not _VEHICLE.fullmatch(vehicle)": "a vehicle's own name, by its configuration or certificate",
    "manifest.FileEntry: le=MAX_BUNDLE_BYTES in Field(ge=0, le=MAX_BUNDLE_BYTES)": (
        "all files together may have no more"
    ),
    "facts.: max_length=MOST_CHARACTERS in StringConstraints(pattern=RANGE_PATTERN, max_length=MOST_CHARACTERS)": (
        "four bounds, as the pattern has them, never come to so many"
    ),
    "pace.Pace.is_too_slow: and waited_ns >= self.over_s * SECOND_NS": _STRICTER,
    "pace.Pace.is_too_slow: and came * SECOND_NS < self.bytes_per_s * waited_ns": _STRICTER,
    "updates.Updates.comes_again: and offer.kind is not Kind.RUNTIME": _AGAIN,
    "updates.Updates.comes_again: and bool(self._below_bootable(offer.kind))": _AGAIN,
    "updates.Updates.comes_again: and offer.release == self._floors.release(offer.kind)": _AGAIN,
    "updates.Updates.refused: self._refused(kind, refusal)": "a system's own chain: tests/agent/test_booted.py",
    "updates.Updates._is_held_up: return offer.kind in TRIED and is_newer and (not seen) and "
    "(offer.release >= self._floors.release(offer.kind))": _WAY,
    "updates.Updates._is_held_up: and offer.kind in TRIED": _WAY,
    "updates.Updates._is_held_up: and is_newer": _WAY,
    "updates.Updates._is_held_up: and not seen": _WAY,
    "updates.Updates._is_held_up: and offer.release >= self._floors.release(offer.kind)": _WAY,
    "updates.Updates.install: self._demand_runs(slots, slot, manifest)": _RUNS,
    "updates.Updates._demand_runs: if (why := self._why_unfit(read_facts(slots.read(slot, FACTS_NAME))))": _RUNS,
    "updates.Updates._free_slot: if kind is Kind.RUNTIME and spare is self._running": (
        "the corpus runs from the factory's slot: tests/ota/test_updates.py"
    ),
    "updates.Updates._image: if good is None or manifest is None": _REPORT,
    "updates.Updates._image: or good is None": _REPORT,
    "updates.Updates._image: or manifest is None": _REPORT,
    "delta.made: if len(under) != block.size": _FLASH,
    "delta._unzipped: if len(data) != holds.content_size": "the library refuses a frame that holds less than it says",
    "deltafetch.DeltaFetch._landed: except DeltaUnfit": "what a bad delta may cost: tests/ota/test_deltafetch.py",
    "deltafetch.DeltaFetch._landed: if (unfit := (unfit + 1)) >= MOST_UNFIT": "as above",
    "deltafetch.DeltaFetch._made: except UNREADABLE": _FLASH,
    "deltafetch.DeltaFetch._read: except TrustError": "an archive's word on a delta: tests/ota/test_deltafetch.py",
    "zipsource.ZipSource._pread: except (OSError, OverflowError)": _MEDIUM,
    "zipsource._opened: except FileNotFoundError": _MEDIUM,
    "zipsource._opened: except OSError": _MEDIUM,
}  # fmt: skip

_HONEST: Final = "the vehicle that the cases begin with doesn't keep its first, honest release"

BREAKS: Final[dict[str, str]] = {
    "tufclient.TufRepository._version_by_todays_keys: except RepositoryError": _HONEST,
    "fetch._still_there: if place is None": _HONEST,
    "updates.Updates.comes_again: return offer.kind is not Kind.RUNTIME and bool(self._below_bootable(offer.kind)) and "
    "(offer.release == self._floors.release(offer.kind))": _HONEST,
    "updates.Updates._told: if step is None": "no vehicle begins at all",
    "manifest.block_count: return -(-size // BLOCK_BYTES)": "no manifest can be made",
    "deltafetch.DeltaFetch._bodies: if not part": "a delta that ends early is waited for without end",
    "zipsource.ZipSource._exactly: if not part": "an archive that ends early is read without end",
}
"""Checks without which no case comes to an answer of its own, each with what happens instead."""
