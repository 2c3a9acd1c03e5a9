"""`bsess create`: make sessions, each on record before it is asked for."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, cast

from bsess import config as settings
from bsess import durations, inventory
from bsess.closing import Manner, Target
from bsess.closing.one import close_one
from bsess.context import Context, identify, new_key, seal, this_process
from bsess.errors import BsessError, ExitCode, UnreachableError, UsageError
from bsess.known import Known, carries, known_session, on_this_clock
from bsess.ledger import Row, RowState
from bsess.model import LABEL_KEEP_UNTIL, Owner, Process, Result, Session
from bsess.providers.base import SLOTS, Capability, CloseTarget, CreateRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bsess.config import Profile
    from bsess.providers.base import Finds, Provider, RemoteSession

LEASE_SECONDS = 120.0
COUNT_MAX = 1000
# How many ids a line of an error has room for.
HOLDERS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """What `create` and `run` take. `ttl` is in seconds; `options` goes to the provider as it is."""

    profile: str | None = None
    region: str | None = None
    ttl: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    count: int = 1
    owner_pid: int | None = None
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """A session just made: as commands show it, its row, and what people should know."""

    session: Session
    row: Row
    profile: Profile
    notes: tuple[str, ...] = ()


def create(context: Context, options: CreateOptions) -> Result:
    """Make `count` sessions; what exists is kept and told also where some failed."""
    if not 1 <= options.count <= COUNT_MAX:
        raise UsageError(f"--count {options.count} is not between 1 and {COUNT_MAX}")
    owner_process = None if options.owner_pid is None else identify(options.owner_pid)
    maker = Maker(context, options, default_ttl=settings.CREATE_TTL, owner_process=owner_process)
    with maker.closing_when_stopped():
        made, errors = _make_many(context, maker, options.count)
    if not made:
        raise errors[0]
    return Result(
        "create",
        exit_code=ExitCode.PARTIAL if errors else ExitCode.OK,
        sessions=tuple(item.session for item in made),
        errors=tuple(inventory.problem(error) for error in errors),
        notes=tuple(dict.fromkeys(note for item in made for note in item.notes)),
    )


def deliver(context: Context, result: Result) -> None:
    """Record that somebody has been told of the sessions.

    Until then their rows are intents: a create that dies before its answer is out made them for nobody, and the next
    sweep ends them.
    """
    ledger = context.ledger()
    for session in result.sessions or ():
        for row in ledger.find(session.id):
            if row.state is RowState.INTENT:
                ledger.change(replace(row, state=RowState.OPEN, changed_at=context.now()))


def undo(context: Context, result: Result) -> None:
    """End the sessions of a create whose result nobody could be told."""
    for session in result.sessions or ():
        rows = context.ledger().find(session.id)
        profile = context.config.profile(session.profile)
        close_one(context, Target(session.id, profile, rows[0]), Manner(force=True, reason="its id reached nobody"))


class Maker:
    """Makes sessions of one kind, for one owner; remembers those under way, so that a signal can end them."""

    def __init__(
        self,
        context: Context,
        options: CreateOptions,
        *,
        default_ttl: float,
        owner_process: Process | None = None,
        lease: bool = False,
        run: str | None = None,
    ) -> None:
        config = context.config
        self._context = context
        self._profile = config.profile(options.profile)
        self._labels = {**self._profile.labels, **options.labels}
        _check_keep_until(self._labels)
        self._options = options
        self._owner_process = owner_process
        self._lease = lease
        self._run = run or config.run.value
        self._ttl = next(ttl for ttl in (options.ttl, self._profile.ttl, default_ttl) if ttl is not None)
        self._region = options.region or self._profile.region
        provider = context.provider(self._profile)
        _check_ttl(self._ttl, provider)
        provider.validate(self._request(new_key()))
        context.ledger()  # no ledger, no create
        self._under_way: dict[str, Row] = {}
        self._stopped = False
        self._holders: str | None = None
        self._lock = threading.Lock()

    def make(self) -> Made:
        """Make one session. Raises BsessError; the ledger then knows what may exist all the same."""
        context = self._context
        provider = context.provider(self._profile)
        request = self._request(new_key())
        row = self._intent(provider, request)
        with self._lock:
            self._under_way[row.key] = row
        context.ledger().intend(row)
        try:
            if self._stopped:
                raise BsessError("stopped before it was asked for", code="stopped")  # noqa: TRY301  recorded below
            remote = provider.create(request)
        except BsessError as error:
            found = self._found_again(provider, row, error)
            if found is None:
                self._record_failure(row, error)
                if error.code == SLOTS:
                    error.hint = self._who_holds_them() or error.hint
                elif isinstance(error, UnreachableError) and error.sent:
                    error.hint = "it may have been made: the ledger has it, and `bsess sweep` settles it"
                raise
            remote = found
        return self._opened(row, remote)

    def _found_again(self, provider: Provider, row: Row, error: BsessError) -> RemoteSession | None:
        """Look for the session of a create whose answer was lost: it was made, or it was not; never make another."""
        lost = isinstance(error, UnreachableError) and error.sent
        if not lost or Capability.FIND not in provider.capabilities:
            return None
        try:
            living = [
                remote for remote in cast("Finds", provider).find(row.key) if remote.live and carries(remote, row)
            ]
            # A listing has no connect URL.
            return provider.get(living[0].id) if living else None
        except BsessError:
            return None

    def end_all(self) -> None:
        """End all that was made or is being made, forced and without waiting for proof; make nothing more."""
        self._stopped = True
        with self._lock:
            rows = list(self._under_way.values())
        for row in rows:
            current = self._context.ledger().get(row.key)
            if current is not None and current.state is not RowState.CLOSED:
                target = Target(row.shown_id, self._profile, current)
                close_one(self._context, target, Manner(force=True, reason="its maker was stopped by a signal"))

    def closing_when_stopped(self) -> _ClosingWhenStopped:
        """Return a context manager that ends all of it if the block is left by a signal."""
        return _ClosingWhenStopped(self)

    def _request(self, key: str) -> CreateRequest:
        return CreateRequest(
            owner=Owner(self._context.config.owner.value, self._run, key),
            key=key,
            ttl=self._ttl,
            start_seconds=min(self._context.timeout, self._context.seconds_left()),
            labels=self._labels,
            region=self._region,
            options=self._options.options,
        )

    def _intent(self, provider: Provider, request: CreateRequest) -> Row:
        now = self._context.now()
        return Row(
            key=request.key,
            provider=provider.name,
            base_url=provider.base_url,
            account=provider.account,
            profile=self._profile.name,
            state=RowState.INTENT,
            owner=request.owner.name,
            created_at=now,
            changed_at=now,
            id=provider.planned_id(request),
            run=request.owner.run,
            region=request.region,
            labels=request.labels,
            expires_at=now + request.ttl,
            settled_by=now + self._seconds_at_most(request),
            creator=this_process(),
            owner_process=self._owner_process,
            lease_until=now + LEASE_SECONDS if self._lease else None,
        )

    def _seconds_at_most(self, request: CreateRequest) -> float:
        # All of a create's sessions are told of together, at its end: until its deadline each may be waited for.
        left = self._context.seconds_left()
        return request.start_seconds if left == float("inf") else left

    def _opened(self, row: Row, remote: RemoteSession) -> Made:
        context = self._context
        provider = context.provider(self._profile)
        wanted = replace(
            row,
            id=remote.id,
            created_at=on_this_clock(remote, remote.created_at) or row.created_at,
            changed_at=context.now(),
            expires_at=on_this_clock(remote, remote.expires_at) or row.expires_at,
            region=remote.region or row.region,
            connect_url=seal(provider, remote.connect_url),
            stop_url=seal(provider, remote.stop_url),
            query_url=seal(provider, remote.query_url),
        )
        opened = context.ledger().change(wanted, event=inventory.event(context, wanted, "created"))
        if opened is None:
            # Whoever ended it may have found nothing yet: its browser came after.
            provider.close(CloseTarget(remote.id, force=True, stop_url=remote.stop_url))
            raise BsessError(f"{remote.id}: another process ended it while it was made", code="ended_meanwhile")
        with self._lock:
            self._under_way[row.key] = opened
        known = known_session(context, self._profile, row=opened, remote=remote)
        return Made(known.session, opened, self._profile, remote.notes)

    def _record_failure(self, row: Row, error: BsessError) -> None:
        context = self._context
        with self._lock:
            self._under_way.pop(row.key, None)
        line = inventory.event(context, row, "failed", outcome=error.code, reason=error.message)
        # A refusal proves that nothing was made, and so does a request that never left; after silence the intent
        # stays, for the sweep to settle.
        state = RowState.INTENT if isinstance(error, UnreachableError) and error.sent else RowState.CLOSED
        context.ledger().change(replace(row, state=state, changed_at=context.now()), event=line)

    def _who_holds_them(self) -> str | None:
        """Return which sessions of mine take the account's slots, as it lists them now, and how to end the oldest."""
        with self._lock:
            if self._holders is None:
                self._holders = _holders(self._context, self._profile)
        return self._holders or None


def _holders(context: Context, profile: Profile) -> str:
    try:
        found = inventory.look(context, [profile.name])
    except BsessError:
        return ""
    live = sorted((known for known in found.known if _is_there(known)), key=lambda item: item.session.created_at or 0.0)
    ids = [known.session.id for known in live if known.session.mine]
    if not ids:
        return "none of those that hold them is mine; waiting does not help" if live else ""
    more = f" and {len(ids) - HOLDERS_SHOWN} more" if len(ids) > HOLDERS_SHOWN else ""
    return f"of mine {', '.join(ids[:HOLDERS_SHOWN])}{more} hold slots; the oldest: bsess close {ids[0]} --force"


def _is_there(known: Known) -> bool:
    if known.remote is not None:
        return known.session.live
    return known.row is not None and known.row.id is not None and known.row.state is not RowState.INTENT


class _ClosingWhenStopped:
    def __init__(self, maker: Maker) -> None:
        self._maker = maker

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is not None and not isinstance(error, Exception):
            self._maker.end_all()


def _make_many(context: Context, maker: Maker, count: int) -> tuple[list[Made], list[BsessError]]:
    made: list[Made] = []
    errors: list[BsessError] = []
    context.expect(count)
    for result in _results(context, maker, count):
        if isinstance(result, BsessError):
            errors.append(result)
        else:
            made.append(result)
            context.emit(result.session)
    return made, errors


def _results(context: Context, maker: Maker, count: int) -> Iterator[Made | BsessError]:
    def work() -> Made | BsessError:
        try:
            return maker.make()
        except BsessError as error:
            return error

    if count == 1:
        yield work()
        return
    from concurrent.futures import ThreadPoolExecutor, as_completed  # 6 ms, and one create needs none

    with ThreadPoolExecutor(min(context.workers, count), thread_name_prefix="create") as pool:
        futures = [pool.submit(work) for _ in range(count)]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            maker.end_all()
            raise


def _check_ttl(ttl: float, provider: Provider) -> None:
    low, high = provider.ttl_bounds
    if not low <= ttl <= high:
        raise UsageError(
            f"a ttl of {durations.show(ttl)} is out of bounds for {provider.name}",
            code="ttl_bounds",
            hint=f"from {durations.written(low)} to {durations.written(high)}",
        )


def _check_keep_until(labels: Mapping[str, str]) -> None:
    text = labels.get(LABEL_KEEP_UNTIL)
    if text is None:
        return
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise UsageError(
            f"label {LABEL_KEEP_UNTIL}={text[:40]!r} is no time with a zone",
            hint=f"{LABEL_KEEP_UNTIL}=2030-01-31T12:00:00Z",
        )
