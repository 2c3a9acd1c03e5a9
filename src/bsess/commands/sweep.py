"""`bsess sweep`: end what is mine and orphaned, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bsess import verdict
from bsess.config import check_protect
from bsess.errors import FailedError, LimitError
from bsess.model import Result
from bsess.sweep import execution
from bsess.sweep.policy import Rules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bsess.context import Context
    from bsess.model import Decision, Outcome
    from bsess.sweep.execution import Selection


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """What to sweep. Ages are in seconds; `min_age` and `max_close` None take the config's."""

    profiles: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    region: str | None = None
    run: str | None = None
    older_than: float | None = None
    min_age: float | None = None
    protect: Sequence[str] = ()
    max_close: int | None = None
    dry_run: bool = False


def sweep(context: Context, options: SweepOptions) -> Result:
    """Find the orphans, ask, end them, and say why each was ended or spared."""
    rules = _rules(context, options)
    if options.dry_run:
        return _result(execution.select(context, rules), [], dry_run=True)
    selection = execution.select(context, rules)
    decisions = [decision for _, decision in selection.to_end]
    _check_limit(context, options, len(decisions))
    if decisions and not context.confirm(decisions):
        raise FailedError("not confirmed: nothing was ended", code="declined")
    # The answer may have taken its time: looked at again, and only what was shown is ended.
    shown = {(decision.profile, decision.id) for decision in decisions}
    with execution.lock(context):
        again = execution.select(context, rules)
        kept = execution.only(again, shown)
        outcomes = execution.act(context, kept)
    return _result(kept, outcomes)


def _check_limit(context: Context, options: SweepOptions, count: int) -> None:
    limit = context.config.max_close.value if options.max_close is None else options.max_close
    if limit is not None and count > limit:
        raise LimitError(
            f"{_sessions(count)} would end, and the limit is {limit}: nothing was ended",
            code="max_close",
            hint="--dry-run shows them; a higher --max-close lets them end",
        )


def _rules(context: Context, options: SweepOptions) -> Rules:
    config = context.config
    for name in options.profiles:
        config.profile(name)
    for rule in options.protect:
        check_protect(rule, name="--protect")
    return Rules(
        protect=(*config.protect.value, *options.protect),
        profiles=frozenset(options.profiles),
        labels=options.labels,
        region=options.region,
        run=options.run,
        older_than=options.older_than,
        min_age=config.min_age.value if options.min_age is None else options.min_age,
    )


def _result(selection: Selection, outcomes: Sequence[Outcome], *, dry_run: bool = False) -> Result:
    problems = selection.inventory.problems
    decisions = tuple(decision for _, decision in selection.decided)
    return Result(
        "sweep",
        exit_code=verdict.of_outcomes(outcomes, looking=selection.inventory.exit_code),
        outcomes=tuple(outcomes),
        decisions=decisions,
        summary=execution.summary(outcomes),
        list_errors=problems,
        errors=problems + verdict.problems_of(outcomes),
        notes=(_sentence(decisions, outcomes, dry_run=dry_run),),
    )


def _sessions(count: int) -> str:
    return "one session" if count == 1 else f"{count} sessions"


def _sentence(decisions: Sequence[Decision], outcomes: Sequence[Outcome], *, dry_run: bool) -> str:
    ends = sum(decision.end for decision in decisions)
    # What was found to have ended is no decision any more, and was looked at all the same.
    gone = {outcome.id for outcome in outcomes} - {decision.id for decision in decisions}
    count = len(decisions) + len(gone)
    looked = f"looked at {_sessions(count)}"
    if dry_run:
        return f"{looked}: would end {ends}, spare {len(decisions) - ends}"
    counts = ", ".join(f"{number} {kind}" for kind, number in execution.summary(outcomes).items() if number)
    return f"{looked}: {counts or 'nothing to end'}"
