"""What a sweep found and did, in the Prometheus text format, for a node exporter's textfile collector."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bsess.model import OutcomeKind
from bsess.sweep.policy import FOREIGN, PROTECTED

if TYPE_CHECKING:
    from bsess.model import Result

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
    "profiles_missed": "Profiles whose account could not be looked at.",
    "exit_code": "The sweep's exit code.",
}
_ENDED = (OutcomeKind.CLOSED, OutcomeKind.ALREADY_CLOSED, OutcomeKind.CLOSING)
_FAILED = (OutcomeKind.FAILED, OutcomeKind.UNKNOWN, OutcomeKind.SKIPPED)


@dataclass(frozen=True, slots=True)
class Gauges:
    """What a result does not tell, in seconds; `last_success` since the epoch, None where there was none."""

    oldest_age: float = 0.0
    duration: float = 0.0
    last_success: float | None = None


def text(result: Result, gauges: Gauges) -> str:
    """Return all metrics of a sweep."""
    decisions = result.decisions or ()
    counts = Counter(outcome.outcome for outcome in result.outcomes or ())
    values = {
        "found": sum(decision.end for decision in decisions),
        "closed": sum(counts[kind] for kind in _ENDED),
        "stuck": counts[OutcomeKind.STUCK],
        "failed": sum(counts[kind] for kind in _FAILED),
        "protected": sum(decision.reason.startswith(PROTECTED) for decision in decisions),
        "foreign": sum(decision.reason.startswith(FOREIGN) for decision in decisions),
        "oldest_age_seconds": round(gauges.oldest_age, 3),
        "duration_seconds": round(gauges.duration, 3),
        "profiles_missed": len(result.scope.missed) if result.scope else 0,
        "exit_code": int(result.exit_code),
    }
    lines = []
    for name, value in values.items():
        lines += [f"# HELP {PREFIX}_{name} {_HELP[name]}", f"# TYPE {PREFIX}_{name} gauge", f"{PREFIX}_{name} {value}"]
    if gauges.last_success is not None:
        lines += [
            f"# HELP {LAST_SUCCESS} When an acting sweep last ended with 0.",
            f"# TYPE {LAST_SUCCESS} gauge",
            f"{LAST_SUCCESS} {gauges.last_success:.3f}",
        ]
    return "\n".join(lines) + "\n"


def last_success(old: str) -> float | None:
    """Return the time of the last success that an older file tells of."""
    match = re.search(rf"^{LAST_SUCCESS} ([0-9.]+)$", old, re.MULTILINE)
    return float(match[1]) if match else None
