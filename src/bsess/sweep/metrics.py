"""What a sweep found and did, in the Prometheus text format, for a node exporter's textfile collector."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from bsess.model import OutcomeKind
from bsess.sweep.policy import FOREIGN, PROTECTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bsess.model import Decision, Outcome

PREFIX = "bsess_sweep"
LAST_SUCCESS = f"{PREFIX}_last_success_timestamp_seconds"
_HELP = {
    "found": "Orphans that the sweep found.",
    "closed": "Sessions that it ended, or found ended.",
    "stuck": "Sessions that were asked to end and still live.",
    "failed": "Sessions whose end failed or is not known.",
    "protected": "Orphans or not, spared because they are protected.",
    "foreign": "Sessions that are not mine.",
    "oldest_age_seconds": "Age of the oldest orphan found.",
    "duration_seconds": "How long the sweep took.",
    "exit_code": "The sweep's exit code.",
}
_ENDED = (OutcomeKind.CLOSED, OutcomeKind.ALREADY_CLOSED, OutcomeKind.CLOSING)
_FAILED = (OutcomeKind.FAILED, OutcomeKind.UNKNOWN, OutcomeKind.SKIPPED)


def text(
    *,
    decisions: Sequence[Decision],
    outcomes: Sequence[Outcome],
    oldest_age: float,
    duration: float,
    exit_code: int,
    last_success: float | None,
) -> str:
    """Return all metrics; times and ages are seconds."""
    counts = Counter(outcome.outcome for outcome in outcomes)
    values = {
        "found": sum(decision.end for decision in decisions),
        "closed": sum(counts[kind] for kind in _ENDED),
        "stuck": counts[OutcomeKind.STUCK],
        "failed": sum(counts[kind] for kind in _FAILED),
        "protected": sum(decision.reason.startswith(PROTECTED) for decision in decisions),
        "foreign": sum(decision.reason.startswith(FOREIGN) for decision in decisions),
        "oldest_age_seconds": round(oldest_age, 3),
        "duration_seconds": round(duration, 3),
        "exit_code": exit_code,
    }
    lines = []
    for name, value in values.items():
        lines += [f"# HELP {PREFIX}_{name} {_HELP[name]}", f"# TYPE {PREFIX}_{name} gauge", f"{PREFIX}_{name} {value}"]
    if last_success is not None:
        lines += [
            f"# HELP {LAST_SUCCESS} When a sweep last ended with 0.",
            f"# TYPE {LAST_SUCCESS} gauge",
            f"{LAST_SUCCESS} {last_success:.3f}",
        ]
    return "\n".join(lines) + "\n"


def last_success(old: str) -> float | None:
    """Return the time of the last success that an older file tells of."""
    match = re.search(rf"^{LAST_SUCCESS} ([0-9.]+)$", old, re.MULTILINE)
    return float(match[1]) if match else None
