"""The worker's process: what it may take, and from when on it can do no harm."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from ecu.channel import Channel, pair
from ecu.spawn import spawn
from inference.admission import admit
from inference.messages import FromWorker, WorkerFault, WorkerReady
from inference.package import find_package
from tests.inference.tiny import CONTRACT, graph, write_package

T = TypeVar("T")
SIDE = 100_000  # a square of so many floats is 40 GB


def greedy(model: ModelProto) -> None:
    """Small in the file, plain in every operator, and 40 GB in between."""
    last = model.graph.node.pop()
    column, row = np.zeros((SIDE, 1), np.float32), np.zeros((1, SIDE), np.float32)
    model.graph.initializer.extend([numpy_helper.from_array(column, "col"), numpy_helper.from_array(row, "row")])
    logits = last.input[0]
    model.graph.node.extend(
        [
            helper.make_node("ReduceMean", [logits], ["mean"], name="mean", axes=[0, 1, 2], keepdims=0),
            helper.make_node("Add", ["col", "mean"], ["tall"], name="tall"),
            helper.make_node("Add", ["tall", "row"], ["huge"], name="huge"),
            helper.make_node("ReduceMean", ["huge"], ["average"], name="average", axes=[0, 1], keepdims=0),
            helper.make_node("Sub", ["average", "mean"], ["nothing"], name="nothing"),
            helper.make_node("Add", [logits, "nothing"], ["same"], name="same"),
            helper.make_node("Sigmoid", ["same"], list(last.output), name="last"),
        ]
    )


async def first_word(package: Path, look: Callable[[int], T], threads: int = 2) -> tuple[object, T]:
    """What a worker says once its model is loaded, or isn't; and what a look at its process finds then."""
    ours, theirs = pair()
    with ours, theirs:
        fd = theirs.fileno()
        arguments = ["--package", str(package), "--threads", str(threads), "--channel", str(fd)]
        worker = await spawn("inference.worker", arguments, environment=os.environ, pass_fds=(fd,))
        try:
            ours.settimeout(60)
            message, _ = Channel[FromWorker](ours, FromWorker).receive()
            return message, look(worker.pid)
        finally:
            worker.kill()
            await worker.wait()


def namespaces_of(pid: int) -> set[str]:
    return {os.readlink(f"/proc/{pid}/task/{thread}/ns/net") for thread in os.listdir(f"/proc/{pid}/task")}


def address_space_of(pid: int) -> tuple[int, int]:
    return resource.prlimit(pid, resource.RLIMIT_AS)


async def test_a_small_graph_with_a_huge_intermediate_is_refused_by_the_workers_memory_limit(tmp_path: Path) -> None:
    hostile = graph(greedy)
    admit(hostile, CONTRACT)
    package = write_package(tmp_path / "tiny-1.0", models={"huge": hostile}, meant={"huge": graph()})
    message, _ = await first_word(package, lambda pid: None)
    assert isinstance(message, WorkerFault)
    assert "No variant" in message.reason


async def test_no_thread_of_a_worker_has_a_network() -> None:
    message, namespaces = await first_word(find_package("drive-detect@1.0"), namespaces_of)
    assert isinstance(message, WorkerReady)
    if os.getuid() != 0:
        pytest.skip("a namespace of its own needs CAP_SYS_ADMIN; the filter of system calls holds all the same")
    assert len(namespaces) == 1
    assert os.readlink("/proc/self/ns/net") not in namespaces


async def test_a_worker_that_is_ready_has_an_address_space_of_2_gib(tmp_path: Path) -> None:
    message, limits = await first_word(write_package(tmp_path / "tiny-1.0"), address_space_of)
    assert isinstance(message, WorkerReady)
    assert limits == (2 << 30, 2 << 30)
