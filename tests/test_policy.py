"""The decision: each of its nine lines, and what no line may ever do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bsess.model import CLOCK_SLACK_SECONDS, Liveness, Session
from bsess.sweep.policy import Facts, Rules, decide

NOW = 1_800_000_000.0
MINE = Session(
    id="abcdef",
    profile="p",
    provider="memory",
    status="running",
    mine=True,
    owner="me",
    created_at=NOW - 600,
    expires_at=NOW + 600,
)


def decision(*, rules: Rules | None = None, session: Session = MINE, **facts):
    return decide(Facts(session, **facts), rules or Rules(), NOW)


@pytest.mark.parametrize(
    ("given_facts", "rules", "end", "reason"),
    [
        ({"session": replace(MINE, mine=False, owner="she", expires_at=NOW - 1)}, Rules(), False, "foreign: she's"),
        ({"session": replace(MINE, mine=False, owner=None)}, Rules(), False, "foreign: of unknown owner"),
        ({"session": replace(MINE, labels={"keep": ""}, expires_at=NOW - 1)}, Rules(), False, "protected: label keep"),
        (
            {"session": replace(MINE, labels={"keep-until": "2100-01-01T00:00:00Z"}, expires_at=NOW - 1)},
            Rules(),
            False,
            "protected: label keep-until=2100-01-01T00:00:00Z",
        ),
        (
            {"session": replace(MINE, labels={"keep-until": "2001-01-01T00:00:00Z"}, expires_at=NOW - 1)},
            Rules(),
            True,
            "ttl passed 1s ago",
        ),
        (
            {"session": replace(MINE, labels={"keep-until": "soon"}, expires_at=NOW - 1)},
            Rules(),
            False,
            "protected: label keep-until cannot be read",
        ),
        (
            {"session": replace(MINE, expires_at=NOW - 1)},
            Rules(protect=("id:abc",)),
            False,
            "protected: protect id:abc",
        ),
        (
            {"session": replace(MINE, labels={"a": "1"}, expires_at=NOW - 1)},
            Rules(protect=("label:a",)),
            False,
            "protected: protect label:a",
        ),
        (
            {"session": replace(MINE, labels={"a": "1"}, expires_at=NOW - 1)},
            Rules(protect=("label:a=2",)),
            True,
            "ttl passed 1s ago",
        ),
        (
            {"session": replace(MINE, expires_at=NOW - 1)},
            Rules(profiles=frozenset({"q"})),
            False,
            "not asked for: profile p",
        ),
        ({"session": replace(MINE, expires_at=NOW - 1)}, Rules(labels={"a": "1"}), False, "not asked for: label a"),
        ({"session": replace(MINE, expires_at=NOW - 1)}, Rules(region="sfo"), False, "not asked for: region unknown"),
        ({"session": replace(MINE, expires_at=NOW - 1, run="1")}, Rules(run="2"), False, "not asked for: run 1"),
        ({"session": replace(MINE, expires_at=NOW)}, Rules(), True, "ttl passed 0s ago"),
        ({"lost_create": True}, Rules(), True, "its create was never answered"),
        ({"failure": "no answer"}, Rules(), True, "an earlier close failed: no answer"),
        ({"owner_process": Liveness.ALIVE}, Rules(older_than=1.0), False, "its owner process lives"),
        ({"owner_process": Liveness.ALIVE, "lease_until": NOW - 1}, Rules(), False, "its owner process lives"),
        ({"owner_process": Liveness.DEAD, "lease_until": NOW + 60}, Rules(), True, "its owner process is gone"),
        (
            {"owner_process": Liveness.ELSEWHERE, "lease_until": NOW + 60},
            Rules(older_than=1.0),
            False,
            "its lease is held",
        ),
        ({"owner_process": Liveness.ELSEWHERE, "lease_until": NOW - 60}, Rules(), True, "its lease ran out 1m00s ago"),
        ({"owner_process": Liveness.ELSEWHERE}, Rules(), False, "in use: its ttl has not passed"),
        ({}, Rules(older_than=300.0), True, "older than 5m00s"),
        ({}, Rules(older_than=900.0), False, "not older than 15m00s"),
        ({"session": replace(MINE, created_at=NOW - 30)}, Rules(older_than=10.0), False, "younger than 1m00s"),
        ({"session": replace(MINE, created_at=None)}, Rules(older_than=1.0), False, "of unknown age"),
        ({}, Rules(), False, "in use: its ttl has not passed"),
    ],
)
def test_the_first_line_that_fits_decides(given_facts, rules, end, reason):
    made = decision(rules=rules, **given_facts)
    assert (made.end, made.reason) == (end, reason)


def test_another_machines_times_get_five_minutes_of_slack():
    late = replace(MINE, expires_at=NOW - CLOCK_SLACK_SECONDS + 1)
    assert decision(session=late).end
    assert not decision(session=late, local_times=False).end


times = st.one_of(st.none(), st.floats(min_value=NOW - 10_000, max_value=NOW + 10_000))
words = st.sampled_from(["a", "b", "c"])
label_sets = st.dictionaries(
    st.sampled_from(["a", "b", "keep", "keep-until"]),
    st.sampled_from(["", "1", "2100-01-01T00:00:00Z", "soon"]),
    max_size=3,
)
sessions = st.builds(
    Session,
    id=st.sampled_from(["abcdef", "bcdefg"]),
    profile=words,
    provider=st.just("memory"),
    status=st.just("running"),
    mine=st.booleans(),
    live=st.booleans(),
    region=st.one_of(st.none(), words),
    created_at=times,
    expires_at=times,
    owner=st.one_of(st.none(), words),
    run=st.one_of(st.none(), words),
    labels=label_sets,
)
fact_sets = st.builds(
    Facts,
    session=sessions,
    lost_create=st.booleans(),
    failure=st.one_of(st.none(), st.just("no answer")),
    owner_process=st.one_of(st.none(), st.sampled_from(list(Liveness))),
    lease_until=times,
    local_times=st.booleans(),
)
protections = st.lists(st.sampled_from(["label:a", "label:b=1", "id:abc"]), max_size=2).map(tuple)
rule_sets = st.builds(
    Rules,
    protect=protections,
    profiles=st.frozensets(words, max_size=2),
    labels=st.dictionaries(words, st.just("1"), max_size=1),
    region=st.one_of(st.none(), words),
    run=st.one_of(st.none(), words),
    older_than=st.one_of(st.none(), st.floats(min_value=0, max_value=10_000)),
    min_age=st.just(60.0),
)
many = settings(max_examples=1500, deadline=None)


@many
@given(fact_sets, rule_sets)
def test_no_foreign_session_is_ever_ended(facts, rules):
    assert facts.session.mine or not decide(facts, rules, NOW).end


@many
@given(fact_sets, rule_sets)
def test_no_protected_session_is_ever_ended(facts, rules):
    protected = "keep" in facts.session.labels or facts.session.labels.get("keep-until") in (
        "2100-01-01T00:00:00Z",
        "soon",
    )
    assert not (protected and decide(facts, rules, NOW).end)


@many
@given(fact_sets, rule_sets)
def test_a_living_owner_or_lease_holds_until_the_ttl(facts, rules):
    held = facts.owner_process is Liveness.ALIVE or (
        facts.owner_process is not Liveness.DEAD and facts.lease_until is not None and facts.lease_until > NOW
    )
    before_ttl = facts.session.expires_at is None or facts.session.expires_at > NOW
    orphaned = facts.lost_create or facts.failure is not None or not facts.session.live
    if held and before_ttl and not orphaned:
        assert not decide(facts, rules, NOW).end


@many
@given(fact_sets, rule_sets)
def test_age_alone_never_ends_what_is_young_or_of_unknown_age(facts, rules):
    made = decide(facts, rules, NOW)
    if made.end and made.reason.startswith("older than"):
        assert facts.session.created_at is not None
        assert NOW - facts.session.created_at >= rules.min_age


@many
@given(fact_sets, rule_sets, protections)
def test_more_protection_never_ends_more(facts, rules, more):
    wider = replace(rules, protect=(*rules.protect, *more))
    assert decide(facts, rules, NOW).end or not decide(facts, wider, NOW).end


@many
@given(fact_sets, rule_sets)
def test_deciding_twice_is_deciding_once(facts, rules):
    assert decide(facts, rules, NOW) == decide(facts, rules, NOW)
