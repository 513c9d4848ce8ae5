"""A published repository as a vehicle meets it: over HTTP, in a folder of a stick, in an archive on it."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ota.conformance import HttpSource
from ota.errors import NotThere
from ota.layout import published
from ota.medium import MEDIUM_NAME, ZIP_NAME, find_medium
from ota.source import Source
from tests.ota.corpus.case import Way
from tests.ota.corpus.draft import CAR, Draft

PARTS = ("director", "image", "targets", "files", "deltas")


@contextmanager
def opened(draft: Draft, way: Way, folder: Path) -> Iterator[Source]:
    """Raises what opening it raises."""
    files = draft.published()
    folder.mkdir()
    if way is Way.HTTP:
        yield _over_http(files)
        return
    (_write_folder if way is Way.FOLDER else _write_zip)(draft, files, folder)
    draft.edited("medium", folder)
    medium = find_medium(folder)
    if medium is None:
        raise NotThere(f"Nothing lies in {folder}.")
    source = medium.open(CAR)
    try:
        yield source
    finally:
        source.close()


def _write_folder(draft: Draft, files: Mapping[str, bytes], folder: Path) -> None:
    for path, data in files.items():
        at = folder / MEDIUM_NAME / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(data)


def _write_zip(draft: Draft, files: Mapping[str, bytes], folder: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for path, data in files.items():
            file.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), data)
    (folder / ZIP_NAME).write_bytes(draft.edited("archive", archive.getvalue()))


# --- HTTP -------------------------------------------------------------------------------------------


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    files: Mapping[str, bytes] = {}


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        relative = published(self.path.removeprefix("/"), CAR)
        data = self.server.files.get(relative or "")
        if data is None:
            self.send_error(404)
            return
        wanted = self.headers.get("range")
        begin = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("content-length", str(max(0, len(data) - begin)))
        self.end_headers()
        try:
            self.wfile.write(data[begin:])
        except OSError:
            self.close_connection = True

    def log_message(self, *_: Any) -> None: ...


@cache
def _server() -> _Server:
    server = _Server(("127.0.0.1", 0), _Answer)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


def _over_http(files: Mapping[str, bytes]) -> HttpSource:
    server = _server()
    server.files = files
    host, port = server.server_address[:2]
    return HttpSource({part: f"http://{host!s}:{port}/{part}" for part in PARTS}, timeout_s=20)
