"""A child for the process tests: `python -m tests.ecu.child ACT [ARGUMENT]`; answers on standard output as JSON."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ecu import process
from ecu.spawn import spawn


def say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


def wait(_: str) -> None:
    """Says its number and waits to be killed."""
    say(os.getpid())
    signal.pause()


def parent(_: str) -> None:
    """Starts a child that waits, says that child's number, and waits itself."""

    async def start() -> None:
        child = await spawn("tests.ecu.child", ["wait"], environment=os.environ, stdout=asyncio.subprocess.PIPE)
        assert child.stdout is not None
        say(int(await child.stdout.readline()))
        await asyncio.sleep(3600)

    asyncio.run(start())


def look(_: str) -> None:
    """Says how it was started."""
    say(
        {
            "core": resource.getrlimit(resource.RLIMIT_CORE),
            "dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
            "session": os.getsid(0) == os.getpid(),
            "fds": [fd for fd in range(3, 1024) if Path(f"/proc/self/fd/{fd}").exists()],
            "colour": os.environ.get("COLOUR"),
            "home": os.environ.get("HOME"),
        }
    )


def echo(fd: str) -> None:
    """Sends back what comes on an inherited socket."""
    with socket.socket(fileno=int(fd)) as end:
        end.send(end.recv(100).upper())


def tried(act: Callable[[], object]) -> str:
    try:
        act()
    except OSError as error:
        return error.strerror or "?"
    return "done"


def hardened(argument: str) -> None:
    """Hardens itself as the argument says and then tries what a broken-in worker would."""
    options: dict[str, Any] = json.loads(argument)
    scratch = Path(options.pop("scratch"))
    (scratch / "here").write_bytes(b"old")
    if (files := options.pop("open_files_before", None)) is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    steps = process.harden(process.Limits(**options))
    say(
        {
            "steps": {step.name: step.granted for step in steps},
            "why": [step.why for step in steps if not step.granted],
            "socket": tried(lambda: socket.socket().close()),
            "udp6": tried(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()),
            "netlink": tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()),
            "socketpair": tried(socket.socketpair),
            "execve": tried(lambda: os.execv("/nowhere", ["nowhere"])),
            "read": tried((scratch / "here").read_bytes),
            "write": tried(lambda: (scratch / "here").write_bytes(b"new")),
            "make": tried((scratch / "new").touch),
            "remove": tried((scratch / "here").unlink),
            "rename": tried(lambda: (scratch / "here").rename(scratch / "there")),
            "no_new_privs": "NoNewPrivs:\t1" in Path("/proc/self/status").read_text(),
            "seccomp": "Seccomp:\t2" in Path("/proc/self/status").read_text(),
            "files": resource.getrlimit(resource.RLIMIT_NOFILE),
            "memory": resource.getrlimit(resource.RLIMIT_AS)[0],
            "nice": os.getpriority(os.PRIO_PROCESS, 0),
            "interfaces": sorted(line.split(":")[0].strip() for line in interfaces()),
        }
    )


def interfaces() -> list[str]:
    return Path("/proc/self/net/dev").read_text().splitlines()[2:]


def infer(model: str) -> None:
    """Runs a model behind the filter, with sessions made before and after, and threads."""
    import cv2
    import numpy as np

    from inference.runtime import ort

    def run(session: Any) -> list[float]:
        answers: list[Any] = session.run(None, {"x": np.arange(12, dtype=np.float32).reshape(3, 4)})
        return [float(value) for value in answers[0].ravel()]

    before = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    steps = process.harden(process.Limits())
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    after = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    image = cv2.resize(np.full((40, 40, 3), 7, np.uint8), (20, 20))
    decoded = cv2.imdecode(cv2.imencode(".png", image)[1], cv2.IMREAD_COLOR)
    assert decoded is not None
    say(
        {
            "filtered": [step.granted for step in steps if step.name == "system_calls"],
            "before": run(before),
            "after": run(after),
            "image": decoded.shape,
            "matmul": float((np.ones((300, 300)) @ np.ones((300, 300))).sum()),
        }
    )


ACTS: dict[str, Callable[[str], None]] = {
    "wait": wait, "parent": parent, "look": look, "echo": echo, "hardened": hardened, "infer": infer,
}  # fmt: skip


if __name__ == "__main__":
    process.enter_child()
    ACTS[sys.argv[1]](sys.argv[2] if len(sys.argv) > 2 else "")
