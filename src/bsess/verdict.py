"""The exit code of a command, from what came of each of its parts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bsess.errors import ExitCode
from bsess.model import OutcomeKind, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bsess.errors import BsessError
    from bsess.model import Outcome, Result

# Of several kinds of failure and no success, the first of these.
_ORDER = (ExitCode.UNREACHABLE, ExitCode.AUTH, ExitCode.QUOTA, ExitCode.FAILED)


def of_outcomes(outcomes: Sequence[Outcome], *, looking: int = ExitCode.OK, ignore_not_found: bool = False) -> int:
    """Return 0, the failures' common code, or PARTIAL where some succeeded.

    `looking` is the code of the look that chose them: where that was not whole, no success is either.
    """
    codes = [
        ExitCode.OK if ignore_not_found and outcome.outcome is OutcomeKind.NOT_FOUND else outcome.exit_code
        for outcome in outcomes
    ]
    failures = [code for code in codes if code]
    if not failures:
        return ExitCode.PARTIAL if looking and codes else looking
    if looking == ExitCode.PARTIAL or len(failures) < len(codes):
        return ExitCode.PARTIAL
    return of_failures(failures)


def of_failures(codes: Sequence[int]) -> int:
    """Return one code for failures alone: theirs if they agree, else the first in the order of the contract."""
    if len(set(codes)) == 1:
        return codes[0]
    return next((code for code in _ORDER if code in codes), codes[0])


def with_failure(result: Result, error: BsessError) -> Result:
    """Return a result with one more failure, which does not undo what else came of it."""
    code = error.exit_code if result.exit_code == ExitCode.OK else result.exit_code
    problem = Problem(error.code, error.message, error.hint)
    return replace(result, exit_code=code, errors=(*result.errors, problem))


def problems_of(outcomes: Iterable[Outcome], *, ignore_not_found: bool = False) -> tuple[Problem, ...]:
    """Return the problems of those that failed."""
    return tuple(
        outcome.problem
        for outcome in outcomes
        if outcome.problem is not None and not (ignore_not_found and outcome.outcome is OutcomeKind.NOT_FOUND)
    )
