"""What the receiver counts: every drop, refusal and cut has its name here, for the operator and the tests."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Counters:
    """Since the start of this process. Blocks by outcome, connections by how they began and ended."""

    blocks_stored: int = 0
    blocks_duplicate: int = 0
    blocks_bad: int = 0
    blocks_conflict: int = 0
    blocks_unsettled: int = 0
    blocks_throttled: int = 0
    commits: int = 0
    store_failures: int = 0
    receipts: int = 0
    reports: int = 0
    tls_refused: int = 0
    handshakes_dropped: int = 0
    accept_failures: int = 0
    sessions: int = 0
    not_admitted: int = 0
    forbidden_publishes: int = 0
    forbidden_subscriptions: int = 0
    protocol_violations: int = 0
    overdue: int = 0
    expired: int = 0
    slow_readers: int = 0
    taken_over: int = 0
    cut: int = 0
    crowded_out: int = 0
    paired: int = 0
    renewed: int = 0
    pairing_refused: int = 0
    pairing_throttled: int = 0
    updates_served: int = 0
    updates_unreadable: int = 0
    objects_stored: int = 0
    objects_known: int = 0
    object_slices: int = 0
    object_slices_misplaced: int = 0
    object_slices_cut: int = 0
    objects_mismatched: int = 0
    objects_refused: int = 0
    objects_throttled: int = 0
    objects_no_room: int = 0
    object_partials_expired: int = 0
    broker_messages: int = 0
    broker_ignored: int = 0
    broker_dropped: int = 0
    hub_messages: int = 0
    hub_events_ignored: int = 0
    hub_pushes_refused: int = 0
    hub_calls: int = 0
    hub_calls_failed: int = 0
    hub_dropped: int = 0
    learned_admitted: int = 0
    learned_foreign: int = 0
    learned_malformed: int = 0
    learned_too_large: int = 0
    learned_indices: int = 0
    learned_not_finite: int = 0
    learned_unknown_plan: int = 0
    learned_wrong_base: int = 0
    learned_wrong_layout: int = 0
    learned_stale: int = 0
    learned_replayed: int = 0
    learned_excessive: int = 0
    aggregates_passed: int = 0
    aggregates_failed: int = 0
    aggregates_undecided: int = 0
    learning_candidates: int = 0
    learning_held_up: int = 0
    learning_faults: int = 0
    audit_checkpoints: int = 0
    rollout_reports: int = 0
    rollout_reports_unproven: int = 0
    rollout_blocks_faulty: int = 0
    rollout_listings: int = 0
    rollout_alarms: int = 0
    assignments_renewed: int = 0
    repository_ending: int = 0
    rollouts_held_up: int = 0
    rollout_faults: int = 0

    def add(self, name: str, count: int = 1) -> None:
        """For names that are put together from a word of a closed set."""
        setattr(self, name, getattr(self, name) + count)

    def as_dict(self) -> dict[str, int]:
        return asdict(self)
