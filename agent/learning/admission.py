"""Which plan this vehicle may learn by now: the signed one, if its own floor, its budget and what it has allow it."""

from __future__ import annotations

from typing import Final

from agent.learning.labels import Labels
from agent.learning.ports import Ports
from telemetry.federated.book import BudgetSpent, LearningBook
from telemetry.federated.plan import MAX_PLAN_BYTES, LearningFloor, Plan, PlanRefused, demand_allowed, parse_plan

MOST_PARAMETERS: Final = 40_000
"""What is owed has a place of its own on flash (telemetry/federated/book.py): four bytes a parameter."""
DAY_S: Final = 24 * 3600


class Admission:
    """`refusal` says in words why there is no plan, empty while there is one or none lies here; `told` is how much of
    the budget is spent, as far as the date is known."""

    def __init__(self, floor: LearningFloor, book: LearningBook, labels: Labels, ports: Ports) -> None:
        self.refusal = ""
        self.told = 0
        self._floor = floor
        self._book = book
        self._labels = labels
        self._ports = ports
        self._parsed: tuple[bytes, Plan | PlanRefused] | None = None
        self._given_up: tuple[Plan, str] | None = None

    def admitted(self, examples: int) -> Plan | None:
        """The plan that a vehicle with so many examples learns by, if any."""
        self.refusal = ""
        trusted_s = self._ports.world().trusted_s
        try:
            plan = self._plan()
            if plan is None:
                return None
            demand_allowed(plan, self._floor, trusted_s if trusted_s is not None else 0.0)
            self._demand_possible(plan, examples)
            if trusted_s is not None:
                self.told = self._book.told(day_of(trusted_s))
                self._book.demand_budget(plan, self._floor, day_of(trusted_s))
        except (PlanRefused, BudgetSpent) as refused:
            self.refusal = str(refused)
            return None
        return plan

    def still_lies_here(self) -> bool:
        """Whether the plan that was admitted last is the one that lies here now."""
        try:
            return self._parsed is not None and self._plan_bytes() == self._parsed[0]
        except PlanRefused:
            return False

    def give_up(self, plan: Plan, why: str) -> None:
        """Until the next start."""
        self._given_up = plan, why

    def _plan(self) -> Plan | None:
        """Raises PlanRefused."""
        data = self._plan_bytes()
        if data is None:
            return None
        if self._parsed is None or self._parsed[0] != data:
            try:
                self._parsed = data, parse_plan(data)
            except PlanRefused as refused:
                self._parsed = data, refused
        parsed = self._parsed[1]
        if isinstance(parsed, PlanRefused):
            raise parsed
        return parsed

    def _plan_bytes(self) -> bytes | None:
        path = self._ports.plan()
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                return file.read(MAX_PLAN_BYTES + 1)
        except OSError as error:
            raise PlanRefused(f"The plan in {path} can't be read: {error.strerror}.") from error

    def _demand_possible(self, plan: Plan, examples: int) -> None:
        """Raises PlanRefused for what this vehicle doesn't have, or hasn't yet."""
        if self._given_up is not None and self._given_up[0] == plan:
            raise PlanRefused(f"Plan {plan.name} is given up until the next start: {self._given_up[1]}")
        if not self._ports.may():
            raise PlanRefused(f"Plan {plan.name} is refused here: its owner hasn't consented to learning.")
        if not self._labels.has(plan.source):
            raise PlanRefused(
                f"Plan {plan.name} is refused here: nothing on this vehicle says what an example should have been "
                f"called ({plan.source})."
            )
        if plan.parameters > MOST_PARAMETERS:
            raise PlanRefused(
                f"Plan {plan.name} is refused here: it changes {plan.parameters} parameters, the most are "
                f"{MOST_PARAMETERS}."
            )
        if self._ports.package() is None:
            raise PlanRefused(f"Plan {plan.name} waits: this vehicle doesn't run {plan.model}.")
        if examples < plan.min_examples:
            raise PlanRefused(f"Plan {plan.name} waits: it wants {plan.min_examples} examples, there are {examples}.")


def day_of(trusted_s: float) -> int:
    """Days since 1970."""
    return int(trusted_s // DAY_S)
