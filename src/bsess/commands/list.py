"""`bsess list`: what lives, on all configured profiles."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import chain
from typing import TYPE_CHECKING

from bsess import inventory
from bsess.errors import LedgerError, UsageError
from bsess.model import Result, Status
from bsess.sweep.execution import facts
from bsess.sweep.policy import Rules, decide

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bsess.context import Context
    from bsess.inventory import Ended, Inventory
    from bsess.known import Known
    from bsess.model import Problem, Session

ALL = "all"
# bsess's own, then those of providers.
PAST = (ALL, "error", "timed_out", "completed")
STATUSES = (ALL, *Status, "pending", "error", "timed_out", "completed")


@dataclass(frozen=True, slots=True)
class ListOptions:
    """What to show. Of mine, foreign and orphans at most one; `older_than` is in seconds."""

    profiles: Sequence[str] = ()
    status: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    region: str | None = None
    run: str | None = None
    mine: bool = False
    foreign: bool = False
    orphans: bool = False
    older_than: float | None = None


def list_sessions(context: Context, options: ListOptions) -> Result:
    """Return the sessions that match; rows of sessions proven to have ended are closed on the way, and said."""
    if options.mine + options.foreign + options.orphans > 1:
        raise UsageError("--mine, --foreign and --orphans exclude each other")
    if options.status is not None:
        options = replace(options, status=_known_status(options.status))
    found = inventory.look(context, options.profiles, running=not options.mine and not options.orphans)
    live = sorted(found.known, key=lambda known: known.session.created_at or 0.0)
    failures: list[tuple[Problem, int]] = []
    every = chain(live, _past(context, found, options, failures))
    # Of those that are shown as they come, none is kept: an account may remember tens of thousands.
    kept = [known.session for known in every if _matches(context, known, options) and not context.stream(known.session)]
    told = {item.message for item in found.problems}
    found = replace(
        found, failures=(*found.failures, *(failure for failure in failures if failure[0].message not in told))
    )
    return Result(
        "list",
        exit_code=found.exit_code,
        sessions=tuple(kept),
        list_errors=found.problems,
        errors=found.problems,
        notes=tuple(_notes(context, found.known, found.ended)),
    )


def _past(
    context: Context, found: Inventory, options: ListOptions, failures: list[tuple[Problem, int]]
) -> Iterator[Known]:
    if options.status not in PAST:
        return iter(())
    wanted = inventory.Past(None if options.status == ALL else options.status, options.labels)
    return inventory.past(context, found, options.profiles, wanted, failures)


def _known_status(text: str) -> str:
    # Providers write theirs in capitals.
    status = text.lower()
    if status not in STATUSES:
        near = ["completed"] if status == "closed" else get_close_matches(status, STATUSES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(STATUSES)}"
        raise UsageError(f"--status {text[:40]!r} is no status", hint=hint)
    return status


def _matches(context: Context, known: Known, options: ListOptions) -> bool:
    session = known.session
    return (
        _has_status(session, options)
        and all(session.labels.get(key) == value for key, value in options.labels.items())
        and options.region in (None, session.region)
        and options.run in (None, session.run)
        and (not options.mine or session.mine)
        and (not options.foreign or not session.mine)
        and (not options.orphans or _is_orphan(context, known))
        and (not options.profiles or session.profile in options.profiles or not session.mine)
        and _is_older(context, session, options.older_than)
    )


def _has_status(session: Session, options: ListOptions) -> bool:
    if options.status == ALL:
        return True
    if options.status is not None:
        return session.status == options.status
    return session.live or options.orphans


def _is_orphan(context: Context, known: Known) -> bool:
    config = context.config
    rules = Rules(protect=config.protect.value, min_age=config.min_age.value)
    return decide(facts(context, known), rules, context.now()).end


def _is_older(context: Context, session: Session, seconds: float | None) -> bool:
    if seconds is None:
        return True
    return session.is_older(seconds, context.now())


def _notes(context: Context, known: Sequence[Known], ended: Sequence[Ended]) -> list[str]:
    notes: list[str] = []
    closed: list[Ended] = []
    try:
        closed = inventory.reconcile(context, ended)
    except LedgerError as error:
        notes.append(f"{error.message}; what has ended is not recorded")
    me = context.config.owner.value
    notes += [f"{item.row.shown_id} has ended: {item.reason}" for item in closed if item.row.owner == me]
    left = sum(item.session.mine and item.session.status == Status.ENDED for item in known)
    if left:
        notes.append(
            f"{left} ended {'session' if left == 1 else 'sessions'} left files behind; `bsess sweep` removes them"
        )
    return notes
