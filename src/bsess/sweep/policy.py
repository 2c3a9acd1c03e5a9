"""The decision: for each session whether a sweep ends it, and the one reason. Pure.

Nine rules; the first that fits decides. A foreign session is spared by the first of them, and nothing comes before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from bsess import durations
from bsess.model import LABEL_KEEP, LABEL_KEEP_UNTIL, Decision, Liveness, Session

if TYPE_CHECKING:
    from collections.abc import Mapping

# How the reasons of the first two rules begin.
FOREIGN, PROTECTED = "foreign:", "protected:"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one session at the moment of the decision. Times are seconds since the epoch.

    `lost_create`: its create was never answered and nobody waits for it; `beyond_reach`: its provider can neither find
    nor end such a one. `failure`: why its last close failed.
    `owner_process`: whether that lives, None where none is recorded; `lease_until`: by this machine's clock.
    """

    session: Session
    lost_create: bool = False
    beyond_reach: bool = False
    failure: str | None = None
    owner_process: Liveness | None = None
    lease_until: float | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What was asked for. `protect` holds `label:KEY`, `label:KEY=VALUE` and `id:PREFIX`; ages are seconds."""

    protect: tuple[str, ...] = ()
    profiles: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    region: str | None = None
    run: str | None = None
    older_than: float | None = None
    min_age: float = 60.0


def decide(facts: Facts, rules: Rules, now: float) -> Decision:
    """Return the decision on one session at the time `now`."""
    end, reason = _decide(facts, rules, now)
    session = facts.session
    return Decision(id=session.id, profile=session.profile, provider=session.provider, end=end, reason=reason)


def protection(session: Session, protect: tuple[str, ...], now: float) -> str | None:
    """Return what protects a session, or None."""
    if LABEL_KEEP in session.labels:
        return f"label {LABEL_KEEP}"
    until = session.labels.get(LABEL_KEEP_UNTIL)
    if until is not None:
        moment = _moment(until)
        if moment is None:
            return f"label {LABEL_KEEP_UNTIL} cannot be read"
        if moment > now:
            return f"label {LABEL_KEEP_UNTIL}={until}"
    return next((f"protect {rule}" for rule in protect if _matches(session, rule)), None)


def _decide(facts: Facts, rules: Rules, now: float) -> tuple[bool, str]:
    session = facts.session
    if not session.mine:
        return False, f"{FOREIGN} {session.owner}'s" if session.owner else f"{FOREIGN} of unknown owner"
    protected = protection(session, rules.protect, now)
    if protected is not None:
        return False, f"{PROTECTED} {protected}"
    outside = _outside(session, rules)
    if outside is not None:
        return False, f"not asked for: {outside}"
    if not session.live:
        return True, "has ended and left something behind"
    left = session.left(now)
    if left is not None and left + session.slack <= 0:
        return True, f"ttl passed {durations.show(-left)} ago"
    if facts.beyond_reach:
        return False, _out_of_reach(facts, left)
    if facts.lost_create:
        return True, "its create was never answered"
    if facts.failure is not None:
        return True, f"an earlier close failed: {facts.failure}"
    if facts.owner_process is Liveness.ALIVE:
        return False, "its owner process lives"
    if facts.owner_process is Liveness.DEAD:
        return True, "its owner process is gone"
    if facts.lease_until is not None:
        if facts.lease_until > now:
            return False, "its lease is held"
        return True, f"its lease ran out {durations.show(now - facts.lease_until)} ago"
    return _by_age(session, rules, now)


def _out_of_reach(facts: Facts, left: float | None) -> str:
    if not facts.lost_create:
        return "its create is under way"
    by = "some time" if left is None else f"{durations.show(left)} from now"
    return f"its create was never answered and nothing can find it: its ttl ends it {by}"


def _by_age(session: Session, rules: Rules, now: float) -> tuple[bool, str]:
    if rules.older_than is None:
        return False, "in use: its ttl has not passed"
    age = session.age(now)
    if age is None:
        return False, "of unknown age"
    if age - session.slack < rules.min_age:
        return False, f"younger than {durations.show(rules.min_age)}"
    if not session.is_older(rules.older_than, now):
        return False, f"not older than {durations.show(rules.older_than)}"
    return True, f"older than {durations.show(rules.older_than)}"


def _outside(session: Session, rules: Rules) -> str | None:
    if rules.profiles and session.profile not in rules.profiles:
        return f"profile {session.profile}"
    for key, value in rules.labels.items():
        if session.labels.get(key) != value:
            return f"label {key}"
    if rules.region is not None and session.region != rules.region:
        return f"region {session.region or 'unknown'}"
    if rules.run is not None and session.run != rules.run:
        return f"run {session.run or 'unknown'}"
    return None


def _matches(session: Session, rule: str) -> bool:
    kind, _, rest = rule.partition(":")
    if kind == "id":
        return bool(rest) and session.id.startswith(rest)
    key, equals, value = rest.partition("=")
    return key in session.labels and (not equals or session.labels[key] == value)


def _moment(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo is not None else None
