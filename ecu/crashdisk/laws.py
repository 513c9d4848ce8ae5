"""Laws of crash safety, asked of every state that a power cut could leave."""

from __future__ import annotations

from collections.abc import Callable

from ecu.crashdisk.disk import CrashDisk, CrashState
from ecu.crashdisk.steps import Step
from ecu.errors import OutriderError

Law = Callable[[CrashState], None]
Scenario = Callable[[CrashDisk], None]


def violation(scenario: Scenario, law: Law, disk: CrashDisk) -> str | None:
    """Runs `scenario` on `disk` and asks `law` about every state a power cut could leave; the first "no", described.

    The law says no with an AssertionError, or by letting an error of ours or of the disk through.
    """
    scenario(disk)
    return _first_no(law, disk)


def _first_no(law: Law, disk: CrashDisk, within: range | None = None) -> str | None:
    """`within` are the calls at which the power goes."""
    for state in disk.after_crash():
        if within is not None and state.at not in within:
            continue
        try:
            law(state)
        except (AssertionError, OutriderError, OSError) as error:
            return f"{state.describe}\n  {type(error).__name__}: {error}"
    return None


def unnoticed_without(scenario: Scenario, law: Law, prepare: Callable[[], CrashDisk] = CrashDisk) -> list[str]:
    """The syncs of `scenario` that could be left out without `law` ever noticing: needless ones, or a weak law.

    A sync that settles what a killed process left in memory is noticed only where `prepare` returns such a disk.
    """
    whole = prepare()
    before = whole.syncs
    scenario(whole)
    calls = [call for call in whole.calls if call.act in ("sync", "sync_folder")][before:]
    unnoticed = []
    for n, call in enumerate(calls):
        mutant = prepare()
        mutant.without_sync(n)
        if violation(scenario, law, mutant) is None:
            unnoticed.append(f"sync {n}: {call.act} {call.path!r}")
    return unnoticed


def is_swap_noticed(law: Law, disk: CrashDisk, first: Step, second: Step) -> bool | None:
    """Whether `law` notices that `first`, of the steps of `disk`, was done after `second`, the one right after it; None
    where nobody could have done so. Where it doesn't, their order doesn't matter, or the law is weak."""
    mutant = disk.with_swapped(first, second)
    if mutant is None:
        return None
    # Before the two steps and after them nothing is different.
    return _first_no(law, mutant, disk.calls_of(first, second)) is not None
