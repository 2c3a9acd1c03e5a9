"""A sweep: look at all accounts, decide, and end what was decided."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bsess import inventory
from bsess.closing import Manner, Target
from bsess.closing.many import close_all
from bsess.closing.one import claimed_by_other
from bsess.context import Context, liveness
from bsess.errors import LedgerError, LockedError
from bsess.known import create_is_over, slack_of
from bsess.ledger import RowState
from bsess.model import Decision, Liveness, Outcome, OutcomeKind, Session
from bsess.sweep.policy import Facts, Rules, decide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bsess.inventory import Inventory
    from bsess.known import Known

LOCK_FILE = "sweep.lock"
LOCK_PAUSE_SECONDS = 0.05
WAIT_SECONDS = 60.0
# A listing takes one request, of at most 30 s unless --timeout says otherwise, which is repeated where that may help.
LOOK_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Selection:
    """What a sweep found: every session with its decision, and the rows whose session is already proven gone."""

    inventory: Inventory
    decided: tuple[tuple[Known, Decision], ...]

    @property
    def to_end(self) -> list[tuple[Known, Decision]]:
        """Those to end, oldest first."""
        chosen = [(known, decision) for known, decision in self.decided if decision.end]
        return sorted(chosen, key=lambda item: item[0].session.created_at or 0.0)


def select(context: Context, rules: Rules, before: Inventory | None = None) -> Selection:
    """Look and decide; the one selection behind the dry run and the run. Who did not answer `before` is not asked.

    A provider that is slow or down keeps no other one's sessions waiting: half of what is left of the deadline is for
    those that answered.
    """
    with context.within(min(LOOK_SECONDS, context.seconds_left() / 2)):
        found = inventory.look(context, sorted(rules.profiles), before=before)
    now = context.now()
    decided = tuple((known, decide(facts(context, known), rules, now)) for known in found.known)
    return Selection(found, decided)


def only(selection: Selection, planned: Callable[[Session], bool]) -> Selection:
    """Return the selection with only those ends left that were planned; a plan only subtracts."""

    def kept(known: Known, decision: Decision) -> Decision:
        if not decision.end or planned(known.session):
            return decision
        return replace(decision, end=False, reason=f"not in the plan: {decision.reason}")

    return replace(selection, decided=tuple((known, kept(known, decision)) for known, decision in selection.decided))


def facts(context: Context, known: Known) -> Facts:
    """Return what the policy needs to know of a session now."""
    row = known.row
    if row is None:
        return Facts(known.session, lost_create=known.extra)
    now = context.now()
    failure = row.failure
    if row.state is RowState.CLOSING and not claimed_by_other(row, now):
        failure = failure or ("accepted, and it still lives" if row.claim is None else "it was cut short")
    return Facts(
        known.session,
        beyond_reach=row.id is None and known.remote is None,
        lost_create=row.state is RowState.INTENT and create_is_over(row, now),
        failure=failure,
        owner_process=_owner_process(known),
        lease_until=None if row.lease_until is None else row.lease_until + slack_of(row),
    )


def act(context: Context, selection: Selection) -> list[Outcome]:
    """Clear the rows of what is gone, end what was selected, and wait until each is seen gone."""
    reasons = {(decision.profile, decision.id): decision.reason for _, decision in selection.to_end}
    cleared = inventory.reconcile(context, selection.inventory.ended)
    outcomes = [
        Outcome(
            id=ended.row.shown_id,
            profile=ended.row.profile,
            provider=ended.row.provider,
            outcome=OutcomeKind.ALREADY_CLOSED,
            reason=ended.reason,
        )
        for ended in cleared
        if ended.row.owner == context.config.owner.value
    ]
    for outcome in outcomes:
        context.emit(outcome)
    targets = [Target.of(known) for known, _ in selection.to_end]

    def manner(target: Target) -> Manner:
        reason = reasons[target.profile.name, target.id]
        return Manner(force=True, wait=WAIT_SECONDS, event="swept", reason=reason, as_chosen=True)

    def with_reason(outcome: Outcome) -> Outcome:
        return replace(outcome, reason=outcome.reason or reasons[outcome.profile, outcome.id])

    ended = close_all(context, targets, manner, lambda outcome: context.emit(with_reason(outcome)))
    return outcomes + [with_reason(outcome) for outcome in ended]


def summary(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Return how many had each outcome, all outcomes named."""
    counts = Counter(outcome.outcome for outcome in outcomes)
    return {kind.value: counts[kind] for kind in OutcomeKind}


@contextmanager
def lock(context: Context, *, wait: float = 0.0) -> Iterator[None]:
    """Be the only acting sweep of this ledger. Raises LockedError where another is at work for `wait` seconds more.

    The kernel drops the lock with the process, however that ends.
    """
    path = context.config.state_dir.value / LOCK_FILE
    try:
        handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise LedgerError(f"{path} cannot be opened: {error.strerror}", hint="check the state folder") from error
    try:
        _take(handle, time.monotonic() + min(wait, context.seconds_left()))
        yield
    finally:
        os.close(handle)


def _take(handle: int, until: float) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            if time.monotonic() >= until:
                raise LockedError(
                    "another sweep of this ledger is at work",
                    hint="it ends the same sessions; repeat later, or wait for it with --lock-wait 30s",
                ) from error
        else:
            return
        time.sleep(LOCK_PAUSE_SECONDS)


def _owner_process(known: Known) -> Liveness | None:
    row = known.row
    if row is None or row.owner_process is None:
        return None
    return liveness(row.owner_process)
