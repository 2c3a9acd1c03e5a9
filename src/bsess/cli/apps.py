"""The program, its groups of commands, and how a command is registered with one."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bsess import __version__
from bsess.cli.flags import BOUNDED, COMMON, SESSION
from bsess.cli.values import session_options
from bsess.invocation import Flags, Invocation

if TYPE_CHECKING:
    from collections.abc import Callable

HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="bsess",
    help="Create, list, close and sweep remote browser sessions, and never leak one.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=HELP,
)
config_app = typer.Typer(
    help="Where each setting came from; a new config file.", rich_markup_mode=None, context_settings=HELP
)
app.add_typer(config_app, name="config")
context_app = typer.Typer(
    help="Saved cookies and storage, for create --context.", rich_markup_mode=None, context_settings=HELP
)
app.add_typer(context_app, name="context")


def _version(value: bool) -> None:
    if value:
        typer.echo(f"bsess {__version__}")
        raise typer.Exit


def command(
    on: typer.Typer, name: str, common: tuple[str, ...] = BOUNDED, **settings: object
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Register a command: its own parameters, then the common ones, which it gets as one Invocation.

    One with a parameter `options` gets there what its user asked of a session.
    """

    def register(function: Callable[..., int]) -> Callable[..., int]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        makes_sessions = any(parameter.name == "options" for parameter in own)
        own = [parameter for parameter in own if parameter.name != "options"]
        injected = {**(SESSION if makes_sessions else {}), **{key: COMMON[key] for key in common}}

        @functools.wraps(function)
        def call(context: typer.Context, **values: Any) -> int:  # noqa: ANN401  Typer has converted them
            invocation: Invocation = context.find_root().obj
            invocation.flags = Flags(**{key: values.pop(key) for key in common})
            if makes_sessions:
                values["options"] = session_options({key: values.pop(key) for key in SESSION})
            return function(invocation, **values)

        keyword = inspect.Parameter.KEYWORD_ONLY
        shared = [
            inspect.Parameter(key, keyword, annotation=annotation, default=_default(annotation))
            for key, annotation in injected.items()
        ]
        first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        parameters = [first, *own, *shared]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        del call.__wrapped__  # Typer would read the annotations of the inner one
        on.command(name, **settings)(call)  # type: ignore[arg-type]
        return function

    return register


def _default(annotation: object) -> object:
    text = str(annotation)
    if "Optional" in text:
        return None
    return [] if "list[" in text else False


@app.callback()
def program(
    *,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
) -> None:
    """Create, list, close and sweep remote browser sessions, and never leak one."""
