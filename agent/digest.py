"""The replay digest (law 7): one hash over everything the agent made of a drive, before the spool.

It covers what was given (model package, configuration, runtime, every frame's pixels) and what came of it (tracks,
records), each length-prefixed, in the samples' total order; no epochs, nonces or latencies.
"""

from __future__ import annotations

import hashlib

import msgspec

from inference.messages import Seen
from telemetry.records import Record, encode_event


class ReplayDigest:
    def __init__(self, model_digest: str, config_json: bytes, runtime: str) -> None:
        self._hash = hashlib.sha256()
        self._encoder = msgspec.msgpack.Encoder(order="deterministic")
        for part in (b"outrider-replay-1", model_digest.encode(), config_json, runtime.encode()):
            self._add(part)

    def seen(self, seen: Seen) -> None:
        self._add(self._encoder.encode((seen.frame_id, seen.t_ns, seen.fingerprint, seen.tracks)))

    def record(self, record: Record) -> None:
        self._add(self._encoder.encode((int(record.lane), int(record.purpose), record.captured_ns)))
        self._add(encode_event(record.event))

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def _add(self, part: bytes) -> None:
        self._hash.update(len(part).to_bytes(8, "little"))
        self._hash.update(part)
