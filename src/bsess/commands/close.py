"""`bsess close`: end sessions by id, by prefix, from a stream of ids, or by what they have in common."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bsess import inventory, naming, network, verdict
from bsess.closing import Manner, Target, outcomes
from bsess.closing.many import close_all
from bsess.errors import BsessError, ConfigError, ExitCode, FailedError, UsageError
from bsess.known import known_session
from bsess.ledger import Row, RowState
from bsess.model import Decision, Outcome, OutcomeKind, Result, Session, Status
from bsess.providers.base import UNSUPPORTED, CloseAnswer, CloseState
from bsess.sweep.policy import protection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bsess.config import Profile
    from bsess.context import Context
    from bsess.known import Known
    from bsess.providers.base import RemoteSession

# From more ids than this on a listing costs less than a look at each.
MANY = 10


@dataclass(frozen=True, slots=True)
class CloseOptions:
    """What to end and how. `typed` ids are consent; `read` ids (from a stream) are not, for what is not mine.

    `every`, `labels` and `run` select of mine; `older_than` (seconds) narrows them. `wait` is in seconds.
    """

    typed: Sequence[str] = ()
    read: Sequence[str] = ()
    profile: str | None = None
    every: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    run: str | None = None
    older_than: float | None = None
    force: bool = False
    wait: float | None = None
    foreign: bool = False
    ignore_not_found: bool = False
    dry_run: bool = False

    @property
    def selects(self) -> bool:
        """Whether sessions are chosen by what they have in common."""
        return self.every or bool(self.labels) or self.run is not None


def close(context: Context, options: CloseOptions) -> Result:
    """End what was named or selected; every one of them has an outcome."""
    if options.selects and (options.typed or options.read):
        raise UsageError("ids and --all, --label or --run exclude each other")
    if options.older_than is not None and not options.selects:
        raise UsageError("--older-than narrows --all, --label or --run", hint="add one of them")
    return _close_selected(context, options) if options.selects else _close_named(context, options)


def _close_named(context: Context, options: CloseOptions) -> Result:
    names = list(dict.fromkeys([*options.typed, *options.read]))
    for name in names:
        naming.check(name, urls=True)
    typed = set(options.typed)
    done: list[Outcome] = []
    targets: dict[str, Target] = {}
    looked = _Looked(context, many=len(names) > MANY)
    for name in names:
        found = (
            _resolve(context, name, options, looked, typed=True)
            if name in typed
            else _read(context, name, options, looked)
        )
        if isinstance(found, Outcome):
            context.emit(found)
            done.append(found)
        else:
            targets.setdefault(found.row.key if found.row else f"{found.profile.name}/{found.id}", found)
    manner = Manner(force=options.force, wait=options.wait)
    if options.dry_run:
        return _planned([_decision(target) for target in targets.values()], done, options)
    outcomes = done + close_all(context, list(targets.values()), lambda _: manner, context.emit)
    return Result(
        "close",
        exit_code=verdict.of_outcomes(outcomes, ignore_not_found=options.ignore_not_found),
        outcomes=tuple(outcomes),
        errors=verdict.problems_of(outcomes, ignore_not_found=options.ignore_not_found),
    )


def _close_selected(context: Context, options: CloseOptions) -> Result:
    found = inventory.look(context, [options.profile] if options.profile else ())
    chosen, spared = [], []
    for known in found.known:
        if not _is_selected(context, known, options):
            continue
        why = protection(known.session, context.config.protect.value, context.now())
        if why is None:
            chosen.append(known)
        else:
            spared.append(_spared(known, why))
    decisions = [
        Decision(k.session.id, k.session.profile, k.session.provider, end=True, reason=_why(options)) for k in chosen
    ]
    if options.dry_run:
        return _planned(decisions, spared, options)
    if decisions and not context.confirm(decisions):
        raise FailedError("not confirmed: nothing was closed", code="declined")
    for outcome in spared:
        context.emit(outcome)
    targets = [Target.of(known) for known in chosen]
    manner = Manner(force=options.force, wait=options.wait, reason=_why(options), as_chosen=True)
    outcomes = spared + close_all(context, targets, lambda _: manner, context.emit)
    inventory.reconcile(context, found.ended)
    return Result(
        "close",
        exit_code=verdict.of_outcomes(outcomes, looking=found.exit_code),
        outcomes=tuple(outcomes),
        errors=found.problems + verdict.problems_of(outcomes),
        list_errors=found.problems,
    )


def _is_selected(context: Context, known: Known, options: CloseOptions) -> bool:
    session = known.session
    if not session.mine or not (session.live or known.row is not None):
        return False
    if options.profile is not None and session.profile != options.profile:
        return False
    if any(session.labels.get(key) != value for key, value in options.labels.items()):
        return False
    if options.run is not None and session.run != options.run:
        return False
    if options.older_than is None:
        return True
    return session.is_older(options.older_than, context.now())


def _why(options: CloseOptions) -> str:
    if options.run is not None:
        return f"of run {options.run}"
    if options.labels:
        return "labelled " + ",".join(f"{key}={value}" for key, value in options.labels.items())
    return "all of mine"


def _planned(decisions: list[Decision], done: Sequence[Outcome], options: CloseOptions) -> Result:
    kept = [
        Decision(item.id, item.profile, item.provider, end=False, reason=item.reason or item.outcome) for item in done
    ]
    failed = [item for item in done if item.problem is not None]
    return Result(
        "close",
        exit_code=verdict.of_outcomes(failed, ignore_not_found=options.ignore_not_found),
        outcomes=(),
        decisions=(*decisions, *kept),
        errors=verdict.problems_of(failed, ignore_not_found=options.ignore_not_found),
    )


def _decision(target: Target) -> Decision:
    return Decision(target.id, target.profile.name, target.profile.provider, end=True, reason="named")


def _spared(known: Known, why: str) -> Outcome:
    session = known.session
    return Outcome(session.id, session.profile, session.provider, OutcomeKind.PROTECTED, reason=why)


class _Looked:
    """What providers say of ids that the ledger does not know: of many, one listing says most of it."""

    def __init__(self, context: Context, *, many: bool) -> None:
        self._context = context
        self._many = many
        self._listed: dict[str, dict[str, RemoteSession]] = {}

    def get(self, profile: Profile, session_id: str) -> RemoteSession | None:
        """Return the session, or None where the provider knows none of that id. Raises BsessError."""
        provider = self._context.provider(profile)
        if not provider.is_id(session_id):
            return None
        if self._many and profile.name not in self._listed:
            self._listed[profile.name] = {session.id: session for session in provider.list().sessions}
        found = self._listed.get(profile.name, {}).get(session_id)
        return provider.get(session_id) if found is None else found


def _read(context: Context, name: str, options: CloseOptions, looked: _Looked) -> Target | Outcome:
    """Resolve a line of a stream; one that may not be used fails alone, for the others are still to end."""
    try:
        return _resolve(context, name, options, looked, typed=False)
    except UsageError as error:
        if isinstance(error, ConfigError) and error.code != network.NO_URL:
            raise
        found = inventory.problem(error)
        shown = naming.shown(name)
        return Outcome(shown, "", "", OutcomeKind.FAILED, reason=found.message, exit_code=ExitCode.USAGE, problem=found)


def _resolve(context: Context, name: str, options: CloseOptions, looked: _Looked, *, typed: bool) -> Target | Outcome:
    if naming.is_url(name):
        return _of_url(context, name, options, typed=typed)
    profile_name, session_id = naming.split(context, name)
    row = naming.find_row(context, session_id, profile_name)
    if row is not None:
        return _of_row(context, row, options, typed=typed, whole=session_id)
    profile = context.config.profile(profile_name or options.profile)
    return _of_id(context, Target(session_id, profile), options, looked, typed=typed)


def _of_url(context: Context, url: str, options: CloseOptions, *, typed: bool) -> Target | Outcome:
    """Resolve a pasted URL: whoever holds it may end what it opens, so no row is needed; a row that has it is used."""
    from bsess import pasted

    if typed and pasted.holds_secret(url):
        context.warn("a URL's token on the command line is there for all to read; `bsess close -` reads it from a pipe")
    row = _row_with(context, url)
    if row is not None and row.profile in context.config.profiles:
        return _of_row(context, row, options, typed=typed)
    found = pasted.read(url, context.config, typed=typed)
    return Target(found.id, found.profile, url=url, connects=found.connects)


def _row_with(context: Context, url: str) -> Row | None:
    """Return the open row of a session that this URL ends or opens."""
    ledger = context.ledger_or_none()
    rows = [] if ledger is None else ledger.open_rows()
    return next((row for row in rows if any(_same_place(url, own) for own in (row.stop_url, row.connect_url))), None)


def _same_place(url: str, other: str | None) -> bool:
    if other is None:
        return False
    return network.origin(url) == network.origin(other) and urlsplit(url).path == urlsplit(other).path


def _of_row(
    context: Context, row: Row, options: CloseOptions, *, typed: bool, whole: str | None = None
) -> Target | Outcome:
    """Resolve a row; `whole`, if given, is what must be the whole id of a foreign one."""

    def outcome(kind: OutcomeKind, reason: str) -> Outcome:
        return Outcome(row.shown_id, row.profile, row.provider, kind, reason=reason)

    if row.state is RowState.CLOSED:
        return outcome(OutcomeKind.ALREADY_CLOSED, "the ledger has its end")
    profile = inventory.profile_of(context, row)
    if profile is None:
        return _unresolved(row)
    mine = row.owner == context.config.owner.value
    if not mine and whole is not None and whole not in (row.id, row.key):
        raise UsageError(
            f"{whole} is the start of {row.owner}'s session {row.shown_id}",
            code="id_foreign",
            hint="give its whole id if that is what is to end",
        )
    if not typed:
        if not mine and not options.foreign:
            return outcome(OutcomeKind.SKIPPED, f"foreign: {row.owner}'s; --foreign ends it all the same")
        session = Session(row.shown_id, profile.name, row.provider, Status.RECORDED, mine=mine, labels=row.labels)
        why = protection(session, context.config.protect.value, context.now())
        if why is not None:
            return outcome(OutcomeKind.PROTECTED, why)
    return Target(row.shown_id, profile, row, foreign=None if mine else f"{row.owner}'s")


def _unresolved(row: Row) -> Outcome:
    error = UsageError(
        f"{row.shown_id}: its profile {row.profile} is not configured any more",
        code="profile_unknown",
        hint=f"put profiles.{row.profile} back into the config file",
        session=row.shown_id,
    )
    return Outcome(
        row.shown_id,
        row.profile,
        row.provider,
        OutcomeKind.FAILED,
        reason=error.message,
        exit_code=ExitCode.USAGE,
        problem=inventory.problem(error),
    )


def _of_id(
    context: Context, target: Target, options: CloseOptions, looked: _Looked, *, typed: bool
) -> Target | Outcome:
    """Resolve an id that the ledger does not know: a typed one is consent, a read one must be mine by its tag."""
    session_id, profile = target.id, target.profile
    try:
        remote = looked.get(profile, session_id)
    except BsessError as error:
        if typed:
            return target
        if error.code != UNSUPPORTED:
            raise
        return _not_mine(session_id, profile, "the ledger does not know it; its id must be typed")
    if remote is None:
        return _of_nothing(target, options, typed=typed)
    # A session may have been named by another id than the ledger's.
    row = _row_of(context, remote.id) if remote.id != session_id else None
    if row is not None:
        return _of_row(context, row, options, typed=typed)
    return _of_remote(context, target, remote, options, typed=typed)


def _of_nothing(target: Target, options: CloseOptions, *, typed: bool) -> Target | Outcome:
    """Resolve an id that nobody knows: it is asked for all the same, where it was typed."""
    if options.dry_run and typed:
        return outcomes.of_answer(target, CloseAnswer(CloseState.ABSENT), known_here=True)
    if typed or options.foreign:
        return target
    return _not_mine(target.id, target.profile, f"neither the ledger nor profile {target.profile.name} knows it")


def _of_remote(
    context: Context, target: Target, remote: RemoteSession, options: CloseOptions, *, typed: bool
) -> Target | Outcome:
    known = known_session(context, target.profile, row=None, remote=remote)
    if known.session.mine:
        return target
    whose = f"{known.session.owner}'s" if known.session.owner else "of unknown owner"
    if typed or options.foreign:
        return replace(target, foreign=whose)
    reason = f"foreign: {whose}; --foreign ends it all the same"
    return Outcome(target.id, target.profile.name, target.profile.provider, OutcomeKind.SKIPPED, reason=reason)


def _row_of(context: Context, session_id: str) -> Row | None:
    """Return the ledger's row of what was given by another of its names."""
    ledger = context.ledger_or_none()
    rows = [] if ledger is None else ledger.find(session_id)
    return next((row for row in rows if row.state is not RowState.CLOSED), None)


def _not_mine(session_id: str, profile: Profile, why: str) -> Outcome:
    return Outcome(session_id, profile.name, profile.provider, OutcomeKind.SKIPPED, reason=f"not mine: {why}")
