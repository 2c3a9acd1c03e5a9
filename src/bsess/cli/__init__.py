"""The command line: Typer signatures only. Each parses, calls a command and hands on its result."""

from __future__ import annotations

import typer

# In the order of the help.
from bsess.cli import sessions  # isort: skip
from bsess.cli import one  # isort: skip
from bsess.cli import account  # isort: skip
from bsess.cli.apps import app
from bsess.errors import UsageError
from bsess.invocation import Invocation, ResultUntold

__all__ = ["account", "candidates", "main", "one", "sessions"]


def main(invocation: Invocation, arguments: list[str]) -> int:
    """Parse the arguments, run the command and return its exit code. Raises BsessError."""
    command = typer.main.get_command(app)
    try:
        code = command.main(args=arguments or ["--help"], prog_name="bsess", standalone_mode=False, obj=invocation)
    except typer.TyperException as error:
        raise UsageError(_one_line(error), hint=_hint(error)) from error
    except OSError as error:
        if _wants_help(arguments):
            raise ResultUntold.by(error) from error
        raise
    if not arguments:
        return UsageError.exit_code
    return int(code or 0)


def candidates(words: list[str], incomplete: str) -> list[tuple[str, str | None]]:
    """Return what may stand after `words` and begins with `incomplete`, each with its help."""
    from typer._completion_classes import BashComplete  # the one of Typer's that renders nothing

    completer = BashComplete(typer.main.get_command(app), {}, "bsess", "_BSESS_COMPLETE")
    return [(str(item.value), item.help) for item in completer.get_completions(words, incomplete)]


def _wants_help(arguments: list[str]) -> bool:
    return not arguments or bool({"-h", "--help"} & set(arguments))


def _one_line(error: typer.TyperException) -> str:
    option, known = getattr(error, "option_name", None), getattr(error, "possibilities", None)
    if option and known:
        from difflib import get_close_matches

        nearest = get_close_matches(option, known, n=1, cutoff=0.0)[0]
        return f"No such option: {option}. Did you mean {nearest}?"
    return " ".join(error.format_message().split()).rstrip(".")


def _hint(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "bsess"
    return f"`{path} --help`"
