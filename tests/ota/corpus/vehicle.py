"""A vehicle that is offered a twin or a bad set, by the product's own way, and what became of it."""

from __future__ import annotations

import re
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from ecu.clock import SECOND_NS, SteppingClock
from ecu.disk import DiskError
from ota.errors import Attack, FetchError, Flaw, OtaError, SlowRetrieval, TrustError
from ota.fitness import Host
from ota.kinds import Kind
from ota.landing import Progress
from ota.machine import Event
from ota.manifest import decode_manifest
from ota.source import Source
from ota.trust import Offer, Roots, Vehicle
from ota.updates import Notice, Updates
from tests.ota.corpus.base import NOW_S, SEEN, Base
from tests.ota.corpus.case import Before, Case, Unfit, Way
from tests.ota.corpus.draft import CAR, Draft
from tests.ota.corpus.ways import opened
from tests.ota.fleet import HARDWARE, Unsynced

HOST: Final = Host(HARDWARE, "3.11.7", "0.6.0", onnxruntime="1.20.1", abi="cp311-linux_x86_64")
KEPT: Final = (Event.LOADED, Event.PASSED, Event.PROVEN)


@dataclass(slots=True)
class Outcome:
    """`fault` is what ended it; None where it was taken whole. `changed` are the files of the state that differ from
    before, or from when the look was over, without the audit."""

    fault: Exception | None = None
    installed: list[str] = field(default_factory=list)
    right: bool = True
    progress: Progress | None = None
    changed: set[str] = field(default_factory=set)
    notices: list[Notice] = field(default_factory=list)
    unfit: str = ""
    looked: bool = False
    """The look held: what it learned is kept, whatever becomes of the release."""


class Garage:
    """One vehicle, with its state below `folder`."""

    def __init__(self, base: Base, folder: Path, before: Before = Before.FRESH, clock_s: int = 0) -> None:
        self.base = base
        self.folder = folder
        self.state = folder / "state"
        self.state.mkdir()
        self.clock = SteppingClock(wall_ns=(NOW_S + clock_s) * SECOND_NS)
        self._looks = 0
        if before is not Before.FRESH:
            _put(kept(base), self.state)
        if before is Before.FORGETFUL:
            (self.state / "metadata.cache").unlink()
        self.notices: list[Notice] = []

    def start(self) -> None:
        roots = Roots(self.base.roots["director"], self.base.roots["image"])
        vehicle = Vehicle(CAR, HARDWARE)
        self.updates = Updates(Unsynced(self.state), roots, vehicle, self.clock, self.notices.append, HOST)
        self.updates.begin()

    def offered(self, draft: Draft, way: Way) -> Outcome:
        outcome, before = Outcome(), contents(self.state)
        self._looks += 1
        try:
            with ExitStack() as stack:
                source: Source = stack.enter_context(opened(draft, way, self.folder / f"medium-{self._looks}"))
                for layer in draft.through:
                    source = layer(source, self.clock)
                offers = self.updates.check(source)
                outcome.looked, before = True, contents(self.state)
                for offer in offers:
                    self._install(source, draft, offer, outcome)
        except TrustError as refusal:
            if _is_of_opening(refusal):
                self.updates.refuse(refusal)
            outcome.fault = refusal
        except Exception as error:  # noqa: BLE001  (whatever escapes is what the case is about)
            outcome.fault = error
        after = contents(self.state)
        outcome.changed = {name for name in after | before if after.get(name) != before.get(name)}
        outcome.notices = list(self.notices)
        outcome.unfit = "\n".join(
            entry.detail for entry in self.updates.audit().entries() if entry.event == "delta_unfit"
        )
        return outcome

    def _install(self, source: Source, draft: Draft, offer: Offer, outcome: Outcome) -> None:
        seen: list[Progress] = []
        self.updates.install(source, offer, seen.append)
        outcome.progress = seen[-1] if seen else None
        outcome.installed.append(offer.kind)
        slots = self.updates.slots(offer.kind)
        folder = self.state / str(slots.path(slots.record.trial or slots.record.good))
        outcome.right = all(_content(folder / path) == data for path, data in draft.contents.items())


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _is_of_opening(refusal: TrustError) -> bool:
    """Of the medium itself: whoever opens it tells it."""
    trace, names = refusal.__traceback__, set[str]()
    while trace is not None:
        names.add(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    return not names & {"check", "install"}


@cache
def kept(base: Base) -> dict[str, bytes]:
    """The state of a vehicle that looked when everything had the version SEEN, and keeps release 1."""
    with tempfile.TemporaryDirectory() as folder:
        garage = Garage(base, Path(folder))
        garage.start()
        draft = Draft(base, SEEN, release=1)
        draft.contents["model.onnx"] = base.old
        outcome = garage.offered(draft, Way.FOLDER)
        if outcome.fault is not None:
            raise outcome.fault
        for event in KEPT:
            garage.updates.handle(Kind.MODEL, event, "")
        return contents(garage.state) | {"audit": (garage.state / "audit").read_bytes()}


def contents(state: Path) -> dict[str, bytes]:
    """All of it but the audit."""
    return {
        str(path.relative_to(state)): path.read_bytes()
        for path in state.rglob("*")
        if path.is_file() and path.name != "audit"
    }


def _put(files: dict[str, bytes], state: Path) -> None:
    for path, data in files.items():
        (state / path).parent.mkdir(parents=True, exist_ok=True)
        (state / path).write_bytes(data)


# --- one case ---------------------------------------------------------------------------------------


def twin(case: Case, base: Base, version: int = SEEN + 1) -> Draft:
    draft = Draft(base, version)
    case.given(draft)
    return draft


def bad(case: Case, base: Base) -> Draft:
    draft = twin(case, base)
    case.act(draft)
    return draft


def complaints(case: Case, base: Base, way: Way, and_the_twin: bool = True) -> list[str]:
    """What doesn't hold of the law: the bad set is refused as it should be, in words, leaving nothing; and then the
    twin is taken, by the same vehicle."""
    with tempfile.TemporaryDirectory() as folder:
        drafted = bad(case, base)
        garage = Garage(base, Path(folder), case.before, drafted.clock_s)
        drafted.edited("state", garage.state)
        garage.start()
        outcome = garage.offered(drafted, way)
        found = _of_the_bad(case, outcome)
        if drafted.clock_s:
            garage.clock.set_wall(NOW_S * SECOND_NS)
        if and_the_twin and not found and not isinstance(case.expected, Unfit):
            honest = twin(case, base, SEEN + 1 + outcome.looked)
            found = [f"afterwards, {words}" for words in _of_the_twin(case, garage.offered(honest, way))]
        return found


def is_read_otherwise(case: Case, base: Base) -> bool:
    """Its manifest, than it should be: a quick look before the whole way is taken."""
    try:
        decode_manifest(bad(case, base).manifest_bytes())
    except TrustError as refusal:
        return refusal.flaw is not case.expected
    except Exception:  # noqa: BLE001
        return True
    return case.expected in (Flaw.MALFORMED_MANIFEST, Flaw.MANIFEST_NOT_CANONICAL)


def complaints_of_the_twin(case: Case, base: Base, way: Way) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        garage = Garage(base, Path(folder), case.before)
        garage.start()
        return _of_the_twin(case, garage.offered(twin(case, base), way))


def _of_the_twin(case: Case, outcome: Outcome) -> list[str]:
    if outcome.fault is not None:
        return [f"the twin isn't taken: {outcome.fault!r}"]
    if not outcome.installed or not outcome.right:
        return [f"of the twin came {outcome.installed}, right: {outcome.right}"]
    made = outcome.progress is not None and outcome.progress.by_delta > 0
    if isinstance(case.expected, Unfit) and (outcome.unfit or not made):
        return [f"the twin's delta isn't taken: {outcome.unfit}"]
    return []


def _of_the_bad(case: Case, outcome: Outcome) -> list[str]:
    fault = outcome.fault
    if isinstance(case.expected, Unfit):
        found = [f"refused: {fault!r}"] * (fault is not None) + ["isn't what was signed"] * (not outcome.right)
        if not outcome.installed or not re.search(case.words or ".", outcome.unfit):
            found.append(f"came {outcome.installed}, and of the delta is said: {outcome.unfit!r}")
        return found
    if fault is None:
        return [f"is taken: {outcome.installed}"]
    if not isinstance(fault, OtaError | DiskError):
        return [f"ends in a traceback: {fault!r}"]
    return [*_of_the_class(case, fault), *_of_the_words(case, fault), *_of_the_traces(case, outcome)]


def _of_the_class(case: Case, fault: Exception) -> list[str]:
    if not isinstance(case.expected, Flaw):
        return [] if type(fault) is case.expected else [f"is told as {fault!r}"]
    flaw = fault.flaw if isinstance(fault, TrustError | SlowRetrieval) else None
    if flaw is not case.expected:
        return [f"is told as {flaw}: {fault!r}"]
    assert isinstance(fault, TrustError | SlowRetrieval)
    return [] if fault.attack is case.expected.attack else [f"is told as {fault.attack}"]


def _of_the_words(case: Case, fault: Exception) -> list[str]:
    words = str(fault)
    if not words.isprintable() or not re.search(case.words or ".", words):
        return [f"says {words!r}"]
    return []


def _of_the_traces(case: Case, outcome: Outcome) -> list[str]:
    found = [f"leaves {sorted(outcome.changed)}"] * bool(outcome.changed and _leaves_nothing(case))
    told = [notice.attack for notice in outcome.notices if notice.what in ("refused", "slow")]
    if isinstance(case.expected, Flaw) and told != [case.expected.attack]:
        found.append(f"is reported as {told}")
    return found


def _leaves_nothing(case: Case) -> bool:
    """A link that broke leaves the blocks that came, to go on there."""
    if isinstance(case.expected, Flaw):
        return case.expected.attack is not Attack.SLOW_RETRIEVAL
    return case.expected is not FetchError


def way_of(case: Case, number: int) -> Way:
    """In the ordinary run each case takes one way, in turn."""
    return case.way or tuple(Way)[number % len(Way)]


def quiet_way(case: Case) -> Way:
    """Without threads."""
    return case.way or Way.FOLDER
