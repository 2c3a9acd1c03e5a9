"""Commands about one session: whose it is, what its provider tells of it, a query in it."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from bsess import config
from bsess.cli.apps import app, command
from bsess.cli.flags import ALWAYS, READS, Ids, Labels, OneProfile, OneSession, Ttl
from bsess.cli.values import check_files, duration, query_text
from bsess.errors import UsageError
from bsess.invocation import Invocation


@command(app, "adopt")
def adopt(
    invocation: Invocation,
    ids: Ids,
    *,
    profile: OneProfile = None,
    ttl: Ttl = None,
    label: Labels = [],
    foreign: Annotated[bool, typer.Option("--foreign", help="Also what carries another owner's tag.")] = False,
) -> int:
    """Make mine what my own code created: from now on close --all and sweep end it.

    \b
    Examples:
      bsess adopt abcdefghijklmnop --ttl 30m
    """
    from bsess.commands.adopt import AdoptOptions, adopt

    options = AdoptOptions(
        ids=ids, profile=profile, ttl=duration(ttl, "--ttl"), labels=config.labels(label), foreign=foreign
    )
    return invocation.run("adopt", lambda context: adopt(context, options))


@command(app, "tag", ALWAYS)
def tag(invocation: Invocation, *, profile: OneProfile = None, label: Labels = []) -> int:
    """Print what a session that my own code creates must carry to be mine from the start.

    \b
    Examples:
      bsess tag -o jsonl
    """
    from bsess.commands.tag import tag

    labels = config.labels(label)
    return invocation.run("tag", lambda context: tag(context, profile, labels))


@command(app, "show", (*READS, "show_secrets"))
def show(invocation: Invocation, session: OneSession, *, profile: OneProfile = None) -> int:
    """Show one session, with all that its provider tells of it.

    \b
    Examples:
      bsess show abcdefghijklmnop
    """
    from bsess.commands.details import show

    return invocation.run("show", lambda context: show(context, session, profile))


@command(app, "live", READS)
def live(
    invocation: Invocation,
    session: OneSession,
    *,
    profile: OneProfile = None,
    pages: Annotated[bool, typer.Option("--pages", help="One URL for each page.")] = False,
    browse: Annotated[bool, typer.Option("--open", help="Open it in this machine's browser.")] = False,
) -> int:
    """Print the URL at which one sees and drives a session (Browserbase). Whoever has it can.

    \b
    Examples:
      bsess live 5a1b0cc4-5f0a-4a2e-8f2e-3f1f2f1f0a11
    """
    from bsess.commands.details import live

    return invocation.run("live", lambda context: live(context, session, profile, pages=pages, browse=browse))


@command(app, "logs", READS)
def logs(invocation: Invocation, session: OneSession, *, profile: OneProfile = None) -> int:
    """Print a session's DevTools log, one JSON record a line (Browserbase).

    \b
    Examples:
      bsess logs 5a1b0cc4-5f0a-4a2e-8f2e-3f1f2f1f0a11
    """
    from bsess.commands.details import logs

    return invocation.run("logs", lambda context: logs(context, session, profile))


@command(app, "recording", READS)
def recording(
    invocation: Invocation,
    session: OneSession,
    *,
    profile: OneProfile = None,
    file: Annotated[Optional[str], typer.Option("--file", metavar="PATH", help="Write it there instead.")] = None,
    mp4: Annotated[bool, typer.Option("--mp4", help="As MP4 videos, one for each page; waits for them.")] = False,
) -> int:
    """Print a session's recording as rrweb events in JSON, or have videos made of it (Browserbase).

    \b
    Examples:
      bsess recording 5a1b0cc4-5f0a-4a2e-8f2e-3f1f2f1f0a11 --file rec.json
      bsess recording 5a1b0cc4-5f0a-4a2e-8f2e-3f1f2f1f0a11 --mp4 --file rec.mp4
    """
    from bsess.commands.details import recording, videos

    if file == "-" and not mp4:
        file = None
    check_files({"--file": file})
    if mp4:
        if file is None:
            raise UsageError("--mp4 needs --file", hint="--mp4 --file rec.mp4")
        return invocation.run("recording", lambda context: videos(context, session, profile, file))
    return invocation.run("recording", lambda context: recording(context, session, profile, file))


@command(app, "bql", READS)
def bql(
    invocation: Invocation,
    session: OneSession,
    query: Annotated[Optional[str], typer.Argument(metavar="[QUERY]", show_default=False)] = None,
    *,
    profile: OneProfile = None,
    file: Annotated[
        Optional[str], typer.Option("--file", metavar="PATH", help="The file that holds the query; - reads a pipe.")
    ] = None,
    var: Annotated[
        list[str],
        typer.Option("--var", metavar="K=V", help="A variable of the query: JSON, else text.", show_default=False),
    ] = [],
) -> int:
    """Run a BrowserQL query in a session made with --stealth, and print its JSON. The session stays open.

    \b
    Examples:
      bsess bql abcdefghijklmnop 'mutation { title { title } }'
      bsess bql abcdefghijklmnop --file login.graphql --var user=ann
    """
    from bsess.commands.bql import QueryOptions, bql, variables

    options = QueryOptions(name=session, text=query_text(query, file), variables=variables(var), profile=profile)
    if invocation.flags.timeout is None:
        # A query drives pages for as long as it needs: the command's deadline bounds it.
        invocation.flags.timeout = "1d"
    return invocation.run("bql", lambda context: bql(context, options))
