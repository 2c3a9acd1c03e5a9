"""Whole sweeps over generated accounts and ledgers: what no sweep may ever end, and what every one of them keeps to.

The provider and the ledger are of this process; what lists, joins, decides and acts is the real thing.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bsess import config
from bsess.closing import Manner, Target
from bsess.closing.many import close_all
from bsess.commands.sweep import SweepOptions, sweep
from bsess.context import Context, this_process
from bsess.ledger import Row, RowState
from bsess.model import CLOCK_SLACK_SECONDS, OutcomeKind, Owner, Process
from bsess.providers.base import Capability, CloseAnswer, CloseState, Listing, RemoteSession
from bsess.sweep import plan as plans

NOW = 1_800_000_000.0
ME, SHE = "me", "she"
HERE = this_process()
DEAD = replace(HERE, pid=2**22 + 7)
ELSEWHERE = Process(1, "1", "another-host", "another-boot", "1")


@dataclass
class Account:
    """A service's sessions; `ended` are the ids that it was asked to end."""

    sessions: dict[str, RemoteSession]
    complete: bool
    finds: bool
    clock_ahead: float | None
    ended: list[str] = field(default_factory=list)

    name = "memory"
    base_url = "memory:"
    account = "a"
    secret = None

    @property
    def capabilities(self):
        return frozenset({Capability.FIND} if self.finds else ())

    def list(self):
        return Listing(sessions=tuple(self.sessions.values()), complete=self.complete)

    def get(self, session_id):
        return self.sessions.get(session_id)

    def find(self, key):
        return tuple(item for item in self.sessions.values() if item.owner is not None and item.owner.key == key)

    def close(self, target):
        self.ended.append(target.id)
        found = self.sessions.pop(target.id, None)
        return CloseAnswer(CloseState.ABSENT if found is None else CloseState.ENDED)

    def is_id(self, _):
        return True

    def disconnect(self):
        pass


class Ledger:
    """A ledger in memory, with the compare-and-set of a real one."""

    location = "memory"

    def __init__(self, rows):
        self.rows = {row.key: row for row in rows}
        self._lock = threading.Lock()

    def change(self, row, *, event=None):
        with self._lock:
            if self.rows[row.key].version != row.version:
                return None
            self.rows[row.key] = replace(row, version=row.version + 1)
            return self.rows[row.key]

    def change_all(self, changes):
        for row, event in changes:
            self.change(row, event=event)

    def insert(self, rows):
        self.rows |= {row.key: row for row, _ in rows}

    def get(self, key):
        return self.rows.get(key)

    def open_rows(self):
        return [row for row in self.rows.values() if row.state is not RowState.CLOSED]

    def record(self, events):
        pass

    def close(self):
        pass


@dataclass(slots=True)
class World(Context):
    """A context whose one account and ledger are given."""

    at: Account | None = None

    def provider(self, profile):
        if profile.name == "p":
            return self.at
        return super(World, self).provider(profile)


@pytest.fixture(scope="module")
def configured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("properties")
    (folder / "state").mkdir(mode=0o700)
    (folder / "config.toml").write_text('default = "p"\n[profiles.p]\nprovider = "memory"\n')
    return config.load(
        {"BSESS_CONFIG": str(folder / "config.toml"), "BSESS_STATE_DIR": str(folder / "state"), "BSESS_OWNER": ME}
    )


# Dense where a clock that is five minutes off makes a difference.
offsets = st.sampled_from([-4000, -700, -301, -299, -100, -1, 0, 1, 100, 299, 301, 700, 4000])
moments = st.one_of(st.none(), offsets.map(lambda seconds: NOW + seconds))
some_labels = st.sampled_from([{}, {}, {}, {"a": "1"}, {"a": ""}, {"keep": ""}])


@st.composite
def sessions(draw, index):
    """One session as its provider and as the ledger know it; either may know nothing."""
    ahead = draw(st.sampled_from([0.0, 0.0, 300.0, -300.0, None]))
    owner = draw(st.sampled_from([ME, ME, ME, ME, SHE, None]))
    remote = row = None
    key = f"key{index}"
    if draw(st.integers(0, 4)):
        tag = None if owner is None else Owner(owner, key=draw(st.sampled_from([key, None])))
        live = draw(st.integers(0, 9)) > 0
        remote = RemoteSession(
            f"id{index}", "running" if live else "ended", live=live, created_at=draw(moments), expires_at=draw(moments),
            owner=tag, labels=draw(some_labels) if owner else {}, clock_ahead=ahead,
        )  # fmt: skip
    if remote is None or draw(st.booleans()):
        state = draw(st.sampled_from([*[RowState.OPEN] * 4, RowState.INTENT, RowState.CLOSING]))
        whose = owner or draw(st.sampled_from([ME, SHE]))
        row = Row(
            key=key, provider="memory", base_url="memory:", account="a", profile="p", state=state, owner=whose,
            created_at=NOW - 1000, changed_at=NOW - draw(st.sampled_from([0, 10, 500])),
            id=None if state is RowState.INTENT else f"id{index}", labels=draw(some_labels), expires_at=draw(moments),
            settled_by=draw(st.sampled_from([NOW - 100, NOW + 100])),
            creator=draw(st.sampled_from([HERE, DEAD, ELSEWHERE])),
            owner_process=draw(st.sampled_from([None, None, HERE, DEAD, ELSEWHERE])), lease_until=draw(moments),
            claim=DEAD if state is RowState.CLOSING else None, claimed_at=NOW if state is RowState.CLOSING else None,
            failure=draw(st.sampled_from([None, None, None, None, "no answer"])),
        )  # fmt: skip
    return remote, row


@st.composite
def worlds(draw):
    count = draw(st.integers(1, 6))
    made = [draw(sessions(index)) for index in range(count)]
    remotes = {remote.id: remote for remote, _ in made if remote is not None}
    rows = [row for _, row in made if row is not None]
    account = Account(remotes, complete=draw(st.booleans()), finds=draw(st.booleans()), clock_ahead=0.0)
    return account, rows


rules = st.builds(
    dict,
    older_than=st.one_of(st.none(), st.sampled_from([0.0, 500.0, 3000.0])),
    min_age=st.sampled_from([None, 0.0, 600.0]),
    labels=st.sampled_from([{}, {}, {}, {}, {"a": "1"}]),
    protect=st.sampled_from([(), ("label:a",), ("id:id0",)]),
)


def run(configured, world, **options):
    """Sweep a copy of a world; the result and what its provider was asked to end."""
    account, rows = world
    at = replace(account, sessions=dict(account.sessions), ended=[])
    context = World(config=configured, environment={}, command="sweep", now=lambda: NOW, at=at)
    context._ledger = Ledger(rows)
    return sweep(context, SweepOptions(**options)), at.ended, context


def ends(result):
    return {decision.id for decision in result.decisions if decision.end}


def of_id(world, session_id):
    account, rows = world
    row = next((row for row in rows if session_id in (row.id, row.key)), None)
    remote = account.sessions.get(session_id)
    if row is None and remote is not None and remote.owner is not None:
        row = next((row for row in rows if row.key == remote.owner.key), None)
    return remote, row


many = settings(max_examples=800, deadline=None)


@many
@given(worlds(), rules)
def test_a_dry_run_shows_just_what_a_run_ends(configured, world, options):
    shown, asked, _ = run(configured, world, dry_run=True, **options)
    assert asked == []
    done, ended, _ = run(configured, world, **options)
    assert set(ended) == ends(shown) == ends(done)
    acted = {item.id for item in done.outcomes if item.id in ends(shown)}
    assert acted == ends(shown)


@many
@given(worlds(), rules)
def test_no_foreign_and_no_protected_session_is_ended(configured, world, options):
    _, ended, _ = run(configured, world, **options)
    for session_id in ended:
        remote, row = of_id(world, session_id)
        owners = {row.owner if row else None, remote.owner.name if remote and remote.owner else None}
        assert ME in owners
        labels = {**(remote.labels if remote else {}), **(row.labels if row else {})}
        assert "keep" not in labels
        assert not ("label:a" in options["protect"] and "a" in labels)
        assert not ("id:id0" in options["protect"] and session_id == "id0")


@many
@given(worlds(), rules)
def test_nothing_held_is_ended_before_its_ttl_nor_the_young_by_age(configured, world, options):
    result, ended, _ = run(configured, world, **options)
    reasons = {decision.id: decision.reason for decision in result.decisions}
    for session_id in ended:
        remote, row = of_id(world, session_id)
        if remote is not None and not remote.live:
            continue
        if reasons[session_id].startswith("ttl passed"):
            assert passed(remote, row), reasons[session_id]
            continue
        if row is not None and (row.failure or row.state in (RowState.CLOSING, RowState.INTENT)):
            continue
        assert row is None or not held(row), reasons[session_id]
        if reasons[session_id].startswith("older than"):
            assert youngest(remote, row) >= (60.0 if options["min_age"] is None else options["min_age"])


def held(row):
    slack = CLOCK_SLACK_SECONDS if row.creator == ELSEWHERE else 0
    leased = row.lease_until is not None and row.lease_until + slack > NOW
    return row.owner_process == HERE or (row.owner_process in (None, ELSEWHERE) and leased)


def passed(remote, row):
    """Whether a ttl has passed by the clock that told it, with slack where no clock is known."""
    if row is not None and row.expires_at is not None:
        if remote is not None and remote.created_at is not None:
            ahead = -CLOCK_SLACK_SECONDS if remote.clock_ahead is None else remote.clock_ahead
            if remote.created_at + (row.expires_at - row.created_at) - ahead <= NOW:
                return True
        elif row.expires_at + (CLOCK_SLACK_SECONDS if row.creator == ELSEWHERE else 0) <= NOW:
            return True
    if remote is None or remote.expires_at is None:
        return False
    ahead = -CLOCK_SLACK_SECONDS if remote.clock_ahead is None else remote.clock_ahead
    return remote.expires_at - ahead <= NOW


def youngest(remote, row):
    if remote is None or remote.created_at is None:
        return NOW - row.created_at
    return NOW - remote.created_at + (-CLOCK_SLACK_SECONDS if remote.clock_ahead is None else remote.clock_ahead)


@many
@given(worlds(), rules, st.sampled_from(["label:a", "id:id0", "id:id1", "label:keep"]))
def test_more_protection_never_ends_more(configured, world, options, more):
    _, ended, _ = run(configured, world, **options)
    _, fewer, _ = run(configured, world, **{**options, "protect": (*options["protect"], more)})
    assert set(fewer) <= set(ended)


@many
@given(worlds(), worlds(), rules, rules, st.sets(st.sampled_from([f"id{index}" for index in range(6)])))
def test_a_plan_only_subtracts(configured, world, other, options, later, dropped):
    planned, _, context = run(configured, world, dry_run=True, **options)
    known = {item.id: item for item in context_sessions(context)}
    chosen = [(known[item.id], item) for item in planned.decisions if item.end and item.id not in dropped]
    text = plans.document(chosen, now=NOW)
    # The world and the rules may be others by then.
    for then in (world, other):
        without, all_ended, _ = run(configured, then, **later)
        _, ended, _ = run(configured, then, plan=plans.read(text, name="plan"), **later)
        assert set(ended) <= {item.id for _, item in chosen}
        assert set(ended) <= set(all_ended)
        assert without.exit_code == 0


def context_sessions(context):
    from bsess import inventory

    return [item.session for item in inventory.look(context).known]


@many
@given(worlds(), rules)
def test_a_second_sweep_has_nothing_to_end(configured, world, options):
    result, _, context = run(configured, world, **options)
    assert {item.outcome for item in result.outcomes} <= {OutcomeKind.CLOSED, OutcomeKind.ALREADY_CLOSED}
    context.at.ended.clear()
    again = sweep(context, SweepOptions(**options))
    assert context.at.ended == []
    assert ends(again) == set()


class Deaf(Account):
    """One that accepts every close and ends nothing."""

    def close(self, target):
        return CloseAnswer(CloseState.ACCEPTED)


@dataclass(slots=True)
class TwoAccounts(Context):
    """A context of two profiles at one place, each with an account of its own."""

    accounts: dict | None = None

    def provider(self, profile):
        return self.accounts[profile.name]


def test_what_one_account_lists_proves_nothing_of_another_at_the_same_place(configured):
    names = {"a": ["a1", "a2"], "b": ["b1", "b2"]}
    accounts = {
        name: Deaf(
            {i: RemoteSession(i, "running", live=True) for i in ids}, complete=True, finds=False, clock_ahead=0.0
        )
        for name, ids in names.items()
    }
    profiles = {name: replace(configured.profiles["p"], name=name) for name in names}
    context = TwoAccounts(config=configured, environment={}, command="close", accounts=accounts)
    context._ledger = Ledger([])
    targets = [Target(session_id, profiles[name]) for name, ids in names.items() for session_id in ids]
    outcomes = close_all(context, targets, lambda _: Manner(wait=0.2), lambda _: None)
    assert {item.id: item.outcome for item in outcomes} == dict.fromkeys(["a1", "a2", "b1", "b2"], OutcomeKind.STUCK)


@pytest.mark.parametrize("delivered", [False, True])
def test_a_create_that_was_answered_after_it_was_chosen_is_no_lost_one(configured, delivered):
    """Its process had ended when a sweep looked for it, and its row was read before it told of the session."""
    account = Account({"s": RemoteSession("s", "running", live=True)}, complete=True, finds=False, clock_ahead=0.0)
    context = World(config=configured, environment={}, command="sweep", at=account)
    asked = Row(
        key="k", provider="memory", base_url="memory:", account="a", profile="p", state=RowState.INTENT, owner=ME,
        created_at=NOW, changed_at=NOW, id="s", creator=DEAD,
    )  # fmt: skip
    context._ledger = Ledger([replace(asked, state=RowState.OPEN, version=2) if delivered else asked])
    target = Target("s", configured.profiles["p"], asked)
    (outcome,) = close_all(context, [target], lambda _: Manner(wait=0.2, as_chosen=True), lambda _: None)
    assert outcome.outcome == (OutcomeKind.SKIPPED if delivered else OutcomeKind.CLOSED)
    assert account.ended == ([] if delivered else ["s"])
