"""Results for GitHub Actions: annotations on standard output, variables and a summary in the files of the step."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, TextIO

from bsess.errors import FailedError, UsageError
from bsess.output import grid
from bsess.output.text import clean, redact, secrets_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bsess.model import Problem, Result
    from bsess.output.grid import Grid
    from bsess.output.records import View

VARIABLES = "GITHUB_ENV"
SUMMARY = "GITHUB_STEP_SUMMARY"
# What a step's summary may hold; of a longer one GitHub shows nothing at all.
SUMMARY_BYTES_MAX = 1024 * 1024
# For all that is no row: headings, headers, and the lines that say what was cut.
_FRAME_BYTES = 4096
_DELIMITER_BYTES = 16
# What Markdown and GitHub leave as it is, wherever it stands in a cell.
_PLAIN = re.compile(r"(?:[A-Za-z0-9 ,=()-]|: |(?<=[a-z])_(?=[a-z]))*")
_MARKUP = re.compile(r"[^\w ,=()/-]|_")


def check(environment: Mapping[str, str]) -> None:
    """Insist that later steps can be told of a session, before it is made. Raises UsageError, FailedError."""
    if not environment.get(VARIABLES):
        raise UsageError(
            f"create -o github writes to {VARIABLES}, and that is not set",
            code="github_env",
            hint=f"a step of GitHub Actions has {VARIABLES}; elsewhere -o env tells the same",
        )
    _write_variables(environment, "")


def tell(
    result: Result, view: View, *, variables: Mapping[str, str] | None, stream: TextIO, environment: Mapping[str, str]
) -> None:
    """Write a result; `variables` are for the steps to come.

    Raises OSError where standard output takes nothing, FailedError where the variables cannot be written.
    """
    if variables is not None:
        # First of all: whatever shows the session from here on shows it masked.
        if environment.get("GITHUB_ACTIONS") == "true":
            stream.writelines(f"::add-mask::{_escape(secret)}\n" for secret in _secrets(result))
        stream.flush()
        _write_variables(environment, "".join(_heredoc(name, value) for name, value in variables.items()))
    stream.writelines(f"{line}\n" for line in _documents(result))
    stream.writelines(f"{line}\n" for line in problems(result.command, result.errors))
    unsaid = _summarize(result, view, environment)
    if unsaid is not None:
        stream.write(annotation("warning", result.command, unsaid) + "\n")


def annotation(level: str, command: str, text: str, *, code: str | None = None) -> str:
    """Return a text as the line of which GitHub makes an annotation; `level` is error, warning or notice."""
    # What was typed where a command belongs may be anything, a URL with its token too.
    title = f"bsess {command}" if command.replace(" ", "").isalpha() else "bsess"
    title = _escape(title if code is None else f"{title}: {code}").replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={title}::{_escape(inert(clean(redact(text))))}"


def problems(command: str, items: Sequence[Problem]) -> Iterator[str]:
    """Return errors as annotations, each with its hint: GitHub shows each by itself."""
    for item in items:
        end = "" if item.message.endswith((".", "?", "!")) else "."
        text = item.message if item.hint is None else f"{item.message}{end} {item.hint}"
        yield annotation("error", command, text, code=item.code)


def inert(line: str) -> str:
    """Return a line in which the runner finds no command: `::name::` at its start, or the old `##[name]` anywhere."""
    line = line.replace("##[", "# #[")
    return line.replace("::", ": :", 1) if line.lstrip().startswith("::") else line


def remarks(result: Result) -> list[str]:
    """Return what the log says to people, but for what the result itself notes."""
    if result.command == "create":
        return [f"made {clean(item.id)} on profile {item.profile}" for item in result.sessions or ()]
    said = None if result.summary is not None else _sentence(result)
    return [] if said is None else [said]


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _secrets(result: Result) -> list[str]:
    found: list[str] = []
    for session in result.sessions or ():
        url = clean(session.connect_url or "")
        try:
            found += [url, *secrets_of(url, session.id)]
        except ValueError:
            found.append(url)
    return [text for text in dict.fromkeys(found) if text]


def _heredoc(name: str, value: str) -> str:
    delimiter = ""
    while not delimiter or delimiter in value:
        delimiter = f"bsess_{os.urandom(_DELIMITER_BYTES).hex()}"
    return f"{name}<<{delimiter}\n{value}\n{delimiter}\n"


def _write_variables(environment: Mapping[str, str], text: str) -> None:
    try:
        _append(environment[VARIABLES], text)
    except OSError as error:
        raise FailedError(
            f"{VARIABLES} cannot be written: {error.strerror}", code="file", hint="check its file and its disk"
        ) from error


def _append(path: str, text: str) -> None:
    """Add to a file; what others left there without a line's end gets one."""
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(handle).st_size
        if text and size and os.pread(handle, 1, size - 1) != b"\n":
            text = f"\n{text}"
        data = text.encode()
        while data:
            data = data[os.write(handle, data) :]
    finally:
        os.close(handle)


def _documents(result: Result) -> Iterator[str]:
    """Return the lines of what is neither sessions nor rows, and is the same in every format."""
    if result.text is not None:
        yield from map(inert, result.text.splitlines())
    for key, value in (result.tag or {}).items():
        yield inert(f"{clean(key)}={clean(value)}")
    if result.answer is not None or result.records is not None:
        import json

        items = result.records if result.answer is None else [result.answer]
        # The same JSON: outside a string there is no such thing.
        yield from (json.dumps(item).replace("##[", "##\\u005b") for item in items or ())


def _summarize(result: Result, view: View, environment: Mapping[str, str]) -> str | None:
    """Add a result to the step's summary, if there is one; return why it could not be."""
    path = environment.get(SUMMARY)
    if not path:
        return None
    try:
        used = os.stat(path).st_size if os.path.exists(path) else 0  # noqa: PTH110, PTH116  a name as it was given
        room = SUMMARY_BYTES_MAX - used - _FRAME_BYTES
        if room < 0:
            return f"{SUMMARY} is full: it says nothing of this"
        text = _markdown(result, view, room)
        if text:
            _append(path, text)
    except OSError as error:
        return f"{SUMMARY} cannot be written: {error.strerror}"
    return None


def _markdown(result: Result, view: View, room: int) -> str:
    said = _sentence(result)
    tables = list(_tables(result, view))
    if said is None and not tables:
        return ""
    pieces = [f"\n### bsess {result.command}\n"]
    if said is not None:
        pieces.append(f"\n{said}\n")
    for title, table in (*tables, *_untied(result)):
        rows, hidden = [], 0
        for row in map(_row, table.rows):
            size = len(row.encode())
            if size <= room:
                room -= size
                rows.append(row)
            else:
                hidden += 1
        text = _row(table.headers) + "|---" * len(table.headers) + "|\n" + "".join(rows)
        if hidden:
            text += f"\n{hidden} more of {len(table.rows)} are not shown: a step's summary has no room for them\n"
        folded = f"<details><summary>{title}</summary>\n\n{text}\n</details>\n"
        pieces.append(f"\n{text if title is None else folded}")
    return "".join(pieces)


def _tables(result: Result, view: View) -> Iterator[tuple[str | None, Grid]]:
    """Return the tables of a result, each with the title to fold it under, or None."""
    ends = tuple(item for item in result.decisions or () if item.end)
    spared = [item for item in result.decisions or () if not item.end]
    # Errors stand in a table of their own.
    for table in grid.grids(replace(result, decisions=ends or None), view):
        if table.rows:
            yield None, table
    if spared:
        yield f"{len(spared)} spared", grid.decisions(spared)


def _untied(result: Result) -> Iterator[tuple[None, Grid]]:
    """Return the table of the errors that no outcome tells of."""
    told = {outcome.problem for outcome in result.outcomes or ()}
    rows = tuple((redact(item.message), redact(item.hint or "")) for item in result.errors if item not in told)
    if rows:
        yield None, grid.Grid(("ERROR", "HINT"), rows)


def _sentence(result: Result) -> str | None:
    """Return the counts of a result; nothing in it is others' text."""
    if result.sessions is not None:
        return _count(len(result.sessions))
    if result.outcomes is None and result.decisions is None:
        return None
    ends = sum(item.end for item in result.decisions or ())
    spared = len(result.decisions or ()) - ends
    if result.outcomes:
        counts = Counter(str(item.outcome).replace("_", " ") for item in result.outcomes)
        said = f"{_count(len(result.outcomes))}: " + ", ".join(f"{number} {kind}" for kind, number in counts.items())
    else:
        said = f"{_count(ends)} would end" if ends else "nothing to end"
    return f"{said}; {spared} spared" if spared else said


def _count(number: int) -> str:
    return {0: "no sessions", 1: "one session"}.get(number, f"{number} sessions")


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |\n"


def _cell(text: str) -> str:
    """Return text that is neither Markdown nor HTML, no mention, link or emoji of GitHub's, and no end of its cell."""
    text = clean(text)
    return text if _PLAIN.fullmatch(text) else f"<code>{_MARKUP.sub(_entity, text)}</code>"


def _entity(match: re.Match[str]) -> str:
    # Addresses become links once entities are read; a comment parts what stands before and after.
    return f"&#{ord(match[0])};" + ("<!-- -->" if match[0] == "@" else "")
