"""Children die with their parent, start with nothing they weren't given, and can't do what a worker never needs."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ecu
from ecu import process
from ecu.seccomp import AUDIT_ARCH
from ecu.spawn import spawn

ROOT = Path(ecu.__file__).parent.parent
CHILD = "tests.ecu.child"
# `python -m` finds the packages in the current folder.
ENVIRONMENT = {"PATH": "/usr/bin", "PYTHONPATH": str(ROOT)}


async def start(*arguments: str, **options: Any) -> asyncio.subprocess.Process:
    options.setdefault("environment", ENVIRONMENT)
    return await spawn(CHILD, arguments, stdout=asyncio.subprocess.PIPE, **options)


async def answer(child: asyncio.subprocess.Process) -> Any:
    assert child.stdout is not None
    line = await child.stdout.readline()
    assert line, "the child said nothing"
    return json.loads(line)


async def ask(*arguments: str, **options: Any) -> Any:
    child = await start(*arguments, **options)
    said = await answer(child)
    assert await child.wait() == 0
    return said


async def gone(pid: int) -> None:
    """Awaits the end of a process that isn't our child."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(fd, ended.set)
    try:
        await asyncio.wait_for(ended.wait(), 20)
    finally:
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)


async def test_a_child_dies_when_its_parent_is_killed() -> None:
    middle = await start("parent")
    grandchild = await answer(middle)
    middle.kill()
    await middle.wait()
    await gone(grandchild)


async def test_a_child_whose_parent_is_already_gone_ends_at_once() -> None:
    # Its parent is this process, not number 1.
    orphan = await asyncio.create_subprocess_exec(
        sys.executable, "-m", CHILD, "wait", env=ENVIRONMENT | {process.PARENT_VARIABLE: "1"}, stdout=subprocess.PIPE
    )
    said, _ = await orphan.communicate()
    assert (said, orphan.returncode) == (b"", 0)


async def test_a_child_started_by_hand_follows_nobody() -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", CHILD, "wait", env=ENVIRONMENT, stdout=subprocess.PIPE
    )
    assert await answer(child) == child.pid
    child.send_signal(signal.SIGTERM)
    assert await child.wait() == -signal.SIGTERM


async def test_a_child_has_what_it_was_given_and_nothing_else() -> None:
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    try:
        said = await ask("look", environment=ENVIRONMENT | {"COLOUR": "red"}, pass_fds=[writer])
    finally:
        os.close(reader)
        os.close(writer)
    assert said.pop("fds") == [writer]
    assert said == {"core": [0, 0], "dumpable": 0, "session": True, "colour": "red", "home": None}


async def test_a_passed_descriptor_keeps_its_number() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = await start("echo", str(theirs.fileno()), pass_fds=[theirs.fileno()])
        ours.send(b"hello")
        assert await child.wait() == 0
        assert ours.recv(100) == b"HELLO"


async def test_only_the_main_thread_may_start_children() -> None:
    def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="main thread"):
            asyncio.run(start("wait"))

    await asyncio.to_thread(elsewhere)


async def harden(tmp_path: Path, **limits: Any) -> Any:
    return await ask("hardened", json.dumps({"scratch": str(tmp_path), **limits}))


NO = "Operation not permitted"
needs_filter = pytest.mark.skipif(platform.machine() not in AUDIT_ARCH, reason="no filter is known for this machine")


@needs_filter
async def test_a_hardened_worker_reaches_no_network_no_program_and_no_file(tmp_path: Path) -> None:
    said = await harden(tmp_path)
    forbidden = ("socket", "udp6", "netlink", "execve", "write", "make", "remove", "rename")
    assert {name: said[name] for name in forbidden} == dict.fromkeys(forbidden, NO)
    assert (said["read"], said["socketpair"]) == ("done", "done")
    assert said["no_new_privs"]
    assert said["seccomp"]
    assert said["steps"]["system_calls"]
    assert said["files"] == [256, 256]
    assert (tmp_path / "here").read_bytes() == b"old"


@needs_filter
async def test_file_changes_can_be_left_allowed(tmp_path: Path) -> None:
    said = await harden(tmp_path, file_changes=True)
    assert (said["write"], said["make"], said["remove"]) == ("done", "done", "done")
    assert (said["socket"], said["execve"]) == (NO, NO)


async def test_without_the_filter_nothing_of_it_applies(tmp_path: Path) -> None:
    said = await harden(tmp_path, system_calls=False, own_network=False)
    assert (said["socket"], said["execve"]) == ("done", "No such file or directory")
    assert (said["write"], said["seccomp"]) == ("done", False)
    assert set(said["steps"]) == {"no_new_privs", "open_files"}


async def test_limits_are_set_and_what_is_denied_is_reported(tmp_path: Path) -> None:
    said = await harden(
        tmp_path, open_files=99, address_space_bytes=8 << 30, nice=7, realtime_priority=1000, system_calls=False
    )
    assert (said["files"], said["memory"], said["nice"]) == ([99, 99], 8 << 30, 7)
    assert said["steps"]["realtime_priority"] is False
    assert "Invalid argument" in said["why"]


async def test_a_limit_that_is_lower_already_stays(tmp_path: Path) -> None:
    said = await harden(tmp_path, open_files_before=64, open_files=99, system_calls=False, own_network=False)
    assert said["files"] == [64, 64]
    assert said["steps"]["open_files"]


async def test_an_own_network_is_empty_or_reported_as_denied(tmp_path: Path) -> None:
    said = await harden(tmp_path, system_calls=False)
    assert (said["interfaces"] == ["lo"]) or (not said["steps"]["own_network"] and NO in said["why"])


@needs_filter
async def test_a_model_runs_behind_the_filter(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the build extra makes the model")
    from onnx import TensorProto, helper, save

    shape = [3, 4]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [x], [y])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(tmp_path / "m.onnx"))
    said = await ask("infer", str(tmp_path / "m.onnx"))
    assert said["filtered"] == [True]
    assert said["before"] == said["after"] == [2.0 * i for i in range(12)]
    assert (said["image"], said["matmul"]) == ([20, 20, 3], 300.0**3)


def test_a_frozen_heap_is_never_collected() -> None:
    try:
        process.freeze_heap()
        assert not gc.isenabled()
        assert gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()
        gc.enable()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        name = str(tmp_path / "notify") if request.param == "path" else f"@outrider-test-{os.getpid()}-{id(request)}"
        end.bind("\0" + name[1:] if name.startswith("@") else name)
        end.settimeout(10)
        yield end, name


def test_systemd_hears_the_state(systemd: tuple[socket.socket, str]) -> None:
    end, name = systemd
    assert process.notify("READY=1\nSTATUS=driving", {"NOTIFY_SOCKET": name})
    assert end.recv(100) == b"READY=1\nSTATUS=driving"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere"}])
def test_without_systemd_nobody_is_told_and_nothing_breaks(environment: dict[str, str]) -> None:
    assert not process.notify("READY=1", environment)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3_000_000),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3_000_000),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_when_systemd_asks_this_process(environment: dict[str, str], expected: int | None) -> None:
    assert process.watchdog_us(environment) == expected


def test_the_test_itself_runs_where_children_may_be_started() -> None:
    assert threading.current_thread() is threading.main_thread()
