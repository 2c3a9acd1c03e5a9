"""What came of ending a session, in the words of an outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bsess import naming
from bsess.errors import BsessError, ExitCode, UnreachableError
from bsess.model import Outcome, OutcomeKind, Problem
from bsess.providers.base import CloseState

if TYPE_CHECKING:
    from bsess.closing import Target
    from bsess.ledger import Row
    from bsess.providers.base import CloseAnswer

_KINDS = {
    CloseState.ENDED: OutcomeKind.CLOSED,
    CloseState.ACCEPTED: OutcomeKind.CLOSING,
    CloseState.GONE: OutcomeKind.ALREADY_CLOSED,
    CloseState.STILL_LIVE: OutcomeKind.STUCK,
}


def of_answer(target: Target, answer: CloseAnswer, *, known_here: bool) -> Outcome:
    """Return what an answer means; `known_here`: it is about the account that the session is of."""
    if answer.state is CloseState.ABSENT and not known_here:
        return _elsewhere(target, answer)
    if answer.state is CloseState.ABSENT:
        known = target.row is not None or target.found is not None
        kind = OutcomeKind.ALREADY_CLOSED if known else OutcomeKind.NOT_FOUND
    else:
        kind = _KINDS[answer.state]
    reason = answer.reason
    if target.foreign is not None and kind is not OutcomeKind.NOT_FOUND:
        reason = "; ".join(filter(None, [f"foreign: {target.foreign}, ended because its id was given", reason]))
    failed = {
        OutcomeKind.NOT_FOUND: Problem(
            "not_found",
            naming.unknown(target.id, target.profile.name),
            "`bsess list` shows the sessions; the start of an id works for those in the ledger",
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


def of_error(target: Target, error: BsessError) -> Outcome:
    """Return what an error means: after silence nobody can say."""
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


def skipped(target: Target) -> Outcome:
    """Return the outcome of what was not reached."""
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


def by_another(row: Row, kind: OutcomeKind, reason: str) -> Outcome:
    """Return the outcome of a row that another process has changed."""
    return Outcome(id=row.shown_id, profile=row.profile, provider=row.provider, outcome=kind, reason=reason)
