"""Ending one session: claim its row, ask the provider, and say honestly what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bsess import inventory
from bsess.context import Context, liveness, this_process, unseal
from bsess.errors import BsessError, ExitCode, LedgerError, UnreachableError
from bsess.ledger import Row, RowState
from bsess.model import Event, Liveness, Outcome, OutcomeKind, Problem
from bsess.providers.base import CloseAnswer, CloseState, CloseTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bsess.config import Profile
    from bsess.providers.base import Provider

# A claim older than this is nobody's: no close takes that long (the slowest provider's close may take 60 s).
CLAIM_SECONDS = 120.0
POLL_SECONDS = 0.05
_POLL_MAX_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Target:
    """One session to end; `foreign` is whose it is where it is not mine, and its end was asked for by its id.

    `url` is one that was pasted for it: its stop URL, or where `connects` its connect URL.
    """

    id: str
    profile: Profile
    row: Row | None = None
    foreign: str | None = None
    url: str | None = field(default=None, repr=False)
    connects: bool = False


@dataclass(frozen=True, slots=True)
class Manner:
    """How to end: `wait` (seconds) is how long to look until it is gone, None for not at all.

    `event` is what history calls it, `reason` why it was chosen.
    """

    force: bool = False
    wait: float | None = None
    event: str = "closed"
    reason: str | None = None


def close_all(
    context: Context, targets: Sequence[Target], manner: Callable[[Target], Manner], on_done: Callable[[Outcome], None]
) -> list[Outcome]:
    """End sessions on a bounded pool of threads; outcomes in the order of the targets, `on_done` as they come."""

    def work(target: Target) -> Outcome:
        return _skipped(target) if context.seconds_left() <= 0 else close_one(context, target, manner(target))

    context.expect(len(targets))
    if len(targets) < 2 or context.workers == 1:  # noqa: PLR2004  one needs no pool
        return [_told(work(target), on_done) for target in targets]
    from concurrent.futures import ThreadPoolExecutor, as_completed  # 6 ms, and one close needs none

    with ThreadPoolExecutor(min(context.workers, len(targets)), thread_name_prefix="close") as pool:
        futures = [pool.submit(work, target) for target in targets]
        try:
            for future in as_completed(futures):
                on_done(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def close_one(context: Context, target: Target, manner: Manner) -> Outcome:
    """End one session and record it. Never raises a BsessError: what went wrong is in the outcome."""
    row = target.row
    if row is not None:
        try:
            claimed = _claim(context, row)
        except LedgerError as error:
            context.warn(f"{error.message}; closing {target.id} all the same")
            claimed = row
        if isinstance(claimed, Outcome):
            return claimed
        row = claimed
    try:
        outcome = _ended(context, target, row, manner)
    except BsessError as error:
        outcome = _failure(target, error)
    _settle(context, row, outcome, manner)
    return outcome


def _ended(context: Context, target: Target, row: Row | None, manner: Manner) -> Outcome:
    if target.url is not None and target.connects:
        from bsess import hanging_up  # websockets: 40 ms, and most sessions have a better end

        answer = hanging_up.end(context, target.url, wait=manner.wait)
        return _outcome(target, answer, known_here=True)
    provider = context.provider(target.profile)
    stop_url = target.url if row is None else unseal(provider, row.stop_url)
    answer = provider.close(CloseTarget(target.id, force=manner.force, recorded=row is not None, stop_url=stop_url))
    if answer.state is CloseState.ACCEPTED and manner.wait is not None:
        answer = _verify(context, provider, target.id, answer, manner.wait)
    return _outcome(target, answer, known_here=row is None or inventory.same_account(row, provider))


def _told(outcome: Outcome, on_done: Callable[[Outcome], None]) -> Outcome:
    on_done(outcome)
    return outcome


def _claim(context: Context, row: Row) -> Row | Outcome:
    """Make this process the one that ends the session; an Outcome where another did it in the meantime."""
    ledger = context.ledger()
    me = this_process()
    end = time.monotonic() + min(CLAIM_SECONDS, context.seconds_left())
    while True:
        current = ledger.get(row.key)
        if current is None or current.state is RowState.CLOSED:
            return _by_another(row, OutcomeKind.ALREADY_CLOSED, "another process ended it")
        if not claimed_by_other(current, context.now()):
            now = context.now()
            wanted = replace(current, state=RowState.CLOSING, claim=me, claimed_at=now, changed_at=now)
            claimed = ledger.change(wanted)
            if claimed is not None:
                return claimed
        elif time.monotonic() >= end:
            return _by_another(row, OutcomeKind.CLOSING, "another process is ending it")
        else:
            time.sleep(POLL_SECONDS)


def claimed_by_other(row: Row, now: float) -> bool:
    """Tell whether another living process is ending this row's session right now."""
    if row.claim is None or row.claim == this_process():
        return False
    if liveness(row.claim) is Liveness.DEAD:
        return False
    return (row.claimed_at or 0.0) + CLAIM_SECONDS > now


def _by_another(row: Row, kind: OutcomeKind, reason: str) -> Outcome:
    return Outcome(id=row.shown_id, profile=row.profile, provider=row.provider, outcome=kind, reason=reason)


def _skipped(target: Target) -> Outcome:
    return Outcome(
        id=target.id,
        profile=target.profile.name,
        provider=target.profile.provider,
        outcome=OutcomeKind.SKIPPED,
        reason="the deadline passed before it was reached",
        exit_code=ExitCode.UNREACHABLE,
        problem=Problem(
            "deadline", f"{target.id}: the deadline passed before it was reached", "give it a longer --deadline"
        ),
    )


def _verify(context: Context, provider: Provider, session_id: str, answer: CloseAnswer, wait: float) -> CloseAnswer:
    end = time.monotonic() + min(wait, context.seconds_left())
    pause = POLL_SECONDS
    while True:
        found = provider.get(session_id)
        if found is None or not found.live:
            return replace(answer, state=CloseState.ENDED, provider_status=found.status if found else None)
        if time.monotonic() + pause >= end:
            return replace(answer, state=CloseState.STILL_LIVE, provider_status=found.status)
        time.sleep(pause)
        pause = min(pause * 2, _POLL_MAX_SECONDS)


_KINDS = {
    CloseState.ENDED: OutcomeKind.CLOSED,
    CloseState.ACCEPTED: OutcomeKind.CLOSING,
    CloseState.GONE: OutcomeKind.ALREADY_CLOSED,
    CloseState.STILL_LIVE: OutcomeKind.STUCK,
}


def _outcome(target: Target, answer: CloseAnswer, *, known_here: bool) -> Outcome:
    if answer.state is CloseState.ABSENT and not known_here:
        return _elsewhere(target, answer)
    if answer.state is CloseState.ABSENT:
        kind = OutcomeKind.NOT_FOUND if target.row is None else OutcomeKind.ALREADY_CLOSED
    else:
        kind = _KINDS[answer.state]
    reason = answer.reason
    if target.foreign is not None and kind is not OutcomeKind.NOT_FOUND:
        reason = "; ".join(filter(None, [f"foreign: {target.foreign}, ended because its id was given", reason]))
    failed = {
        OutcomeKind.NOT_FOUND: Problem(
            "not_found",
            f"{target.id}: no such session in profile {target.profile.name}",
            "`bsess list` shows the sessions; another profile is named with -p",
            target.id,
        ),
        OutcomeKind.STUCK: Problem(
            "stuck",
            f"{target.id}: {reason or 'accepted, but still listed'}",
            "`bsess sweep` tries again" if target.row is not None else "repeat it, or end it at its provider",
            target.id,
        ),
    }.get(kind)
    return Outcome(
        id=target.id,
        profile=target.profile.name,
        provider=target.profile.provider,
        outcome=kind,
        reason=reason,
        http_status=answer.http_status,
        provider_status=answer.provider_status,
        exit_code=ExitCode.FAILED if failed else ExitCode.OK,
        problem=failed,
    )


def _elsewhere(target: Target, answer: CloseAnswer) -> Outcome:
    message = f"{target.id}: profile {target.profile.name} leads to another account now, whose answer proves nothing"
    return Outcome(
        id=target.id,
        profile=target.profile.name,
        provider=target.profile.provider,
        outcome=OutcomeKind.UNKNOWN,
        reason="the profile leads to another account now",
        http_status=answer.http_status,
        exit_code=ExitCode.UNREACHABLE,
        problem=Problem("account", message, "put the token or the url back with which it was made", target.id),
    )


def _failure(target: Target, error: BsessError) -> Outcome:
    kind = OutcomeKind.UNKNOWN if isinstance(error, UnreachableError) else OutcomeKind.FAILED
    message = error.message if target.id in error.message else f"{target.id}: {error.message}"
    return Outcome(
        id=target.id,
        profile=target.profile.name,
        provider=target.profile.provider,
        outcome=kind,
        reason=error.message,
        http_status=error.http_status,
        exit_code=error.exit_code,
        problem=Problem(error.code, message, error.hint, target.id),
    )


_ENDED = frozenset({OutcomeKind.CLOSED, OutcomeKind.ALREADY_CLOSED})


def _settle(context: Context, row: Row | None, outcome: Outcome, manner: Manner) -> None:
    """Write what came of it. A ledger that fails now costs the record, not the close: a warning."""
    try:
        if row is None:
            _record_foreign(context, outcome, manner)
            return
        reason = "; ".join(filter(None, [manner.reason, outcome.reason])) or None
        line = inventory.event(
            context,
            row,
            _event_of(outcome, manner),
            outcome=outcome.outcome,
            reason=reason,
        )
        changed = replace(row, changed_at=context.now(), claim=None, claimed_at=None, failure=None)
        if outcome.outcome in _ENDED:
            changed = replace(changed, state=RowState.CLOSED)
        elif outcome.outcome is not OutcomeKind.CLOSING:
            state = RowState.OPEN if row.id is not None else RowState.INTENT
            changed = replace(changed, state=state, failure=outcome.reason or outcome.outcome)
        context.ledger().change(changed, event=line)
    except LedgerError as error:
        context.warn(f"{error.message}; the end of {outcome.id} is not recorded")


def _event_of(outcome: Outcome, manner: Manner) -> str:
    return manner.event if outcome.outcome in _ENDED or outcome.outcome is OutcomeKind.CLOSING else "failed"


def _record_foreign(context: Context, outcome: Outcome, manner: Manner) -> None:
    ledger = context.ledger_or_none()
    if ledger is None or outcome.outcome is OutcomeKind.NOT_FOUND:
        return
    ledger.record(
        [
            Event(
                at=context.now(),
                event=_event_of(outcome, manner),
                command=context.command,
                id=outcome.id,
                profile=outcome.profile,
                provider=outcome.provider,
                owner=context.config.owner.value,
                outcome=outcome.outcome,
                reason=outcome.reason,
            )
        ]
    )
