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


def test_what_no_clock_vouches_for_gets_five_minutes_of_slack():
    late = replace(MINE, expires_at=NOW - CLOCK_SLACK_SECONDS + 1)
    assert decision(session=late).end
    assert not decision(session=replace(late, clock_ahead=None)).end
    assert decision(session=replace(late, expires_at=NOW - CLOCK_SLACK_SECONDS, clock_ahead=None)).end


@pytest.mark.parametrize(("ahead", "end"), [(0.0, False), (301.0, True), (-300.0, False)])
def test_a_ttl_passes_by_the_clock_that_it_was_told_by(ahead, end):
    assert decision(session=replace(MINE, expires_at=NOW + 300, clock_ahead=ahead)).end is end


@pytest.mark.parametrize(("ahead", "end"), [(0.0, True), (-300.0, False), (None, False)])
def test_an_age_is_judged_by_the_clock_that_it_was_told_by(ahead, end):
    old = replace(MINE, created_at=NOW - 250, clock_ahead=ahead)
    assert decision(session=old, rules=Rules(older_than=200)).end is end


# Dense where a clock that is five minutes off makes a difference.
times = st.one_of(st.none(), st.floats(min_value=NOW - 1500, max_value=NOW + 1500), st.just(NOW))
words = st.sampled_from(["a", "b", "c"])
PROTECTING = {("keep", ""), ("keep", "1"), ("keep-until", "2100-01-01T00:00:00Z"), ("keep-until", "soon")}
label_sets = st.dictionaries(
    st.sampled_from(["a", "b", "keep", "keep-until"]),
    st.sampled_from(["", "1", "2100-01-01T00:00:00Z", "2001-01-01T00:00:00Z", "soon"]),
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
    clock_ahead=st.one_of(st.none(), st.just(0.0), st.floats(min_value=-400, max_value=400)),
)
fact_sets = st.builds(
    Facts,
    session=sessions,
    lost_create=st.booleans(),
    beyond_reach=st.booleans(),
    failure=st.one_of(st.none(), st.just("no answer")),
    owner_process=st.one_of(st.none(), st.sampled_from(list(Liveness))),
    lease_until=times,
)
protections = st.lists(
    st.sampled_from(["label:a", "label:b=1", "id:abc", "label:c", "id:bcdefg"]), min_size=1, max_size=3
).map(tuple)
rule_sets = st.builds(
    Rules,
    protect=st.one_of(st.just(()), protections),
    profiles=st.frozensets(words, max_size=2),
    labels=st.dictionaries(words, st.just("1"), max_size=1),
    region=st.one_of(st.none(), words),
    run=st.one_of(st.none(), words),
    older_than=st.one_of(st.none(), st.floats(min_value=0, max_value=1500)),
    min_age=st.one_of(st.just(60.0), st.floats(min_value=0, max_value=1000)),
)
# Narrowed to nothing, most cases would be spared before what they are about.
ages = st.integers(min_value=0, max_value=900).map(float)
wide_rules = st.builds(Rules, older_than=ages, min_age=ages)
many = settings(max_examples=2500, deadline=None)


def ttl_may_last(session):
    """Whether any honest reading of the clocks leaves a session's ttl something."""
    wrong_by = CLOCK_SLACK_SECONDS if session.clock_ahead is None else session.clock_ahead * -1
    return session.expires_at is None or session.expires_at + wrong_by > NOW


def names(rule, session):
    if rule.startswith("id:"):
        return session.id.startswith(rule.removeprefix("id:"))
    key, _, value = rule.removeprefix("label:").partition("=")
    return key in session.labels and value in ("", session.labels[key])


def youngest_age(session):
    wrong_by = -CLOCK_SLACK_SECONDS if session.clock_ahead is None else session.clock_ahead
    return None if session.created_at is None else NOW - session.created_at + wrong_by


@many
@given(fact_sets, rule_sets)
def test_no_foreign_session_is_ever_ended(facts, rules):
    foreign = replace(facts, session=replace(facts.session, mine=False))
    assert not decide(foreign, rules, NOW).end


@many
@given(fact_sets, wide_rules, st.sampled_from(sorted(PROTECTING)))
def test_no_session_with_a_protecting_label_is_ever_ended(facts, rules, label):
    labels = {**facts.session.labels, label[0]: label[1]}
    assert not decide(replace(facts, session=replace(facts.session, labels=labels)), rules, NOW).end


@many
@given(fact_sets, wide_rules, protections)
def test_no_session_that_a_rule_protects_is_ever_ended(facts, rules, protect):
    if any(names(rule, facts.session) for rule in protect):
        assert not decide(facts, replace(rules, protect=protect), NOW).end


@many
@given(fact_sets, wide_rules, st.sampled_from(["process", "lease"]))
def test_a_living_owner_process_or_lease_holds_a_session_until_its_ttl(facts, rules, by):
    held = replace(
        facts,
        session=replace(facts.session, mine=True, labels={}, live=True),
        lost_create=False,
        failure=None,
        owner_process=Liveness.ALIVE if by == "process" else None,
        lease_until=facts.lease_until if by == "process" else NOW + 1,
    )
    assert decide(held, rules, NOW).end is False or not ttl_may_last(held.session)


@many
@given(fact_sets, wide_rules)
def test_age_alone_never_ends_what_is_too_young_or_of_unknown_age(facts, rules):
    by_age = replace(
        facts,
        session=replace(facts.session, mine=True, labels={}, live=True, expires_at=None),
        lost_create=False,
        failure=None,
        owner_process=None,
        lease_until=None,
    )
    if decide(by_age, rules, NOW).end:
        age = youngest_age(by_age.session)
        assert age is not None
        assert rules.older_than is not None
        assert age >= rules.min_age
        assert age > rules.older_than


@many
@given(fact_sets, rule_sets, protections)
def test_more_protection_never_ends_more(facts, rules, more):
    wider = replace(rules, protect=(*rules.protect, *more))
    assert decide(facts, rules, NOW).end or not decide(facts, wider, NOW).end


@many
@given(fact_sets, rule_sets)
def test_a_narrower_question_never_ends_more(facts, rules):
    everything = replace(rules, profiles=frozenset(), labels={}, region=None, run=None)
    assert decide(facts, everything, NOW).end or not decide(facts, rules, NOW).end


@many
@given(fact_sets, rule_sets, st.floats(min_value=-500, max_value=500))
def test_what_clock_the_times_are_told_by_changes_nothing(facts, rules, shift):
    session = facts.session
    if session.clock_ahead is not None:
        whole = round(shift)
        moved = replace(
            session,
            created_at=None if session.created_at is None else round(session.created_at) + whole,
            expires_at=None if session.expires_at is None else round(session.expires_at) + whole,
            clock_ahead=round(session.clock_ahead) + whole,
        )
        level = replace(
            session,
            created_at=None if session.created_at is None else round(session.created_at),
            expires_at=None if session.expires_at is None else round(session.expires_at),
            clock_ahead=round(session.clock_ahead),
        )
        assert decide(replace(facts, session=moved), rules, NOW) == decide(replace(facts, session=level), rules, NOW)
