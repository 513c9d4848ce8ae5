"""Checks that may be off without any case noticing, each with what stands behind it, or which test needs it instead."""

from __future__ import annotations

from typing import Final

_FLASH: Final = "no source brings this about: the vehicle's own flash does, and tests/ota/test_updates.py breaks it"
_FLOORS: Final = "no source brings this about: tests/ota/test_floors.py breaks both twins"
_MEDIUM: Final = "no source brings this about: a medium that is pulled out while it is read does"
_STRICTER: Final = "without it more is refused, not less: tests/ota/test_pace.py"
_REPORT: Final = "what a report says of the vehicle, and no release: tests/ota/test_report.py"

REDUNDANT: Final[dict[str, str]] = {
    "trust.Trust.refresh: except OSError": "the computer's temporary folder is broken by tests/ota/test_trust.py",
    "trust.Trust._cached: if hashlib.sha256(packed).digest() != digest": "the cache is verified anew as metadata is",
    "trust.Trust._cached: except msgspec.DecodeError": "only another version of the runtime writes such a cache",
    "tufclient.TufRepository._refreshed: except RepositoryError": "a rotation after theft: tests/ota/test_rotation.py",
    "tufclient._content: except (ValueError, RecursionError)": "for words: what comes here was read as JSON before",
    "floors.Floors._read: except (TwinLost, msgspec.DecodeError)": _FLOORS,
    "floors.Floors._read_releases: except (TwinLost, msgspec.DecodeError)": _FLOORS,
    "fetch.fetch_bundle: except DiskFull": "tests/ota/test_fetch.py fills the disk",
    "fetch._still_there: except (FileNotFoundError, DiskFault)": _FLASH,
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
    "updates.Updates._image: if good is None or manifest is None": _REPORT,
    "updates.Updates._image: or good is None": _REPORT,
    "updates.Updates._image: or manifest is None": _REPORT,
    "delta.made: if len(under) != block.size": _FLASH,
    "delta._unzipped: if len(data) != holds.content_size": "the library refuses a frame that holds less than it says",
    "deltafetch.DeltaFetch._landed: except DeltaUnfit": "what a bad delta may cost: tests/ota/test_deltafetch.py",
    "deltafetch.DeltaFetch._landed: if (unfit := (unfit + 1)) >= MOST_UNFIT": "as above",
    "deltafetch.DeltaFetch._made: except (DiskFault, FileNotFoundError)": _FLASH,
    "zipsource.ZipSource._pread: except (OSError, OverflowError)": _MEDIUM,
    "zipsource._opened: except FileNotFoundError": _MEDIUM,
    "zipsource._opened: except OSError": _MEDIUM,
}  # fmt: skip
