"""A launcher and real runtimes: whatever a release does, what was good before runs again.

Mutants of ota/launcher.py that these tests were seen to catch: a manifest's or a file's hash not looked at; only the
first process ended; anybody heard; no parent-death signal; a damaged trial not used up; no limit of a file's size.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ota.attempts import Boot, verdict
from ota.launcher import damage
from ota.machine import Event
from tests.ota.launcher.garage import WITHIN_S, Garage, Started, a_garage, note_starts

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); notify('READY=1'); say('deaf')"


@pytest.fixture
def garage(tmp_path: Path) -> Iterator[Garage]:
    with a_garage(tmp_path) as garage:
        yield garage


def ready(started: Started) -> Started:
    started.do("notify('READY=1'); say('ready')")
    assert started.says() == "ready"
    return started


# --- what a release may do wrong -------------------------------------------------------------------


def fork_wildly(started: Started) -> None:
    started.do("notify('READY=1'); [os.fork() for _ in range(6)]; import signal; signal.pause()")


def fill_a_file(started: Started) -> None:
    started.do("os.ftruncate(os.open(os.environ['TMPDIR'] + '/big', os.O_CREAT | os.O_RDWR), 1 << 31)")


def hang(started: Started) -> None:
    """It never says that it is ready."""


WRONGS: dict[str, tuple[tuple[Callable[[Started], object], str], ...]] = {
    "ends": (
        (lambda started: started.do("sys.exit(0)"), "exit 0"),
        (lambda started: ready(started).do("sys.exit(0)"), "exit 0"),
        (lambda started: started.do("os.kill(os.getpid(), 9)"), "signal 9"),
    ),
    "hangs": ((hang, "not ready"), (ready, "watchdog"), (hang, "not ready")),
    "takes too much, or begs": (
        (fork_wildly, "too many processes"),
        (fill_a_file, "exit 1"),
        (lambda started: ready(started).do("sys.exit(75)"), "exit 75"),
    ),
}


@pytest.mark.parametrize("wrong", WRONGS)
def test_whatever_a_release_does_wrong_it_is_tried_three_times_and_what_was_good_runs_on(
    tmp_path: Path, wrong: str
) -> None:
    within_s = "0.5" if wrong == "hangs" else "20"
    with a_garage(tmp_path, "--processes", "40", "--ready-s", within_s, "--progress-s", within_s) as garage:
        garage.install("a")
        garage.install("b")
        garage.write(good="a", trial="b", state="armed")
        garage.launch()
        for attempt, (act, _) in enumerate(WRONGS[wrong], 1):
            tried = garage.next()
            assert (tried.slot, tried.trial) == ("b", str(attempt))
            assert garage.record()["attempts"] == attempt
            act(tried)
            tried.gone()
        good = garage.next()
        assert (good.slot, good.trial, good.rescue) == ("a", "", "")
        assert garage.ends() == [how for _, how in WRONGS[wrong]]
        assert (garage.record()["good"], garage.record()["state"]) == ("a", "trial")
        assert verdict([Boot(**boot) for boot in garage.record()["boots"]])[0] is Event.UNFIT


@pytest.mark.parametrize("source", ["import nothing_there", "", "\0"])
def test_a_release_that_ends_as_it_is_imported_is_given_up(garage: Garage, source: str) -> None:
    garage.install("b", source)
    garage.arm()
    garage.launch()
    assert garage.next().slot == "factory"
    assert garage.ends() == (["exit 1"] * 3 if source else ["exit 0"] * 3)


def test_one_that_ignores_that_it_should_end_is_killed_and_it_is_its_fault(tmp_path: Path) -> None:
    with a_garage(tmp_path, "--stop-s", "0.1") as garage:
        garage.install("b")
        garage.arm()
        garage.launch()
        tried = garage.next()
        tried.do(STUBBORN)
        tried.says()
        garage.end()
        assert garage.ends() == ["ignored SIGTERM"]


def test_one_that_fills_the_disk_is_ended_and_leaves_the_room_that_its_scratch_took(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system can't be mounted here")
    fill = "file = open(os.environ['TMPDIR'] + '/full', 'wb'); [file.write(b'x' * 65536) for _ in range(400)]"
    try:
        with a_garage(tmp_path) as garage:
            garage.install("b")
            garage.arm()
            garage.launch()
            for _ in range(3):
                tried = garage.next()
                tried.do(fill)
                tried.gone()
            ready(garage.next())
            assert set(garage.ends()) <= {"disk full", "exit 1"}  # whoever notices first
            assert os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize > 22 << 20
            garage.end()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


# --- trials that go well, or are cut ---------------------------------------------------------------


def test_a_release_that_keeps_itself_is_what_starts_from_then_on(garage: Garage) -> None:
    garage.install("b")
    garage.arm()
    garage.launch()
    tried = ready(garage.next())
    garage.write(good="b", state="committed")
    tried.do("sys.exit(75)")
    again = garage.next()
    assert (again.slot, again.trial) == ("b", "")
    assert again.folder == garage.home / "b" / "files"
    assert "boots" not in garage.record()
    garage.end()


def test_a_drive_that_ends_within_a_trial_proves_nothing(garage: Garage) -> None:
    garage.install("b")
    stopped = {"boot_id": "before", "ended": "stopped"}
    garage.write(trial="b", state="trial", attempts=2, boots=[stopped, stopped])
    garage.launch()
    assert ready(garage.next()).trial == "3"
    garage.end()
    assert garage.ends() == ["stopped"] * 3
    assert verdict([Boot(**boot) for boot in garage.record()["boots"]])[0] is Event.EXHAUSTED
    garage.launch()
    assert garage.next().slot == "factory"


def test_a_launcher_that_is_killed_takes_its_runtime_with_it_and_refunds_no_attempt(garage: Garage) -> None:
    garage.install("b")
    garage.write(trial="b", state="trial", attempts=1, boots=[{"boot_id": "before", "ended": ""}])
    for attempt in "23":
        garage.launch()
        tried = garage.next()
        assert tried.trial == attempt
        garage.launchers[-1].kill()
        tried.gone()
    garage.launch()
    assert garage.next().slot == "factory"
    assert garage.ends() == ["", "", ""]


def test_a_release_whose_bytes_changed_is_never_run_and_it_is_not_its_fault(garage: Garage) -> None:
    garage.install("b")
    (garage.home / "b" / "files" / "runtime.py").write_text("raise SystemExit(1)")
    garage.arm()
    garage.launch()
    assert garage.next().slot == "factory"
    assert (garage.ends(), garage.record()["attempts"]) == (["damaged"], 3)
    assert verdict([Boot(**boot) for boot in garage.record()["boots"]])[0] is Event.EXHAUSTED


def test_a_trial_has_a_scratch_folder_that_nothing_of_is_left(garage: Garage) -> None:
    garage.install("b")
    garage.arm()
    garage.launch()
    tried = garage.next()
    tried.do("os.mkdir(os.environ['TMPDIR'] + '/left'); say(os.environ['TMPDIR'])")
    assert tried.says() == str(garage.home / "scratch")
    garage.end()
    assert not (garage.home / "scratch").exists()


# --- what is good ----------------------------------------------------------------------------------


def test_without_any_record_what_was_shipped_runs_and_ends_in_order(garage: Garage) -> None:
    launcher = garage.launch()
    started = ready(garage.next())
    assert (started.slot, started.trial, started.rescue) == ("factory", "", "")
    garage.end()
    assert launcher.returncode == 0


def test_a_good_slot_that_is_damaged_gives_way_to_what_was_good_before(garage: Garage) -> None:
    garage.install("a")
    garage.install("b", **{"lib/deep.py": "1"})
    garage.write(good="b")
    (garage.home / "b" / "files" / "lib/deep.py").write_text("2")
    garage.launch()
    assert ready(garage.next()).slot == "a"
    assert "slot b isn't started: lib/deep.py isn't as it was" in garage.end()


@pytest.mark.parametrize(
    "spoil", ["change", "add", "remove", "link", "linked folder", "pipe", "manifest", "cut", "none", "another"]
)
def test_whatever_is_spoiled_in_a_slot_is_seen(garage: Garage, spoil: str) -> None:
    digest = garage.install("b", **{"lib/deep.py": "1"})
    slot, files = garage.home / "b", garage.home / "b" / "files"
    assert not damage(slot, digest)
    match spoil:
        case "change":
            (files / "lib/deep.py").write_text("2")
        case "add":
            (files / "json.py").write_text("import evil")
        case "remove":
            (files / "lib/deep.py").unlink()
        case "link":
            (files / "lib/deep.py").rename(slot / "deep.py")
            (files / "lib/deep.py").symlink_to(slot / "deep.py")
        case "linked folder":
            (files / "lib").rename(slot / "lib")
            (files / "lib").symlink_to(slot / "lib")
        case "pipe":
            (files / "lib/deep.py").unlink()
            os.mkfifo(files / "lib/deep.py")
        case "manifest":
            (slot / "bundle.json").write_text("{}")
        case "cut":
            (slot / "bundle.json").unlink()
        case "none":
            shutil.rmtree(slot)
        case "another":
            garage.install("b", "whole in itself", **{"lib/deep.py": "1"})
    assert damage(slot, digest)


def test_a_manifest_that_says_nonsense_is_damage_and_no_crash(garage: Garage) -> None:
    garage.install("b")
    for nonsense in (
        b"[]",
        b"{",
        b'{"files": 3}',
        b'{"files": [{}]}',
        b'{"files": [7]}',
        b"\xff",
        b'{"files": [{"path": []}]}',
    ):
        (garage.home / "b" / "bundle.json").write_bytes(nonsense)
        assert damage(garage.home / "b", hashlib.sha256(nonsense).hexdigest())


def test_what_may_not_run_any_more_is_started_to_be_updated(garage: Garage) -> None:
    garage.install("a")
    garage.write(good="a", bootable_from=2)
    garage.launch()
    assert "lets none below 2 run" in ready(garage.next()).rescue


def test_what_a_release_leaves_in_its_users_home_is_run_by_no_other(garage: Garage) -> None:
    garage.install("a")
    garage.write(trial="a", state="armed")
    garage.launch()
    for slot in ("a", "a", "a", "factory"):
        started = ready(garage.next())
        started.do("say(os.environ.get('PYTHONNOUSERSITE'))")
        assert (started.slot, started.says()) == (slot, "1")
        started.do("sys.exit(1)")


def test_where_both_records_are_damaged_what_was_shipped_runs(garage: Garage) -> None:
    garage.install("a")
    garage.write(good="a")
    for twin in "01":
        (garage.home / f"boot.{twin}").write_bytes(b"\0" * 4096)
    garage.launch()
    assert ready(garage.next()).slot == "factory"


def test_the_third_crash_starts_rescue_mode_and_a_crash_there_what_was_good_before(garage: Garage) -> None:
    garage.install("a")
    garage.install("b")
    garage.write(good="b")
    garage.launch()
    for _ in range(3):
        started = ready(garage.next())
        assert (started.slot, started.rescue) == ("b", "")
        started.do("sys.exit(9)")
    for slot in ("b", "a", "factory"):
        started = garage.next()
        assert started.slot == slot
        assert started.rescue == "it ended 3 times within ten minutes: exit 9, exit 9, exit 9"
        started.do("sys.exit(1)")
    assert ready(garage.next()).rescue
    garage.end()
    garage.launch()
    assert not garage.next().rescue, "who stops rescue mode in order has what is good tried anew"


def test_crashes_are_counted_over_a_launcher_that_is_killed(garage: Garage) -> None:
    note_starts(garage.home, "factory", "", times=2)
    garage.launch()
    started = garage.next()
    assert not started.rescue
    garage.launchers[-1].kill()
    started.gone()
    garage.launch()
    assert garage.next().rescue == "it ended 3 times within ten minutes: cut, cut, cut"


def test_one_that_asks_to_be_started_again_has_not_crashed(garage: Garage) -> None:
    note_starts(garage.home, "factory", "exit 1", times=2)
    garage.launch()
    ready(garage.next()).do("sys.exit(75)")
    assert not ready(garage.next()).rescue
    garage.end()


def test_nothing_that_a_runtime_started_outlives_it(garage: Garage) -> None:
    garage.launch()
    started = ready(garage.next())
    started.do("[os.fork() or os.setsid() for _ in range(3)]; say(os.getpid()); import signal; signal.pause()")
    pids = {started.says() for _ in range(8)}
    os.kill(started.pid, signal.SIGKILL)
    ready(garage.next())
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


# --- what systemd hears ----------------------------------------------------------------------------


def test_systemd_hears_the_runtime_through_its_launcher_and_nobody_else(garage: Garage, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(WITHIN_S)
        garage.launch(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="1000000")
        started = ready(garage.next())
        heard = [systemd.recv(100)]
        while heard[-1] != b"READY=1":
            heard.append(systemd.recv(100))
        assert set(heard[:-1]) <= {b"WATCHDOG=1"}, "the launcher's own, until it is ready"
        started.do("notify('WATCHDOG=1')")
        assert systemd.recv(100) == b"WATCHDOG=1"
        forge = "pid or (notify('WATCHDOG=1'), os._exit(0))"
        started.do(f"pid = os.fork(); {forge}; os.waitpid(pid, 0); say('forged')")
        assert started.says() == "forged"
        garage.end()
        assert systemd.recv(100) == b"STOPPING=1"


def test_two_launchers_never_run_one_state(garage: Garage) -> None:
    garage.launch()
    ready(garage.next())
    assert garage.launch().wait(WITHIN_S) == 3
    garage.launchers.pop().communicate()
    garage.end()
