"""Results as text: the one place that writes to standard output."""

from __future__ import annotations

import shlex
from enum import StrEnum
from typing import TYPE_CHECKING, TextIO

from bsess.errors import UsageError
from bsess.output import grid, records
from bsess.output.records import View
from bsess.output.text import clean, mask_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bsess.model import Decision, Outcome, Problem, Result, Session
    from bsess.output.grid import Grid

# Above this many rows a rich table takes longer than anybody reads.
RICH_ROWS_MAX = 300


class Format(StrEnum):
    """What `-o` takes."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    TSV = "tsv"
    NAME = "name"
    URL = "url"
    ENV = "env"
    GITHUB = "github"


# These hold one session, and cannot hold more.
OF_ONE = (Format.ENV, Format.GITHUB)
_MAKING = ("create", "list", "show", "adopt")
# What can tell only of some commands; the others tell of all.
_TELLING = {
    Format.ENV: _MAKING,
    Format.URL: (*_MAKING, "live"),
    Format.NAME: (*_MAKING, "close", "sweep", "context create", "context delete", "config path", "config init"),
}


def parse_format(text: str | None, *, terminal: bool) -> Format:
    """Return the format asked for, else a table on a terminal and tsv off it. Raises UsageError."""
    if text is None:
        return Format.TABLE if terminal else Format.TSV
    try:
        return Format(text)
    except ValueError:
        raise UsageError(f"-o {text[:40]!r} is no format", hint=f"one of {', '.join(Format)}") from None


def tells(chosen: Format, command: str) -> bool:
    """Tell whether a format can say what came of a command."""
    return command in _TELLING.get(chosen, (command,))


class Renderer:
    """Writes one command's result in one format."""

    def __init__(
        self,
        chosen: Format,
        *,
        stream: TextIO,
        environment: Mapping[str, str],
        default_profile: str | None = "local",
        show_secrets: bool = False,
        now: Callable[[], float],
    ) -> None:
        self._format = chosen
        self._stream = stream
        self._environment = environment
        self._default_profile = default_profile
        self._show_secrets = show_secrets
        self._now = now
        self._streamed = False
        self._untold: Exception | None = None

    @property
    def annotates(self) -> bool:
        """Whether GitHub Actions reads this."""
        return self._format is Format.GITHUB

    @property
    def shows_tables(self) -> bool:
        """Whether a person reads this."""
        return self._format is Format.TABLE and is_terminal(self._stream)

    def emit(self, item: Session | Outcome) -> None:
        """Write one item at once, where the format is a stream of them."""
        if self._format is Format.JSONL:
            self._tell(json_line(self._record(item)), at_once=True)

    def stream(self, session: Session) -> bool:
        """Write one session of a listing, where it is a line for itself; False where all are needed at once."""
        if self._format is Format.JSONL:
            line = json_line(self._record(session))
        elif self._format is Format.TSV:
            line = "\t".join(grid.tsv_row(self._record(session)))
        elif self._format is Format.NAME:
            line = self._name(session)
        elif self._format is Format.URL:
            line = self._url(session)
        else:
            return False
        self._tell(line)
        return True

    def _tell(self, line: str, *, at_once: bool = False) -> None:
        self._streamed = True
        if self._untold is not None:
            return
        try:
            self._stream.write(line + "\n")
            if at_once:
                self._stream.flush()
        except (OSError, AttributeError) as error:
            # What cannot be told must not change what is done: raised once the command is through.
            self._untold = error

    def render(self, result: Result) -> None:
        """Write a result. Raises OSError or AttributeError where standard output takes it not, or took no item.

        Raises BsessError where the format cannot tell it, or a file of the format's own takes nothing.
        """
        if self._untold is not None:
            raise self._untold
        view = View(now=self._now(), show_secrets=self._show_secrets)
        if self._format is Format.JSON:
            self._document(result, view)
        elif self._format is Format.GITHUB:
            self._github(result, view)
        elif result.answer is not None:
            self._answer(result.answer)
        elif result.records is not None:
            self._write_json_lines(result.records)
        elif self._format is Format.JSONL:
            if not self._streamed:
                self._write_json_lines(grid.main_records(result, view))
        elif self._format in (Format.NAME, Format.URL, Format.ENV):
            self._lines(self._values(result))
        else:
            self._rows(result, view)
        self._stream.flush()

    def _document(self, result: Result, view: View) -> None:
        import json

        # In one line for a program: indented, Python encodes it ten times as slowly.
        indent = 2 if is_terminal(self._stream) else None
        self._stream.write(json.dumps(records.document(result, view), indent=indent) + "\n")

    def _github(self, result: Result, view: View) -> None:
        from bsess.output import github

        variables = self._variables(result) if result.command == "create" and result.sessions else None
        github.tell(result, view, variables=variables, stream=self._stream, environment=self._environment)

    def _rows(self, result: Result, view: View) -> None:
        if result.text is not None:
            self._lines(result.text.split("\n"))
        elif result.tag is not None:
            self._lines(f"{clean(key)}={clean(value)}" for key, value in result.tag.items())
        elif self._format is Format.TSV:
            self._lines("\t".join(row) for row in grid.tsv_rows(result, view))
        else:
            show_tables(grid.grids(result, view), self._stream, self._environment)

    def _record(self, item: Session | Outcome) -> dict[str, object]:
        from bsess.model import Session

        if isinstance(item, Session):
            return records.session(item, View(now=self._now(), show_secrets=self._show_secrets))
        return records.outcome(item)

    def _write_json_lines(self, items: Iterable[object]) -> None:
        self._lines(map(json_line, items))

    def _values(self, result: Result) -> Iterable[str]:
        if result.text is not None:
            return result.text.split("\n")
        if self._format is Format.NAME:
            return self._names(result)
        if self._format is Format.URL:
            return map(self._url, result.sessions or ())
        return (f"export {key}={shlex.quote(value)}" for key, value in self._variables(result).items())

    def _names(self, result: Result) -> Iterable[str]:
        items: Sequence[Session | Outcome | Decision] = (
            result.sessions or result.outcomes or [item for item in result.decisions or () if item.end]
        )
        return map(self._name, items)

    def _name(self, item: Session | Outcome | Decision) -> str:
        name = clean(item.id)
        return name if item.profile == self._default_profile else f"{item.profile}/{name}"

    def _url(self, session: Session) -> str:
        url = session.connect_url
        if url is None:
            return ""
        return clean(url) if self._show_secrets else mask_url(url)

    def _variables(self, result: Result) -> dict[str, str]:
        sessions = result.sessions or ()
        if len(sessions) != 1:
            raise only_one(self._format, len(sessions))
        session = sessions[0]
        values = {
            "BSESS_SESSION_ID": session.id,
            "BSESS_CONNECT_URL": self._url(session),
            "BSESS_PROVIDER": session.provider,
            "BSESS_PROFILE": session.profile,
        }
        return {key: clean(value) for key, value in values.items()}

    def _answer(self, answer: object) -> None:
        # Whatever the format: it is a document, not rows.
        import json

        self._stream.write(json.dumps(answer, indent=2 if is_terminal(self._stream) else None) + "\n")

    def _lines(self, lines: Iterable[str]) -> None:
        # Whatever a session's provider wrote, a line stays one and steers no terminal; tsv has its tabs.
        for line in ("\t".join(map(clean, line.split("\t"))) for line in lines):
            self._stream.write(line + "\n")


def json_line(record: object) -> str:
    """Return a record as one line of JSON."""
    import json

    return json.dumps(record)


def only_one(chosen: Format, count: int) -> UsageError:
    """Return the error for so many sessions in a format of one."""
    return UsageError(f"-o {chosen} takes one session, and there are {count}", hint="-o json or -o url takes many")


def show_tables(grids: Sequence[Grid], stream: TextIO, environment: Mapping[str, str]) -> None:
    """Write tables: with rich on a terminal and few rows, else as aligned columns without colour or lines."""
    shown = [item for item in grids if item.rows]
    colour = wants_colour(stream, environment)
    forced = bool(environment.get("FORCE_COLOR"))
    terminal = (is_terminal(stream) and environment.get("TERM") != "dumb") or forced
    if terminal and shown and sum(len(item.rows) for item in shown) <= RICH_ROWS_MAX:
        from bsess.output import rich_table

        rich_table.show(shown, stream, colour=colour)
        return
    for item in shown:
        stream.writelines(line + "\n" for line in columns(item))


def columns(item: Grid) -> list[str]:
    """Return a table as lines of aligned columns under a header."""
    lines = [item.headers, *item.rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(item.headers))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def problem_lines(problems: Iterable[Problem]) -> list[str]:
    """Return errors as lines for people: what, then how to mend it; a hint shared by several once."""
    lines: list[str] = []
    hints: set[str] = set()
    for item in problems:
        lines.append(f"bsess: {clean(item.message)}")
        if item.hint is not None and item.hint not in hints:
            hints.add(item.hint)
            lines.append(f"hint: {clean(item.hint)}")
    return lines


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether a stream is a terminal; a closed one is none."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def wants_colour(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Tell whether colour is wanted: NO_COLOR forbids it, FORCE_COLOR asks for it, a dumb terminal has none."""
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR"):
        return True
    return is_terminal(stream) and environment.get("TERM") != "dumb"
