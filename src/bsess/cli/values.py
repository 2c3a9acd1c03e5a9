"""What was typed, as what the commands take."""

from __future__ import annotations

import os
from typing import Any

from bsess import config, durations, whole
from bsess.errors import UsageError
from bsess.invocation import Invocation, read_file, read_text


def duration(text: str | None, name: str) -> float | None:
    """Return a duration in seconds; None where none was typed."""
    zero = name in ("--older-than", "--min-age", "--grace")
    return None if text is None else durations.parse(text, name=name, zero=zero)


def run_wanted(invocation: Invocation, *, this: bool, named: str | None) -> str | None:
    """Return the run that was asked for: this CI run or a named one; None where neither was."""
    if named is not None:
        if not named.strip():
            raise UsageError("--run-id is empty", hint="is the variable set that it comes from?")
        if this:
            raise UsageError("--run and --run-id exclude each other")
        return named
    if not this:
        return None
    current = config.current_run(invocation.environment).value
    if current is None:
        raise UsageError(
            "--run: no run is known here",
            hint=f"set BSESS_RUN, or name it with --run-id; known are {', '.join(config.RUN_VARIABLES)}",
        )
    return current


def session_options(given: dict[str, Any]) -> dict[str, object]:
    """Return what was given: a provider refuses what it has no use for."""
    keep_alive = given["keep_alive"]
    if keep_alive is not None:
        given["keep_alive"] = keep_alive == "on" or duration(keep_alive, "--keep-alive")
    given["set"] = _fields(given["set"])
    given["context"] = given.pop("saved")
    return {key: value for key, value in given.items() if value not in (None, False, [], {})}


def check_files(files: dict[str, str | None]) -> None:
    """Insist that the files to write, by their flags, can be written and are not the same.

    Raises UsageError, FailedError.
    """
    seen: dict[str, str] = {}
    for flag, path in files.items():
        if path is None:
            continue
        whole.check(path, flag=flag)
        if seen.setdefault(os.path.realpath(path), flag) != flag:
            raise UsageError(f"{flag} and {seen[os.path.realpath(path)]} name the same file", hint="give each its own")


def query_text(given: str | None, file: str | None) -> str:
    """Return a query: as typed, from a file, or from standard input."""
    if given is not None and file is not None:
        raise UsageError("a query and --file exclude each other")
    if given not in (None, "-"):
        return str(given)
    if file in (None, "-"):
        return read_text("the query")
    return read_file(str(file), name=f"--file {file}", hint="a file with a query in UTF-8")


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and the infinities are Python's, and no JSON


def _fields(pairs: list[str]) -> dict[str, object]:
    """Read `--set a.b.c=JSON` into nested tables. Raises UsageError."""
    import json

    fields: dict[str, object] = {}
    for pair in pairs:
        path, equals, text = pair.partition("=")
        names = path.split(".")
        try:
            value = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            value = None
            equals = ""
        if not equals or not all(names):
            raise UsageError(
                f"--set {pair[:60]!r} is not understood", hint="--set key=JSON: --set a.b=true, --set name='\"x\"'"
            )
        table = fields
        for name in names[:-1]:
            inner = table.setdefault(name, {})
            if not isinstance(inner, dict):
                raise UsageError(f"--set {path}: {name} is set to something else already")
            table = inner
        table[names[-1]] = value
    return fields
