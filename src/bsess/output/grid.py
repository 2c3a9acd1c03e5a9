"""Results as rows of short texts, for tables on a terminal and for tsv."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bsess import durations
from bsess.output import records
from bsess.output.text import clean, moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bsess.model import AccountUsage, Decision, Event, Outcome, Result, Session
    from bsess.output.records import View


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: its headers and its rows."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tsv_rows(result: Result, view: View) -> list[tuple[str, ...]]:
    """Return one row for each main item of a result, in the order of its keys in JSON, without secrets."""
    return [tsv_row(record) for record in main_records(result, view)]


def main_records(result: Result, view: View) -> list[dict[str, object]]:
    """Return the records of what the command is about."""
    if result.sessions is not None:
        return [records.session(item, view) for item in result.sessions]
    if result.tag is not None:
        return [dict(result.tag)]
    if result.text is not None:
        return [{"text": clean(line)} for line in result.text.split("\n")]
    if result.outcomes:
        return [records.outcome(item) for item in result.outcomes]
    if result.decisions is not None and not result.outcomes:
        return [records.decision(item) for item in result.decisions if item.end]
    return [
        *map(records.event, result.events or ()),
        *map(records.setting, result.settings or ()),
        *map(records.usage, result.usage or ()),
    ]


def grids(result: Result, view: View) -> list[Grid]:
    """Return the tables that show a result to a person."""
    found = []
    if result.sessions is not None:
        found.append(_sessions(result.sessions, view))
    if result.details:
        told = tuple((clean(key), clean(_cell(value))) for key, value in result.details.items())
        found.append(Grid(("FIELD", "VALUE"), told))
    if result.decisions is not None and not result.outcomes:
        found.append(decisions(result.decisions))
    if result.outcomes:
        found.append(_outcomes(result.outcomes))
        spared = [item for item in result.decisions or () if not item.end]
        if spared:
            found.append(decisions(spared))
    if result.events is not None:
        found.append(_events(result.events))
    if result.usage is not None:
        found.append(_usage(result.usage))
    if result.settings is not None:
        rows = tuple((item.key, clean(item.value), item.source) for item in result.settings)
        found.append(Grid(("KEY", "VALUE", "SOURCE"), rows))
    return found


def decisions(items: Iterable[Decision]) -> Grid:
    """Return the table of what is to end, and of what is spared and why."""
    ordered = sorted(items, key=lambda item: not item.end)
    rows = tuple((clean(item.id), item.profile, "end" if item.end else "spare", clean(item.reason)) for item in ordered)
    return Grid(("ID", "PROFILE", "DECISION", "REASON"), rows)


def _sessions(items: Sequence[Session], view: View) -> Grid:
    rows = tuple(
        (
            clean(item.id),
            item.profile,
            clean(item.status),
            _lasting(item.age(view.now)),
            _lasting(item.left(view.now) if item.live else None),
            "mine" if item.mine else clean(item.owner or "unknown"),
            clean(item.run or ""),
            clean(label_text(item.labels)),
        )
        for item in items
    )
    return _without_empty(Grid(("ID", "PROFILE", "STATUS", "AGE", "ENDS IN", "OWNER", "RUN", "LABELS"), rows))


def _lasting(seconds: float | None) -> str:
    return "" if seconds is None else durations.show(seconds)


def _outcomes(items: Sequence[Outcome]) -> Grid:
    rows = tuple((clean(item.id), item.profile, item.outcome.value, clean(item.reason or "")) for item in items)
    return Grid(("ID", "PROFILE", "OUTCOME", "REASON"), rows)


def _events(items: Sequence[Event]) -> Grid:
    rows = tuple((_short(item.at), item.event, clean(item.id or ""), item.profile, _why(item)) for item in items)
    return Grid(("TIME", "EVENT", "ID", "PROFILE", "REASON"), rows)


_USAGE = ("PROFILE", "RUNNING", "MINE", "QUEUED", "PLAN")


def _usage(items: Sequence[AccountUsage]) -> Grid:
    rows = tuple(
        (
            item.profile,
            _of(item.usage.running, item.usage.slots),
            str(item.mine),
            _cell(item.usage.queued),
            clean(item.usage.plan or ""),
            _cell(item.usage.units_used),
            _cell(item.usage.units_left),
            _cell(item.usage.minutes_used),
            _cell(item.usage.proxy_bytes),
        )
        for item in items
    )
    return _without_empty(Grid((*_USAGE, "UNITS USED", "UNITS LEFT", "MINUTES", "PROXY BYTES"), rows))


def _of(used: int | None, most: int | None) -> str:
    return _cell(used) if most is None else f"{_cell(used) or '?'} of {most}"


def _short(seconds: float) -> str:
    # Without the year: at 80 columns a provider's long id leaves no room for it.
    return moment(seconds)[5:].replace("T", " ")


def _why(item: Event) -> str:
    said = "" if item.outcome in (None, item.event, "closed") else f"{item.outcome}: "
    return clean(said + (item.reason or "")).removesuffix(": ")


def label_text(labels: Mapping[str, str]) -> str:
    """Return labels as users write them, separated by commas."""
    return ",".join(f"{key}={value}" if value else key for key, value in labels.items())


def _without_empty(grid: Grid) -> Grid:
    # A column that no row fills takes the room of those that matter at 80 columns.
    kept = [index for index in range(len(grid.headers)) if index < 3 or any(row[index] for row in grid.rows)]  # noqa: PLR2004  the id, its profile and its status always stand
    return Grid(
        tuple(grid.headers[index] for index in kept), tuple(tuple(row[index] for index in kept) for row in grid.rows)
    )


def tsv_row(record: Mapping[str, object]) -> tuple[str, ...]:
    """Return a record's cells, without secrets."""
    return tuple(_cell(value) for key, value in record.items() if key != "connect_url")


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return label_text({str(key): str(item) for key, item in value.items()})
    return str(value)
