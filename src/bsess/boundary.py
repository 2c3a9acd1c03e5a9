"""The one error boundary: whatever happens, a line a person can use, the document a program asked for, and a code."""

from __future__ import annotations

import io
import os
import signal
import sys
import time

from bsess.errors import BsessError, ExitCode, Stopped
from bsess.invocation import Invocation, ResultUntold, environment, write_lines

REPORT = "the project's issue tracker"


def run(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    invocation = Invocation(environment())
    for stream in (sys.stdout, sys.stderr):
        # An encoding without a letter of a label is no reason to lose the answer.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    invocation.command = _command(arguments)
    form = _asked_for(invocation, arguments)
    try:
        return _dispatch(invocation, arguments)
    except Stopped as stopped:
        name = signal.Signals(stopped.signum).name
        problem = BsessError(f"stopped by {name}", code="stopped")
        return _fail(invocation, form, problem, 128 + stopped.signum)
    except ResultUntold as error:
        _drop_stdout()
        if error.reader_gone is not None:
            return error.reader_gone
        return _fail(invocation, None, error, error.exit_code)
    except BsessError as error:
        return _fail(invocation, form, error, error.exit_code)
    except SystemExit as leaving:
        # Typer leaves so where the reader of its help is gone.
        _drop_stdout()
        return leaving.code if isinstance(leaving.code, int) else ExitCode.FAILED
    except Exception as error:
        if "--debug" in arguments:
            raise
        kind = type(error).__name__
        problem = BsessError(
            f"this is a bug in bsess: {kind}: {error}",
            code="bug",
            hint=f"report it at {REPORT}, with what --debug prints",
        )
        return _fail(invocation, form, problem, ExitCode.BUG)


def _command(arguments: list[str]) -> str:
    # Only for a document about a failure before any command was parsed.
    before = ["", *arguments]
    words = (word for word, last in zip(arguments, before, strict=False) if last not in ("-o", "--output"))
    return next((word for word in words if not word.startswith("-")), "")


def _dispatch(invocation: Invocation, arguments: list[str]) -> int:
    from bsess import cli

    shell = invocation.environment.get("_BSESS_COMPLETE")
    if shell:
        from bsess import completion

        return completion.answer(shell, arguments, cli.candidates)
    return cli.main(invocation, arguments)


def _fail(invocation: Invocation, form: str | None, error: BsessError, code: int) -> int:
    """Tell an error in the format asked for, and to people on standard error."""
    from bsess.inventory import problem
    from bsess.model import Result
    from bsess.output import Format, Renderer, problem_lines

    found = problem(error)
    if form in (Format.JSON, Format.GITHUB):
        result = Result(invocation.command, exit_code=code, errors=(found,))
        renderer = Renderer(Format(form), stream=sys.stdout, environment=invocation.environment, now=time.time)
        try:
            renderer.render(result)
            if renderer.annotates:
                # Both streams go to the one log of the job, where the annotation is an error line already.
                return code
        except (OSError, AttributeError):
            _drop_stdout()
    write_lines(sys.stderr, problem_lines([found]))
    return code


def _asked_for(invocation: Invocation, arguments: list[str]) -> str | None:
    """Return the format asked for; None where nobody said, or no such thing."""
    # The flags may never have been parsed: a bad one is just what has to be told.
    if "--" in arguments:
        arguments = arguments[: arguments.index("--")]
    asked = None
    for word, following in zip(arguments, [*arguments, None][1:], strict=True):
        if word in ("-o", "--output"):
            asked = following
        elif word.startswith(("--output=", "-o")):
            asked = word.removeprefix("--output=").removeprefix("-o")
    if asked is not None:
        return asked
    # These have no -o: their standard output is a command's or a script's.
    if invocation.command in ("run", "completion"):
        return None
    return invocation.environment.get("BSESS_OUTPUT")


def _drop_stdout() -> None:
    # What is still buffered for a reader that is gone must not fail again when the process ends.
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.close(nothing)
    except OSError:
        pass
