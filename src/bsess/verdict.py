"""The exit code of a command, from what came of each of its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bsess.errors import ExitCode
from bsess.model import OutcomeKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bsess.model import Outcome, Problem

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


def problems_of(outcomes: Iterable[Outcome], *, ignore_not_found: bool = False) -> tuple[Problem, ...]:
    """Return the problems of those that failed."""
    return tuple(
        outcome.problem
        for outcome in outcomes
        if outcome.problem is not None and not (ignore_not_found and outcome.outcome is OutcomeKind.NOT_FOUND)
    )
