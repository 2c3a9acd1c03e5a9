"""`bsess sweep`: end what is mine and orphaned, and nothing else."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bsess import inventory, verdict, whole
from bsess.config import check_protect
from bsess.errors import ExitCode, FailedError
from bsess.model import Problem, Result, Scope
from bsess.sweep import execution, metrics
from bsess.sweep import plan as plans
from bsess.sweep.policy import Rules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bsess.context import Context
    from bsess.errors import BsessError
    from bsess.model import Decision, Outcome
    from bsess.sweep.execution import Selection
    from bsess.sweep.plan import Plan


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """What to sweep. Ages and `lock_wait` are in seconds; `min_age` and `max_close` None take the config's.

    Nothing beyond `plan` is ended. `plan_out` and `metrics` are files to write.
    """

    profiles: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    region: str | None = None
    run: str | None = None
    older_than: float | None = None
    min_age: float | None = None
    protect: Sequence[str] = ()
    max_close: int | None = None
    dry_run: bool = False
    plan: Plan | None = None
    plan_out: str | None = None
    fail_if_found: bool = False
    lock_wait: float = 0.0
    metrics: str | None = None

    @property
    def only_looks(self) -> bool:
        """Whether nothing is to be ended."""
        return self.dry_run or self.plan_out is not None or self.fail_if_found


def sweep(context: Context, options: SweepOptions) -> Result:
    """Find the orphans, ask, end them, and say why each was ended or spared."""
    began = context.now()
    selection, result = _sweep(context, options)
    if options.metrics is None:
        return result
    now = context.now()
    ages = [known.session.age(now) or 0.0 for known, _ in selection.to_end]
    gauges = metrics.Gauges(
        oldest_age=max(ages, default=0.0),
        duration=now - began,
        # A job that only looks is no sweep.
        last_success=now if result.exit_code == ExitCode.OK and not options.only_looks else None,
    )
    try:
        _write_metrics(options.metrics, result, gauges)
    except FailedError as error:
        return verdict.with_failure(result, error)
    return result


def failure(error: BsessError, path: str | None) -> Result:
    """Return what came of a sweep that did nothing, and tell it as metrics: an old file would look like a success."""
    result = Result("sweep", exit_code=error.exit_code, errors=(inventory.problem(error),))
    if path is not None:
        # A disk that is full may be what failed: that is to be told, and not what follows from it.
        with suppress(FailedError):
            _write_metrics(path, result, metrics.Gauges())
    return result


def _sweep(context: Context, options: SweepOptions) -> tuple[Selection, Result]:
    rules = _rules(context, options)
    selection = execution.select(context, rules)
    if options.plan is not None:
        selection = execution.only(selection, options.plan.has)
    if options.only_looks:
        return selection, _looked(context, options, selection)
    decisions = [decision for _, decision in selection.to_end]
    limit = context.config.max_close.value if options.max_close is None else options.max_close
    if limit is not None and len(decisions) > limit:
        return selection, _over(context, selection, limit)
    if decisions and not context.confirm(decisions):
        raise FailedError("not confirmed: nothing was ended", code="declined")
    # The answer may have taken its time: looked at again, and only what was shown is ended.
    shown = {(decision.profile, decision.id) for decision in decisions}
    before = selection.inventory
    before = replace(before, known=tuple(item for item in before.known if item.profile.name in before.missed))
    del selection, decisions  # of ten thousand sessions 17 MB
    with execution.lock(context, wait=options.lock_wait):
        again = execution.select(context, rules, before)
        if options.plan is not None:
            again = execution.only(again, options.plan.has)
        kept = execution.only(again, lambda session: (session.profile, session.id) in shown)
        outcomes = execution.act(context, kept)
    return kept, _result(context, kept, outcomes)


def _looked(context: Context, options: SweepOptions, selection: Selection) -> Result:
    """Tell what would end, to a plan file too; what was found may be what is asked about."""
    if options.plan_out is not None:
        text = plans.document(((known.session, decision) for known, decision in selection.to_end), now=context.now())
        with whole.writing(options.plan_out) as file:
            file.write(text.encode())
    result = _result(context, selection, [], dry_run=True)
    count = len(selection.to_end)
    if not options.fail_if_found or count == 0:
        return result
    found = Problem("found", f"{_sessions(count)} would end", "`bsess sweep --yes` ends them; --dry-run says why")
    return replace(result, exit_code=ExitCode.LIMIT, errors=(*result.errors, found))


def _write_metrics(path: str, result: Result, gauges: metrics.Gauges) -> None:
    if gauges.last_success is None:
        gauges = replace(gauges, last_success=_last_success(path))
    # For a collector that runs as another user.
    with whole.writing(path, mode=0o644) as written:
        written.write(metrics.text(result, gauges).encode())


def _last_success(path: str) -> float | None:
    try:
        if not Path(path).is_file():
            return None
        return metrics.last_success(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None


def _over(context: Context, selection: Selection, limit: int) -> Result:
    """Tell that more would end than may; what would is told too."""
    over = Problem(
        "max_close",
        f"{_sessions(len(selection.to_end))} would end, and the limit is {limit}: nothing was ended",
        "--dry-run shows them; a higher --max-close lets them end",
    )
    result = _result(context, selection, [], dry_run=True)
    return replace(result, exit_code=ExitCode.LIMIT, errors=(*result.errors, over))


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


def _result(context: Context, selection: Selection, outcomes: Sequence[Outcome], *, dry_run: bool = False) -> Result:
    problems = selection.inventory.problems
    decisions = tuple(decision for _, decision in selection.decided)
    scope = Scope(context.ledger().location, selection.inventory.looked_at, selection.inventory.missed)
    return Result(
        "sweep",
        exit_code=verdict.of_outcomes(outcomes, looking=selection.inventory.exit_code),
        outcomes=tuple(outcomes),
        decisions=decisions,
        summary=execution.summary(outcomes),
        scope=scope,
        list_errors=problems,
        errors=problems + verdict.problems_of(outcomes),
        notes=(f"{_looked_at(scope, decisions, outcomes)}: {_what_came(decisions, outcomes, dry_run=dry_run)}",),
    )


def _sessions(count: int) -> str:
    return "one session" if count == 1 else f"{count} sessions"


def _looked_at(scope: Scope, decisions: Sequence[Decision], outcomes: Sequence[Outcome]) -> str:
    # What was found to have ended is no decision any more, and was looked at all the same.
    gone = {outcome.id for outcome in outcomes} - {decision.id for decision in decisions}
    looked = f"looked at {_sessions(len(decisions) + len(gone))}"
    # A cron job that has no token, or another HOME, looks at nothing: that is to be seen.
    missed = f", could not look at {', '.join(scope.missed)}" if scope.missed else ""
    return f"{looked} of {', '.join(scope.profiles) or 'no profile'}{missed} (ledger {scope.ledger})"


def _what_came(decisions: Sequence[Decision], outcomes: Sequence[Outcome], *, dry_run: bool) -> str:
    if dry_run:
        ends = sum(decision.end for decision in decisions)
        return f"would end {ends}, spare {len(decisions) - ends}"
    counts = ", ".join(f"{number} {kind}" for kind, number in execution.summary(outcomes).items() if number)
    return counts or "nothing to end"
