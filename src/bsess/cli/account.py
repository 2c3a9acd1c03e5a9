"""Commands about an account, the ledger and the program itself."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from bsess.cli.apps import app, command, config_app, context_app
from bsess.cli.flags import ALWAYS, READS, OneProfile, Profiles, shells
from bsess.cli.values import duration
from bsess.invocation import Invocation


@command(app, "usage", READS)
def usage(invocation: Invocation, *, profile: Profiles = []) -> int:
    """Show what each account uses of its slots and units.

    \b
    Examples:
      bsess usage
    """
    from bsess.commands.usage import usage

    return invocation.run("usage", lambda context: usage(context, profile))


@command(app, "history", ALWAYS)
def history(
    invocation: Invocation,
    *,
    since: Annotated[
        Optional[str],
        typer.Option("--since", metavar="AGE", help="All since then: 90s, 15m, 2h, 1d."),
    ] = None,
    limit: Annotated[Optional[int], typer.Option("--limit", min=1, help="At most so many, the newest. [100]")] = None,
) -> int:
    """Show what was created, closed, swept and failed, and why.

    \b
    Examples:
      bsess history
      bsess history --since 1d -o json
    """
    from bsess.commands.history import history

    seconds = duration(since, "--since")
    return invocation.run("history", lambda context: history(context, since=seconds, limit=limit))


@command(app, "completion", ("quiet",))
def completion(
    invocation: Invocation,
    shell: Annotated[
        str, typer.Argument(metavar="bash|zsh|fish|powershell", autocompletion=shells, show_default=False)
    ],
) -> int:
    """Print the completion script of a shell.

    \b
    Examples:
      bsess completion bash
    """
    from bsess.completion import script

    return invocation.tell(script(shell))


@command(config_app, "show", ALWAYS)
def config_show(invocation: Invocation) -> int:
    """Show every setting and where it came from.

    \b
    Examples:
      bsess config show
    """
    from bsess.commands.config import show

    return invocation.run("config show", show)


@command(config_app, "path", ALWAYS)
def config_path(invocation: Invocation) -> int:
    """Print where the config file is, or would be.

    \b
    Examples:
      bsess config path
    """
    from bsess.commands.config import path

    return invocation.run("config path", lambda context: path(context.config.path.value))


@command(config_app, "init", ALWAYS)
def config_init(invocation: Invocation) -> int:
    """Write a new config file; one that is there is never touched.

    \b
    Examples:
      bsess config init
    """
    from bsess.commands.config import init

    return invocation.run(
        "config init", lambda context: init(context.config.path.value, owner=context.config.owner.value)
    )


OneContext = Annotated[str, typer.Argument(metavar="ID", show_default=False)]


@command(context_app, "create", READS)
def context_create(invocation: Invocation, *, profile: OneProfile = None) -> int:
    """Make an empty context and print its id (Browserbase).

    \b
    Examples:
      bsess context create
    """
    from bsess.commands import context as contexts

    return invocation.run("context create", lambda context: contexts.create(context, profile))


@command(context_app, "show", READS)
def context_show(invocation: Invocation, name: OneContext, *, profile: OneProfile = None) -> int:
    """Show one context.

    \b
    Examples:
      bsess context show 5a1b0cc4-5f0a-4a2e-8f2e-3f1f2f1f0a11
    """
    from bsess.commands import context as contexts

    return invocation.run("context show", lambda context: contexts.show(context, name, profile))


@command(context_app, "delete", READS)
def context_delete(invocation: Invocation, name: OneContext, *, profile: OneProfile = None) -> int:
    """Delete one context, with all that it saved.

    \b
    Examples:
      bsess context delete 5a1b0cc4-5f0a-4a2e-8f2e-3f1f2f1f0a11
    """
    from bsess.commands import context as contexts

    return invocation.run("context delete", lambda context: contexts.delete(context, name, profile))
