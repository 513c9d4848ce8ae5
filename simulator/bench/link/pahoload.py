"""What paho's client alone can put on a peer: `python -m simulator.bench.link.pahoload`, a `Load` in, a rate out.

No code of ours between the publishes: one thread calls `publish`, paho's own thread does the rest.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho

from simulator.bench.link.blocks import make_blocks
from simulator.bench.link.fleet import vehicle_in
from simulator.bench.link.load import LANE, TIMEOUT_S, Load, LoadFailed
from telemetry.links.pahoclient import CALLBACKS
from telemetry.wire import up_topic


def paho_rate(load: Load) -> float:
    """Acknowledged messages a second of the load's first vehicle. Raises LoadFailed."""
    command = [sys.executable, "-m", "simulator.bench.link.pahoload"]
    done = subprocess.run(command, input=msgspec.json.encode(load), capture_output=True)
    if done.returncode != 0:
        raise LoadFailed(done.stderr.decode().strip().rpartition("\n")[2])
    return float(done.stdout)


def main(load: Load) -> float:
    paired, context = vehicle_in(Path(load.vehicles[0]))
    blocks, topic = make_blocks(load.kind, load.messages, load.first_seq), up_topic(paired.vehicle, LANE)
    connected, done, acked = threading.Event(), threading.Event(), [0]

    def on_publish(*told: Any) -> None:
        acked[0] += 1
        if acked[0] == load.messages:
            done.set()

    version = [CALLBACKS.VERSION2] if CALLBACKS else []
    client = paho.Client(*version, client_id=paired.vehicle, protocol=paho.MQTTv5)
    client.tls_set_context(context)
    client.max_inflight_messages_set(load.window)
    client.on_connect = lambda *told: connected.set()
    client.on_publish = on_publish
    client.connect(paired.host, load.port)
    client.loop_start()
    if not connected.wait(TIMEOUT_S):
        raise LoadFailed("no connection")
    began_ns = time.monotonic_ns()
    for block in blocks:
        client.publish(topic, block, qos=1)
    if not done.wait(TIMEOUT_S):
        raise LoadFailed(f"{acked[0]} of {load.messages} were acknowledged within {TIMEOUT_S:g} s")
    rate = load.messages / ((time.monotonic_ns() - began_ns) / 1e9)
    client.disconnect()
    client.loop_stop()
    return rate


if __name__ == "__main__":
    print(main(msgspec.json.decode(sys.stdin.buffer.read(), type=Load)))
