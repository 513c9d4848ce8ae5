"""The client of TUF's conformance suite (theupdateframework/tuf-conformance, CLIENT-CLI.md): python -m ota.conformance.

It drives what a vehicle trusts by, over one repository: ota/tufclient.py with its clock, its floors and its refusals,
and downloads that are verified in one pass and durable when they have a name. Exit 0 when all of it held, else 1.
"""

from __future__ import annotations

import argparse
import http.client
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from ecu.clock import SECOND_NS, Clock, SystemClock
from ecu.disk import DiskError, replace_file, state_folder
from ecu.scratch import scratch_folder
from ota.artifacts import Artifact, fetch_artifact, is_kept
from ota.errors import FetchError, Flaw, NotThere, OtaError
from ota.floors import Floors
from ota.pace import PacedSource
from ota.source import PART_BYTES, Source
from ota.tufclient import TufRepository

_METADATA: Final = "metadata"
_TARGETS: Final = "targets"
_ROOT: Final = "root.json"
_TIMEOUT_S: Final = 30.0
# A target's path is one of a URL already, so its percents stay (TUF specification section 4.5).
_SAFE: Final = "/%:@!$&'()*+,;=~"


class NoTarget(OtaError):
    """No role that is trusted for that path names it."""


class HttpSource:
    """Files below one URL for each first part of a path, over plain HTTP: what comes is believed by signatures."""

    def __init__(self, urls: Mapping[str, str], timeout_s: float = _TIMEOUT_S) -> None:
        self._urls = urls
        self._timeout_s = timeout_s

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        first, _, rest = path.partition("/")
        url = urlsplit(self._urls[first])
        place = f"{url.path.rstrip('/')}/{quote(rest, safe=_SAFE)}"
        connection = http.client.HTTPConnection(url.netloc, timeout=self._timeout_s)
        try:
            # A connection that its server ends is let go by http.client: then the answer alone holds it.
            with _answer(connection, place, offset) as response:
                _demand_found(response, url.netloc, place, offset)
                while most > 0 and (part := response.read1(min(PART_BYTES, most))):
                    most -= len(part)
                    yield part
                if most > 0 and response.length:
                    raise FetchError(f"{place} of {url.netloc} ended early. It is read again later.")
        except (OSError, http.client.HTTPException) as error:
            raise FetchError(f"{url.netloc} can't be asked for {place}: {error!r}. It is asked again later.") from error
        finally:
            connection.close()

    def close(self) -> None: ...


def _answer(connection: http.client.HTTPConnection, place: str, offset: int) -> http.client.HTTPResponse:
    headers = {"range": f"bytes={offset}-"} if offset else {}
    connection.request("GET", place, headers={"accept-encoding": "identity", **headers})
    return connection.getresponse()


def _demand_found(response: http.client.HTTPResponse, host: str, place: str, offset: int) -> None:
    if response.status in (http.client.NOT_FOUND, http.client.FORBIDDEN):
        raise NotThere(f"{host} has no {place}.")
    if response.status != (http.client.PARTIAL_CONTENT if offset else http.client.OK):
        raise FetchError(f"{host} answered {response.status} for {place}. It is asked again later.")


class Client:
    """What is trusted of one repository, kept in a folder under the names of its roles."""

    def __init__(self, metadata: Path, source: Source, clock: Clock) -> None:
        self._disk = state_folder(metadata)
        self._floors = Floors(self._disk)
        self._source = PacedSource(source, clock, Flaw.SLOW_LOOK)
        self._now_s = clock.wall_ns() // SECOND_NS

    def refresh(self) -> None:
        self._look([])

    def download(self, names: Sequence[str], folder: Path) -> None:
        """Each of them, as far as it isn't there. Raises OtaError, DiskError."""
        disk = state_folder(folder)
        for artifact, remote in self._look(names):
            path = _file_name(artifact.name)
            if not is_kept(disk, path, artifact):
                fetch_artifact(self._source, remote, disk, path, artifact)

    def _look(self, names: Sequence[str]) -> list[tuple[Artifact, str]]:
        with scratch_folder("outrider-metadata-") as scratch:
            folder = scratch / _METADATA
            folder.mkdir()
            self._unpack(folder)
            try:
                repository = TufRepository(_METADATA, self._root(), folder, self._source, self._now_s)
            except OtaError:
                # Each role was verified before it was written there, whatever came of the next one.
                self._pack(folder)
                raise
            versions = repository.versions()
            self._floors.demand_current(versions)
            try:
                found = [_found(repository, name) for name in names]
            finally:
                self._pack(folder)
            self._floors.raise_metadata(versions, min(repository.signed_at_s, self._now_s))
            return found

    def _root(self) -> bytes:
        try:
            return self._disk.read(_ROOT)
        except FileNotFoundError as error:
            raise NoTarget("There is no trusted root yet. Give one first: init ROOT.") from error

    def _unpack(self, folder: Path) -> None:
        for name in self._disk.names(""):
            if name.endswith(".json") and name != _ROOT:
                (folder / name).write_bytes(self._disk.read(name))

    def _pack(self, folder: Path) -> None:
        for path in sorted(folder.glob("*.json")):
            data = path.read_bytes()
            if not self._disk.exists(path.name) or self._disk.read(path.name) != data:
                replace_file(self._disk, path.name, data)
        for name in self._disk.names(""):
            if name.endswith(".json") and name != _ROOT and not (folder / name).exists():
                self._disk.remove(name)
                self._disk.sync_folder("")


def _found(repository: TufRepository, name: str) -> tuple[Artifact, str]:
    """What was signed, and the path it is asked for by."""
    target = repository.target(name)
    if target is None:
        raise NoTarget(f"Nobody who is trusted for {name} has signed it.")
    folder, slash, base = name.rpartition("/")
    digest = next(iter(target.hashes.values()), "")
    base = f"{digest}.{base}" if repository.has_hashes_in_names else base
    return Artifact(name, target.length, target.hashes), f"{_TARGETS}/{folder}{slash}{base}"


def _file_name(target: str) -> str:
    """One name of a flat folder for each path, none of which leads out of it or hides."""
    name = quote(target, safe="")
    return f"%2E{name[1:]}" if name.startswith(".") else name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ota.conformance", description="A TUF client under test.")
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url", default="")
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--target-base-url", default="")
    parser.add_argument("--target-dir", type=Path)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("init").add_argument("root", type=Path)
    verbs.add_parser("refresh")
    verbs.add_parser("download")
    return parser


def run(arguments: Sequence[str], clock: Clock) -> None:
    """One command. Raises OtaError, DiskError, OSError."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.verb == "init":
        replace_file(state_folder(asked.metadata_dir), _ROOT, asked.root.read_bytes())
        return
    if not asked.metadata_url or (asked.verb == "download" and not (asked.target_name and asked.target_dir)):
        parser.error(f"{asked.verb} needs --metadata-url, and download --target-name and --target-dir, too")
    source = HttpSource({_METADATA: asked.metadata_url, _TARGETS: asked.target_base_url})
    client = Client(asked.metadata_dir, source, clock)
    try:
        if asked.verb == "refresh":
            client.refresh()
        else:
            client.download(asked.target_name, asked.target_dir)
    finally:
        source.close()


def main(arguments: Sequence[str] | None = None, clock: Clock | None = None) -> int:
    try:
        run(sys.argv[1:] if arguments is None else arguments, clock or SystemClock())
    except (OtaError, DiskError, OSError) as trouble:
        print(trouble, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
