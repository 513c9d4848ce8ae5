"""The judge's process: what it finds of whole packages, whose fault it says it is, and how it ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from ecu.channel import MAX_MESSAGE_BYTES, Channel, ChannelClosed, pair
from ecu.process import cpu_ns
from ecu.spawn import spawn
from inference.comparison import load_comparison, rules_of
from inference.errors import Party, Unjudgeable
from inference.evaluation import DEFAULT_EVALUATION, EVALUATION_FILE
from inference.floor import GateFloor
from inference.judge import ADDRESS_SPACE_BYTES
from inference.judging import Rules
from inference.messages import FromJudge, JudgedModel, JudgeFault, JudgeProgress, JudgeVerdict
from inference.package import find_package
from inference.verdict import Outcome, Verdict
from tests.inference.labelled import (
    CLIP_FRAMES,
    FRAMES,
    Manifest,
    afraid_of_the_dark,
    half_blind,
    mute,
    slow,
    write_evaluation,
)
from tests.inference.tiny import Change, graph, write_package

LAX = GateFloor(classes=(), objects_at_least=10, margin_at_most=0.2, match_iou_at_least=0.1, cpu_ratio_at_most=10)
"""The set alone decides."""


@pytest.fixture
def live(tmp_path: Path) -> Path:
    return write_package(tmp_path / "live")


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    return write_evaluation(tmp_path / "set")


def candidate(tmp_path: Path, change: Change | None = None) -> Path:
    return write_package(tmp_path / "candidate", {"plain": graph(change)})


def compared(live: Path, candidate: Path, labelled: Path) -> Verdict:
    return load_comparison(live, candidate, labelled, LAX).run(cpu_ns, lambda done, of: None)


@asynccontextmanager
async def judging(
    live: Path, candidate: Path, labelled: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Channel[FromJudge]]]:
    """The process, and what it says."""
    ours, theirs = pair()
    with ours, theirs:
        ours.settimeout(60)
        fd = theirs.fileno()
        arguments = ["--live", live, "--candidate", candidate, "--evaluation", labelled, "--channel", fd]
        arguments += ["--floor", LAX.model_dump_json()]
        judge = await spawn("inference.judge", [str(it) for it in arguments], environment=os.environ, pass_fds=(fd,))
        theirs.close()
        try:
            yield judge, Channel[FromJudge](ours, FromJudge)
        finally:
            if judge.returncode is None:
                judge.kill()
            await judge.wait()


def rest(channel: Channel[FromJudge]) -> list[FromJudge]:
    """All it says until it ends."""
    said = []
    while True:
        try:
            said.append(channel.receive()[0])
        except ChannelClosed:
            return said


async def words(live: Path, candidate: Path, labelled: Path) -> list[FromJudge]:
    async with judging(live, candidate, labelled) as (_, channel):
        return rest(channel)


# --- verdicts ----------------------------------------------------------------------------------------


async def test_it_tells_of_each_frame_and_then_of_its_verdict(tmp_path: Path, live: Path, labelled: Path) -> None:
    *progress, last = await words(live, candidate(tmp_path), labelled)
    assert progress == [JudgeProgress(done, FRAMES) for done in range(1, FRAMES + 1)]
    assert isinstance(last, JudgeVerdict)
    assert (last.live.name, last.live.variant, last.evaluation) == ("tiny", "plain", "tiny@1.0")
    assert last.live.digest == last.candidate.digest
    assert last.verdict.outcome is Outcome.PASSED
    (car,) = last.verdict.classes
    assert car.candidate is not None
    assert (car.candidate.f1, car.low, car.high) == (1.0, 0.0, 0.0)


def test_a_candidate_made_slower_by_work_that_comes_to_nothing_fails_by_its_ratio(
    tmp_path: Path, live: Path, labelled: Path
) -> None:
    verdict = compared(live, candidate(tmp_path, slow), labelled)
    assert (verdict.outcome, verdict.speed.outcome) == (Outcome.FAILED, Outcome.FAILED)
    assert verdict.classes[0].outcome is Outcome.PASSED
    assert verdict.speed.words.startswith("too slow: ")
    assert compared(tmp_path / "candidate", live, labelled).outcome is Outcome.PASSED


@pytest.mark.parametrize(
    ("change", "why"), [(mute, "the candidate finds none"), (half_blind, "worse by more than 0.1")]
)
def test_a_candidate_that_sees_less_fails(tmp_path: Path, live: Path, labelled: Path, change: Change, why: str) -> None:
    (car,) = compared(live, candidate(tmp_path, change), labelled).classes
    assert (car.outcome, why in car.words) == (Outcome.FAILED, True)


def test_a_candidate_that_sees_what_the_live_one_doesnt_passes(tmp_path: Path, live: Path, labelled: Path) -> None:
    assert compared(candidate(tmp_path, half_blind), live, labelled).outcome is Outcome.PASSED


def test_each_model_is_used_at_its_own_score_threshold(tmp_path: Path, live: Path, labelled: Path) -> None:
    def demand_more(manifest: Manifest) -> None:
        manifest["thresholds"]["score"] = 0.99

    strict = write_package(tmp_path / "strict", change=demand_more)
    (car,) = compared(live, strict, labelled).classes
    assert car.candidate is not None
    assert (car.candidate.found, car.outcome) == (0, Outcome.FAILED)


def calling_cars(*classes: str) -> Callable[[Manifest], None]:
    """The package's model by other names: the first is what it calls a car."""

    def change(manifest: Manifest) -> None:
        names = dict(zip(manifest["classes"], classes, strict=True))
        manifest["classes"] = list(classes)
        for seen in (seen for variant in manifest["variants"] for canvas in variant["golden"] for seen in canvas):
            seen["label"] = names[seen["label"]]

    return change


def test_a_car_that_is_taken_for_a_truck_is_missed(tmp_path: Path, live: Path, labelled: Path) -> None:
    confused = write_package(tmp_path / "confused", change=calling_cars("truck", "car"))
    (car,) = compared(live, confused, labelled).classes
    assert car.candidate is not None
    assert (car.candidate.found, car.candidate.false, car.candidate.missed) == (0, 0, car.objects)
    assert car.outcome is Outcome.FAILED


def test_a_class_that_one_model_doesnt_know_is_one_of_which_it_finds_none(
    tmp_path: Path, live: Path, labelled: Path
) -> None:
    without = write_package(tmp_path / "without", change=calling_cars("van", "truck"))
    (car,) = compared(without, live, labelled).classes
    assert (car.live, car.outcome) == (None, Outcome.PASSED)
    assert car.low > 0.5
    (car,) = compared(live, without, labelled).classes
    assert (car.candidate, car.outcome) == (None, Outcome.FAILED)


def test_objects_of_another_class_arent_judged(tmp_path: Path, live: Path) -> None:
    def say_truck(manifest: Manifest) -> None:
        for frame in manifest["frames"][::2]:
            for seen in frame["objects"]:
                seen["label"] = "truck"
        counted = sum(seen["label"] == "car" for frame in manifest["frames"] for seen in frame["objects"])
        manifest["classes"][0] |= {"objects": counted}
        manifest["min_objects"] = 10

    (car,) = compared(live, live, write_evaluation(tmp_path / "set", say_truck)).classes
    assert car.live is not None
    assert (car.live.found, car.live.missed) == (car.objects, 0)
    assert car.live.false > 0


def test_the_set_says_by_which_rules_it_judges(tmp_path: Path, live: Path) -> None:
    def demand_more(manifest: Manifest) -> None:
        manifest |= {"match_iou": 0.9, "min_objects": 31, "margin": 0.1, "cpu_ratio_at_most": 1.5}
        for frame in manifest["frames"]:
            for seen in frame["objects"]:
                # Half of a box overlaps the whole by less than 0.9.
                x1, y1, x2, y2 = seen["box"]
                seen["box"] = [x1, y1, x2, (y1 + y2) / 2]

    comparison = load_comparison(live, live, write_evaluation(tmp_path / "set", demand_more), LAX)
    rules = rules_of(comparison.evaluation.manifest, LAX)
    assert rules == Rules(("car",), rules.clips, min_objects=31, margin=0.1, cpu_ratio_at_most=1.5)
    assert rules.clips == ("first",) * CLIP_FRAMES + ("second",) * CLIP_FRAMES
    (car,) = comparison.run(cpu_ns, lambda done, of: None).classes
    assert car.live is not None
    assert car.live.found == 0


def test_a_set_that_calls_any_overlap_found_is_held_to_the_vehicles_own(tmp_path: Path, live: Path) -> None:
    def halve(manifest: Manifest) -> None:
        manifest["match_iou"] = 0.1
        for frame in manifest["frames"]:
            for seen in frame["objects"]:
                x1, y1, x2, y2 = seen["box"]
                seen["box"] = [x1, y1, x2, (y1 + y2) / 2]

    lax = write_evaluation(tmp_path / "set", halve)
    strict = LAX.model_copy(update={"match_iou_at_least": 0.9})
    found = []
    for floor in (LAX, strict):
        (car,) = load_comparison(live, live, lax, floor).run(cpu_ns, lambda done, of: None).classes
        assert car.live is not None
        found.append(car.live.found)
    assert found[0] > found[1] == 0


def test_ignoring_every_frame_excuses_false_detections_alone(tmp_path: Path, live: Path) -> None:
    def forget(manifest: Manifest) -> None:
        """Half of the objects are no longer labelled: who sees them sees falsely."""
        for frame in manifest["frames"]:
            frame["objects"] = frame["objects"][::2]
        manifest["classes"][0]["objects"] = sum(len(frame["objects"]) for frame in manifest["frames"])

    def forgive(manifest: Manifest) -> None:
        forget(manifest)
        for frame in manifest["frames"]:
            frame["ignore"] = [[0, 0, manifest["width"], manifest["height"]]]

    scores = [
        compared(live, live, write_evaluation(tmp_path / it.__name__, it)).classes[0].live for it in (forget, forgive)
    ]
    assert scores[0] is not None
    assert scores[1] is not None
    assert scores[0].false > 0 == scores[1].false
    assert scores[0].found == scores[1].found


async def test_nothing_but_the_cpu_times_differs_from_run_to_run(tmp_path: Path, live: Path, labelled: Path) -> None:
    half = candidate(tmp_path, half_blind)
    lasts = [(await words(live, half, labelled))[-1] for _ in range(2)]
    assert all(isinstance(last, JudgeVerdict) for last in lasts)
    first, second = (last.verdict for last in lasts if isinstance(last, JudgeVerdict))
    assert first.classes == second.classes
    assert first.speed != second.speed


def test_the_ratio_is_of_the_clocks_own_time_whoever_looks_first(tmp_path: Path, live: Path, labelled: Path) -> None:
    class FirstPaysMore:
        """Asked before and after each model's turn, two turns a frame."""

        def __init__(self) -> None:
            self.now_ns = 0
            self.asked = 0

        def __call__(self) -> int:
            self.asked += 1
            self.now_ns += (0, 3_000, 0, 1_000)[(self.asked - 1) % 4]
            return self.now_ns

    comparison = load_comparison(live, candidate(tmp_path), labelled, LAX)
    speed = comparison.run(FirstPaysMore(), lambda done, of: None).speed
    assert [speed.low, speed.ratio, speed.high] == pytest.approx([1 / 3, 5 / 3, 3.0])


# --- faults ------------------------------------------------------------------------------------------


async def fault(live: Path, candidate: Path, labelled: Path) -> JudgeFault:
    last = (await words(live, candidate, labelled))[-1]
    assert isinstance(last, JudgeFault)
    return last


async def test_a_flipped_byte_in_a_frame_is_the_sets_fault(tmp_path: Path, live: Path, labelled: Path) -> None:
    picture = bytearray((labelled / "007.jpg").read_bytes())
    picture[-9] ^= 1
    (labelled / "007.jpg").write_bytes(picture)
    said = await fault(live, candidate(tmp_path), labelled)
    assert said.party is Party.EVALUATION
    assert "007.jpg" in said.reason


async def test_a_hostile_set_is_the_sets_fault(tmp_path: Path, live: Path, labelled: Path) -> None:
    (labelled / EVALUATION_FILE).write_text("[" * 200_000)
    assert (await fault(live, candidate(tmp_path), labelled)).party is Party.EVALUATION


@pytest.mark.parametrize("party", [Party.LIVE, Party.CANDIDATE])
async def test_a_model_whose_golden_vectors_dont_hold_is_at_fault_itself(
    tmp_path: Path, live: Path, labelled: Path, party: Party
) -> None:
    wrong = write_package(tmp_path / "wrong", {"plain": graph(gain=0.5)}, meant={"plain": graph()})
    said = await (fault(live, wrong, labelled) if party is Party.CANDIDATE else fault(wrong, live, labelled))
    assert said.party is party
    assert "No variant of tiny@1.0 runs right" in said.reason


@pytest.mark.parametrize("party", [Party.LIVE, Party.CANDIDATE])
async def test_a_model_of_another_task_is_at_fault_itself(live: Path, labelled: Path, party: Party) -> None:
    faces = find_package("face-blur@1.0")
    said = await (fault(live, faces, labelled) if party is Party.CANDIDATE else fault(faces, live, labelled))
    assert said.party is party
    assert "is for the task faces" in said.reason


@pytest.mark.parametrize("party", [Party.LIVE, Party.CANDIDATE])
def test_a_model_that_fails_on_a_frame_is_at_fault_itself(
    tmp_path: Path, live: Path, labelled: Path, party: Party
) -> None:
    afraid = candidate(tmp_path, afraid_of_the_dark)
    both = (live, afraid) if party is Party.CANDIDATE else (afraid, live)
    with pytest.raises(Unjudgeable, match="aren't finite") as unjudgeable:
        compared(*both, labelled)
    assert unjudgeable.value.party is party


async def test_a_picture_changed_while_it_judges_is_the_sets_fault(tmp_path: Path, live: Path, labelled: Path) -> None:
    comparison = load_comparison(live, candidate(tmp_path), labelled, LAX)

    def swap(done: int, of: int) -> None:
        (labelled / "031.jpg").write_bytes((labelled / "030.jpg").read_bytes())

    with pytest.raises(Unjudgeable, match=r"031\.jpg") as unjudgeable:
        comparison.run(cpu_ns, swap)
    assert unjudgeable.value.party is Party.EVALUATION


# --- the process -------------------------------------------------------------------------------------


async def test_a_killed_judge_ends_its_channel_and_leaves_nothing(tmp_path: Path, live: Path, labelled: Path) -> None:
    sees = candidate(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    async with judging(live, sees, labelled) as (judge, channel):
        assert isinstance(channel.receive()[0], JudgeProgress)
        judge.kill()
        assert not any(isinstance(word, JudgeFault) for word in rest(channel))
    assert sorted(tmp_path.rglob("*")) == before


async def test_a_judge_that_nobody_listens_to_ends_by_itself_and_calmly() -> None:
    one, two = find_package("drive-detect@1.0"), find_package("drive-detect@2.0")
    async with judging(one, two, DEFAULT_EVALUATION) as (judge, channel):
        assert isinstance(channel.receive()[0], JudgeProgress)
        channel.close()
        assert await judge.wait() == 0


async def test_it_runs_behind_everything_else_within_its_memory_and_can_open_no_socket() -> None:
    one, two = find_package("drive-detect@1.0"), find_package("drive-detect@2.0")
    async with judging(one, two, DEFAULT_EVALUATION) as (judge, channel):
        pid = judge.pid
        assert isinstance(channel.receive()[0], JudgeProgress)
        assert {os.getpriority(os.PRIO_PROCESS, int(thread)) for thread in os.listdir(f"/proc/{pid}/task")} == {19}
        status = Path(f"/proc/{pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        assert "Seccomp:\t2" in status
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        hard = {line[:25].strip(): line[25:].split()[1] for line in limits}
        assert int(hard["Max address space"]) == ADDRESS_SPACE_BYTES
        assert hard["Max core file size"] == "0"


@pytest.mark.soak
def test_the_shipped_models_are_told_apart_within_four_seconds_of_cpu_time() -> None:
    one, two = find_package("drive-detect@1.0"), find_package("drive-detect@2.0")
    began_ns = cpu_ns()
    verdict = compared(one, two, DEFAULT_EVALUATION)
    assert cpu_ns() - began_ns < 4_000_000_000
    assert verdict.outcome is Outcome.PASSED, verdict.words
    assert verdict.speed.ratio > 1.2
    assert compared(two, one, DEFAULT_EVALUATION).outcome is not Outcome.PASSED


def test_the_longest_verdict_fits_in_a_message(live: Path, labelled: Path) -> None:
    verdict = compared(live, live, labelled)
    car = msgspec.structs.replace(verdict.classes[0], label="c" * 48, words=verdict.classes[0].words + "c" * 200)
    longest = msgspec.structs.replace(verdict, classes=(car,) * 32, words="; ".join([car.words] * 32))
    model = JudgedModel("n" * 48, "999999.999999.999999", "0" * 64, "v" * 48)
    message = JudgeVerdict(model, model, "e" * 70, "0" * 64, "r" * 1000, longest)
    assert len(msgspec.msgpack.encode(message)) < MAX_MESSAGE_BYTES / 2
