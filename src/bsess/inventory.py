"""What exists, as the ledger and the providers together know it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from threading import Thread
from typing import TYPE_CHECKING, cast

from bsess import config, verdict
from bsess.errors import BsessError, ExitCode
from bsess.known import Known, carries, create_is_over, known_session, same_account
from bsess.ledger import Row, RowState
from bsess.model import CLOCK_SLACK_SECONDS, Event, Problem, Status
from bsess.providers.base import Capability, Listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bsess.config import Profile
    from bsess.context import Context
    from bsess.providers.base import (
        Finds,
        Provider,
        RemembersPast,
        RemoteSession,
        SeesRunning,
    )

# A look-up by tag may lag behind a create by this much.
MISSED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Ended:
    """An open row whose session is proven to have ended, and how that is known."""

    row: Row
    reason: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """One look at all accounts in scope.

    `looked_at` names the profiles of those that answered, `missed` of those that did not; `unanswered` says why, and
    `failures` what else went wrong, with exit codes. `told`: whether an account answered that somebody configured, or
    that has sessions.
    """

    known: tuple[Known, ...]
    ended: tuple[Ended, ...] = ()
    failures: tuple[tuple[Problem, int], ...] = ()
    unanswered: tuple[tuple[Problem, int], ...] = ()
    looked_at: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()
    told: bool = False

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What to tell of the accounts that could not be looked at."""
        return tuple(problem for problem, _ in self.unanswered + self.failures)

    @property
    def exit_code(self) -> int:
        """0 if all could be looked at, PARTIAL if some, and the failures' own code if none."""
        codes = [code for _, code in self.unanswered + self.failures]
        if not codes:
            return ExitCode.OK
        # That this machine, of which nobody spoke, has no sessions is no success beside what could not be looked at.
        return ExitCode.PARTIAL if self.told else verdict.of_failures(codes)


def look(
    context: Context, names: Sequence[str] = (), *, running: bool = False, before: Inventory | None = None
) -> Inventory:
    """List the named profiles, or all configured ones and every one with open rows, and join them with the ledger.

    `running`: with the browsers that a provider sees running but cannot tell the sessions of; they are foreign. What
    did not answer a look `before` is not asked again.
    """
    rows = context.ledger().open_rows()
    profiles = [context.config.profile(name) for name in names] or list(context.config.profiles.values())
    failures: list[tuple[Problem, int]] = []
    missed: list[str] = [] if before is None else list(before.missed)
    unanswered: list[tuple[Problem, int]] = [] if before is None else list(before.unanswered)
    known: list[Known] = [] if before is None else [item for item in before.known if item.profile.name in missed]
    held = {item.row.key for item in known if item.row is not None}
    rows = [row for row in rows if row.key not in held]
    ended: list[Ended] = []
    looked_at: list[str] = []
    told = before is not None and before.told
    profiles = [profile for profile in profiles if profile.name not in missed]
    groups = accounts(context, profiles, unanswered)
    began = context.now()
    for group, (listing, browsers) in zip(groups, _listings(context, groups, running=running), strict=True):
        provider = context.provider(group[0])
        own = [row for row in rows if same_account(row, provider)]
        rows = [row for row in rows if not same_account(row, provider)]
        everyone = group + (_namesakes(context, own, names, provider) if names else [])
        if isinstance(listing, BsessError):
            unanswered.append((problem(listing, profile=group[0].name), listing.exit_code))
            missed += [profile.name for profile in group]
            known.extend(_known_by_row(context, row, everyone) for row in own)
            continue
        looked_at += [profile.name for profile in group]
        joined, gone = _join(context, everyone, provider, listing, own, began)
        told = told or bool(joined or gone) or any(profile.source != config.DEFAULT for profile in group)
        known.extend(joined)
        ended.extend(gone)
        if listing.unreadable:
            rows_of_it = "one row" if listing.unreadable == 1 else f"{listing.unreadable} rows"
            message = f"profile {group[0].name}: {rows_of_it} of its listing cannot be read, and may be sessions"
            failures.append((Problem("malformed", message), ExitCode.UNREACHABLE))
        if isinstance(browsers, BsessError):
            failures.append((problem(browsers, profile=group[0].name), browsers.exit_code))
        else:
            known.extend(known_session(context, group[0], row=None, remote=remote) for remote in browsers)
    loaded = {profile.name for group in groups for profile in group}
    unloaded = {profile.name for profile in profiles} - loaded
    missed += sorted(unloaded)
    if not names:
        lost = [row for row in rows if row.profile not in missed]
        # Nobody can list them any more, so that their ttl alone tells their end.
        over = [
            row for row in lost if row.expires_at is not None and row.expires_at + CLOCK_SLACK_SECONDS <= context.now()
        ]
        ended.extend(Ended(row, "ttl passed, and no profile leads to its account") for row in over)
        failures.extend(_unreachable(row for row in lost if row not in over))
    return Inventory(
        tuple(known), tuple(ended), tuple(failures), tuple(unanswered), tuple(looked_at), tuple(missed), told
    )


def profile_of(context: Context, row: Row) -> Profile | None:
    """Return the profile that leads to a row's session: its own, else one that was renamed; None where none does."""
    own = context.config.profiles.get(row.profile)
    if own is not None:
        return own
    for profile in context.config.profiles.values():
        try:
            if same_account(row, context.provider(profile)):
                return profile
        except BsessError:
            continue
    return None


def _namesakes(context: Context, rows: Iterable[Row], names: Sequence[str], provider: Provider) -> list[Profile]:
    """Return the profiles beside those named that made some of these rows and lead to the same account still."""
    found = []
    for name in sorted({row.profile for row in rows} - set(names)):
        profile = context.config.profiles.get(name)
        try:
            other = None if profile is None else context.provider(profile)
        except BsessError:
            continue
        if profile is not None and other is not None and _place(other) == _place(provider):
            found.append(profile)
    return found


def _place(provider: Provider) -> tuple[str, str, str]:
    return provider.name, provider.base_url, provider.account


@dataclass(frozen=True, slots=True)
class Past:
    """Which of the sessions that providers remember are asked for: of a status, or of any, with these labels."""

    status: str | None
    labels: Mapping[str, str]


def past(
    context: Context, found: Inventory, names: Sequence[str], wanted: Past, failures: list[tuple[Problem, int]]
) -> Iterator[Known]:
    """Yield the remembered sessions that an inventory has not; what cannot be asked is added to `failures`.

    There may be many times as many as live, so that nobody is to hold them all.
    """
    profiles = [context.config.profile(name) for name in names] or list(context.config.profiles.values())
    known = {(item.profile.name, item.session.id) for item in found.known}
    unresolved: list[tuple[Problem, int]] = []  # told of by the inventory
    for group in accounts(context, profiles, unresolved):
        provider = context.provider(group[0])
        if Capability.PAST not in provider.capabilities:
            continue
        own = {profile.name for profile in group}
        listed = {session_id for name, session_id in known if name in own}
        try:
            for remote in cast("RemembersPast", provider).past(wanted.status, wanted.labels):
                if remote.id not in listed:
                    yield known_session(context, group[0], row=None, remote=remote)
        except BsessError as error:
            failures.append((problem(error, profile=group[0].name), error.exit_code))


_Listed = tuple["Listing | BsessError", "tuple[RemoteSession, ...] | BsessError"]


def _listings(context: Context, groups: Sequence[Sequence[Profile]], *, running: bool) -> list[_Listed]:
    """List all accounts at a time, and with `running` their browsers: one that is down keeps no other waiting."""
    found: list[_Listed | BaseException] = [_unlisted()] * len(groups)

    def look_at(index: int) -> None:
        try:
            found[index] = _listed(context.provider(groups[index][0]), running=running)
        except BaseException as error:  # noqa: BLE001  raised again below, by the thread that asked
            found[index] = error

    threads = [Thread(target=look_at, args=(index,), daemon=True) for index in range(1, len(groups))]
    for thread in threads:
        thread.start()
    if groups:
        found[0] = _listed(context.provider(groups[0][0]), running=running)
    for thread in threads:
        thread.join()
    listed = []
    for item in found:
        if isinstance(item, BaseException):
            raise item
        listed.append(item)
    return listed


def _unlisted() -> _Listed:
    return Listing(sessions=()), ()


def _listed(provider: Provider, *, running: bool) -> _Listed:
    try:
        listing = provider.list()
    except BsessError as error:
        return error, ()
    if not running or Capability.RUNNING not in provider.capabilities:
        return listing, ()
    try:
        return listing, cast("SeesRunning", provider).running()
    except BsessError as error:
        return listing, error


def reconcile(context: Context, ended: Iterable[Ended]) -> list[Ended]:
    """Close the rows that are proven ended; return those that this process closed."""
    closed = []
    for item in ended:
        row = replace(item.row, state=RowState.CLOSED, changed_at=context.now())
        if context.ledger().change(row, event=event(context, item.row, "ended", reason=item.reason)) is not None:
            closed.append(item)
    return closed


def event(context: Context, row: Row, name: str, *, outcome: str | None = None, reason: str | None = None) -> Event:
    """Return a line of history about a row."""
    return Event(
        at=context.now(),
        event=name,
        command=context.command,
        id=row.shown_id,
        profile=row.profile,
        provider=row.provider,
        owner=row.owner,
        run=row.run,
        outcome=outcome,
        reason=reason,
    )


def problem(error: BsessError, *, profile: str | None = None) -> Problem:
    """Return an error as data; `profile` is said in front of it."""
    message = error.message if profile is None else f"profile {profile}: {error.message}"
    return Problem(code=error.code, message=message, hint=error.hint, session=error.session)


def _unreachable(rows: Iterable[Row]) -> Iterator[tuple[Problem, int]]:
    """Report open rows of accounts that no profile leads to: their sessions may live, and nobody here can tell."""
    counts = Counter((row.profile, row.base_url) for row in rows)
    for (name, url), count in sorted(counts.items()):
        sessions = "one open session" if count == 1 else f"{count} open sessions"
        message = f"profile {name}: {sessions} of it in the ledger, but no configured profile leads to its account"
        hint = f"put profiles.{name} back into the config file as it was, with its token and its place, {url}"
        yield Problem("profile_unknown", message, hint), ExitCode.USAGE


def accounts(context: Context, profiles: Sequence[Profile], problems: list[tuple[Problem, int]]) -> list[list[Profile]]:
    """Return the profiles grouped by account, which is looked at once; what cannot be resolved is added to problems."""
    groups: dict[tuple[str, str, str], list[Profile]] = {}
    for profile in profiles:
        try:
            provider = context.provider(profile)
        except BsessError as error:
            problems.append((problem(error), error.exit_code))
            continue
        groups.setdefault(_place(provider), []).append(profile)
    return list(groups.values())


def _join(
    context: Context, group: list[Profile], provider: Provider, listing: Listing, rows: Sequence[Row], began: float
) -> tuple[list[Known], list[Ended]]:
    by_id = {row.id: row for row in rows if row.id is not None}
    by_key = {row.key: row for row in rows}
    known, seen = [], set()
    for remote in listing.sessions:
        row = by_id.get(remote.id)
        if row is None and remote.owner is not None and remote.owner.key is not None:
            # An answer that was lost, or a session made after the rows were read.
            row = by_key.get(remote.owner.key) or context.ledger().get(remote.owner.key)
            if row is not None and (row.state is RowState.CLOSED or not carries(remote, row)):
                row = None
        # One create made one session: whatever else carries its tag is too much.
        extra = row is not None and (row.key in seen or (row.id is not None and row.id != remote.id))
        if row is not None and not extra:
            seen.add(row.key)
        found = known_session(context, _profile_of(group, row), row=None if extra else row, remote=remote)
        known.append(replace(found, extra=extra))
    ended = []
    for row in rows:
        if row.key in seen:
            continue
        if _proves_end(row, listing, began):
            ended.append(Ended(row, _end_reason(row, context.now())))
            continue
        found_again = _look_for(context, _profile_of(group, row), provider, row)
        if isinstance(found_again, Ended):
            ended.append(found_again)
        else:
            known.extend(found_again or [_known_by_row(context, row, group, recorded=listing.ttl_is_proof)])
    return known, ended


def _look_for(context: Context, profile: Profile, provider: Provider, row: Row) -> Ended | list[Known]:
    """Look for one session that a listing does not have, where its provider can find one; [] where nothing is known."""
    if Capability.FIND not in provider.capabilities:
        return []
    try:
        if row.id is not None:
            remote = provider.get(row.id)
            matches = [] if remote is None else [remote]
        elif create_is_over(row, context.now()):
            matches = [remote for remote in cast("Finds", provider).find(row.key) if carries(remote, row)]
        else:
            return []
    except BsessError:
        return []  # it may live: shown by its row
    living = [remote for remote in matches if remote.live]
    if living:
        first, *more = living
        extra = [replace(known_session(context, profile, row=None, remote=remote), extra=True) for remote in more]
        return [known_session(context, profile, row=row, remote=first), *extra]
    if row.id is None and not matches:
        return _missed(context, row)
    return Ended(row, f"it is {matches[0].status}" if matches else _end_reason(row, context.now()))


def _missed(context: Context, row: Row) -> Ended | list[Known]:
    """Count a look for a lost create that found nothing: two of them, a minute apart, prove that it was never made."""
    now = context.now()
    if row.missed_at is not None and row.missed_at + MISSED_SECONDS <= now:
        return Ended(row, "never made")
    if row.missed_at is None:
        context.ledger().change(replace(row, missed_at=now))
    return []


def _proves_end(row: Row, listing: Listing, began: float) -> bool:
    if listing.ttl_is_proof:
        return row.expires_at is not None and row.expires_at <= began
    return listing.complete and _proves_absence(row, began, listing.settle_seconds)


def _proves_absence(row: Row, began: float, settle_seconds: float) -> bool:
    if row.state is RowState.INTENT and not create_is_over(row, began):
        return False
    return row.changed_at + settle_seconds <= began


def _end_reason(row: Row, now: float) -> str:
    if row.state is RowState.INTENT:
        return "never made"
    if row.expires_at is not None and row.expires_at <= now:
        return "ttl passed"
    return "ended by itself or by somebody else"


def _known_by_row(context: Context, row: Row, group: list[Profile], *, recorded: bool = False) -> Known:
    known = known_session(context, _profile_of(group, row), row=row, remote=None)
    if not recorded or row.id is None or known.session.status == Status.CLOSING:
        return known
    return replace(known, session=replace(known.session, status=Status.RECORDED))


def _profile_of(group: list[Profile], row: Row | None) -> Profile:
    return next((profile for profile in group if row is not None and profile.name == row.profile), group[0])
