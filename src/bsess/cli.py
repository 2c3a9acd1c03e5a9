"""The command line: Typer signatures only. Each parses, calls a command and hands on its result."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from bsess import __version__, config, durations
from bsess.errors import BsessError, UsageError
from bsess.invocation import (
    SWEEP_DEADLINE_SECONDS,
    Flags,
    Invocation,
    ResultUntold,
    Told,
    lines_of,
    read_file,
    read_ids,
    read_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from bsess.context import Context
    from bsess.model import Result

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


def _session_ids(incomplete: str) -> list[str]:
    from bsess import completion

    return completion.session_ids(incomplete)


def _profile_names(incomplete: str) -> list[str]:
    from bsess import completion

    return completion.profile_names(incomplete)


def _shells(incomplete: str) -> list[str]:
    from bsess import completion

    return [name for name in completion.SHELLS if name.startswith(incomplete)]


def _formats(incomplete: str) -> list[str]:
    from bsess.output import Format

    return [name for name in Format if name.startswith(incomplete)]


Ids = Annotated[list[str], typer.Argument(metavar="ID…", autocompletion=_session_ids, show_default=False)]
OneProfile = Annotated[
    Optional[str],
    typer.Option("-p", "--profile", help="The profile; else the default one.", autocompletion=_profile_names),
]
Profiles = Annotated[
    list[str],
    typer.Option(
        "-p", "--profile", help="Only this profile; may be repeated.", autocompletion=_profile_names, show_default=False
    ),
]
Labels = Annotated[
    list[str], typer.Option("--label", metavar="K=V", help="A label; may be repeated.", show_default=False)
]
Region = Annotated[Optional[str], typer.Option("--region", help="The provider's region.")]
Ttl = Annotated[
    Optional[str], typer.Option("--ttl", metavar="DURATION", help="When it ends, whoever uses it: 90s, 15m, 2h, 1d.")
]
ThisRun = Annotated[bool, typer.Option("--run", help="Of this CI run (BSESS_RUN or the CI system's own id).")]
RunId = Annotated[Optional[str], typer.Option("--run-id", metavar="RUN", help="Of that run.")]
OlderThan = Annotated[
    Optional[str], typer.Option("--older-than", metavar="AGE", help="Older than this: 90s, 15m, 2h, 1d.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]

_COMMON = {
    "output": Annotated[
        Optional[str],
        typer.Option(
            "-o",
            "--output",
            metavar="FORMAT",
            help="table, json, jsonl, tsv, name, url, env or github.",
            autocompletion=_formats,
        ),
    ],
    "quiet": Annotated[bool, typer.Option("-q", "--quiet", help="Errors only on standard error.")],
    "verbose": Annotated[bool, typer.Option("-v", "--verbose", help="A line for each request.")],
    "debug": Annotated[bool, typer.Option("--debug", help="A traceback where bsess itself fails.")],
    "timeout": Annotated[
        Optional[str],
        typer.Option(
            "--timeout", metavar="DURATION", help="How long one request, or a browser's start, may take. [30s]"
        ),
    ],
    "deadline": Annotated[
        Optional[str],
        typer.Option("--deadline", metavar="DURATION", help="How long the whole command may take."),
    ],
    "workers": Annotated[
        Optional[int],
        typer.Option("--workers", min=1, max=64, help="How many sessions at a time. [16]"),
    ],
    "yes": Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")],
    "show_secrets": Annotated[bool, typer.Option("--show-secrets", help="Do not mask connect URLs.")],
}


def _flag(name: str, text: str) -> Any:  # noqa: ANN401  what Typer reads
    return Annotated[bool, typer.Option(name, help=text)]


def _text(name: str, metavar: str, text: str) -> Any:  # noqa: ANN401
    return Annotated[Optional[str], typer.Option(name, metavar=metavar, help=text)]


# What a provider may take for a session; each refuses what it has no use for.
_SESSION = {
    "headed": _flag("--headed", "With a window (local; needs a display)."),
    "args": Annotated[
        list[str],
        typer.Option("--arg", metavar="SWITCH", help="A switch for the browser: --arg=--lang=de.", show_default=False),
    ],
    "executable": _text("--executable", "PATH", "The browser to start (local)."),
    "stealth": _flag("--stealth", "Hide that it is automated."),
    "keep_alive": _text("--keep-alive", "DURATION", "How long it outlives its last client; `on` at Browserbase."),
    "proxy": _text("--proxy", "PROXY", "on, us, us:ny:nyc, residential:us, datacenter:us, or a URL."),
    "browser": _text("--browser", "NAME", "chromium or chrome (Browserless)."),
    "saved": _text("--context", "ID", "Saved cookies and storage; ID:persist keeps changes."),
    "viewport": _text("--viewport", "WxH", "The window's size, 1280x720 (Browserbase)."),
    "block_ads": _flag("--block-ads", "Block advertisements (Browserbase)."),
    "no_record": _flag("--no-record", "Record no video (Browserbase)."),
    "no_log": _flag("--no-log", "Keep no log (Browserbase)."),
    "verified": _flag("--verified", "A verified browser (Browserbase)."),
    "os": _text("--os", "NAME", "windows, mac, linux, mobile or tablet (Browserbase)."),
    "extension": _text("--extension", "ID", "An uploaded extension (Browserbase)."),
    "set": Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=JSON", help="Any field of the provider: --set a.b=1.", show_default=False),
    ],
}
_ALWAYS = ("output", "quiet", "verbose", "debug")
_READS = (*_ALWAYS, "timeout", "deadline")
_BOUNDED = (*_ALWAYS, "timeout", "deadline", "workers")


def _command(
    on: typer.Typer, name: str, common: tuple[str, ...] = _BOUNDED, **settings: object
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Register a command: its own parameters, then the common ones, which it gets as one Invocation.

    One with a parameter `options` gets there what its user asked of a session.
    """

    def register(function: Callable[..., int]) -> Callable[..., int]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        makes_sessions = any(parameter.name == "options" for parameter in own)
        own = [parameter for parameter in own if parameter.name != "options"]
        injected = {**(_SESSION if makes_sessions else {}), **{key: _COMMON[key] for key in common}}

        @functools.wraps(function)
        def call(context: typer.Context, **values: Any) -> int:  # noqa: ANN401  Typer has converted them
            invocation: Invocation = context.find_root().obj
            invocation.flags = Flags(**{key: values.pop(key) for key in common})
            if makes_sessions:
                values["options"] = _session_options({key: values.pop(key) for key in _SESSION})
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


@_command(app, "create", (*_BOUNDED, "show_secrets"))
def create(
    invocation: Invocation,
    *,
    profile: OneProfile = None,
    region: Region = None,
    ttl: Ttl = None,
    label: Labels = [],
    count: Annotated[int, typer.Option("--count", min=1, help="How many.")] = 1,
    owner_pid: Annotated[
        Optional[int],
        typer.Option(
            "--owner-pid", metavar="PID", help="The process that keeps it: once it is gone, a sweep ends the session."
        ),
    ] = None,
    options: dict[str, object],
) -> int:
    """Make a session.

    \b
    Examples:
      bsess create
      bsess create --ttl 5m --label job=42 -o json
      bsess create --count 3 -o url
    """
    from bsess.commands.create import CreateOptions, create, deliver, undo

    invocation.check_can_tell(count)
    wanted = CreateOptions(
        profile=profile,
        region=region,
        ttl=_duration(ttl, "--ttl"),
        labels=config.labels(label),
        count=count,
        owner_pid=owner_pid,
        options=options,
    )
    return invocation.run(
        "create",
        lambda context: create(context, wanted),
        secrets_asked_for=True,
        told=Told(deliver, undo),
    )


@_command(app, "list", (*_BOUNDED, "show_secrets"))
def list_sessions(
    invocation: Invocation,
    *,
    profile: Profiles = [],
    status: Annotated[
        Optional[str], typer.Option("--status", help="Only of this status; `all`: also ended ones that left files.")
    ] = None,
    label: Labels = [],
    region: Region = None,
    run: ThisRun = False,
    run_id: RunId = None,
    mine: Annotated[bool, typer.Option("--mine", help="Only mine.")] = False,
    foreign: Annotated[bool, typer.Option("--foreign", help="Only those that are not mine.")] = False,
    orphans: Annotated[bool, typer.Option("--orphans", help="Only those that a sweep would end.")] = False,
    older_than: OlderThan = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every two seconds (terminal only).")] = False,
) -> int:
    """Show the sessions that live, on all configured profiles.

    \b
    Examples:
      bsess list
      bsess list --mine --older-than 1h -o json
      bsess list --orphans
    """
    from bsess.commands.list import ListOptions, list_sessions

    options = ListOptions(
        profiles=profile,
        status=status,
        labels=config.labels(label),
        region=region,
        mine=mine,
        foreign=foreign,
        orphans=orphans,
        older_than=_duration(older_than, "--older-than"),
        run=_run(invocation, this=run, named=run_id),
    )

    def call(context: Context) -> Result:
        return list_sessions(context, options)

    return invocation.watch(call, every=2.0) if watch else invocation.run("list", call)


@_command(app, "close", (*_BOUNDED, "yes"))
def close(
    invocation: Invocation,
    ids: Ids = [],
    *,
    profile: OneProfile = None,
    every: Annotated[bool, typer.Option("--all", help="All of mine.")] = False,
    label: Labels = [],
    run: ThisRun = False,
    run_id: RunId = None,
    older_than: OlderThan = None,
    force: Annotated[bool, typer.Option("--force", help="Although a client is attached or the browser hangs.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Look until it is gone.")] = False,
    wait_timeout: Annotated[
        Optional[str],
        typer.Option("--wait-timeout", metavar="DURATION", help="How long to look; implies --wait. [60s]"),
    ] = None,
    foreign: Annotated[bool, typer.Option("--foreign", help="Also ids from standard input that are not mine.")] = False,
    file: Annotated[
        Optional[str], typer.Option("--file", metavar="PATH", help="Read ids from there, one a line, as from a pipe.")
    ] = None,
    ignore_not_found: Annotated[bool, typer.Option("--ignore-not-found", help="An unknown id is no failure.")] = False,
    dry_run: DryRun = False,
) -> int:
    """End sessions: by id, unique prefix or URL, from standard input (-), or by what they have in common.

    A Browserless session loses its saved cookies and storage with it.

    \b
    Examples:
      bsess close abcdefghijklmnop --force
      bsess list --mine -o name | bsess close -
      bsess close --label job=42 --yes
    """
    from bsess.commands.close import CloseOptions, close

    wait_seconds = _duration(wait_timeout, "--wait-timeout") or (60.0 if wait else None)
    selects = every or bool(label) or run or run_id is not None
    if not ids and not selects and file is None:
        raise UsageError(
            "close needs an id, - for standard input, --file, or --all, --label or --run", hint="`bsess close --help`"
        )
    typed, read = read_ids(ids)
    if file is not None:
        read += lines_of(read_file(file, name="--file"))
    options = CloseOptions(
        typed=typed,
        read=read,
        profile=profile,
        every=every,
        labels=config.labels(label),
        run=_run(invocation, this=run, named=run_id),
        older_than=_duration(older_than, "--older-than"),
        force=force,
        wait=wait_seconds,
        foreign=foreign,
        ignore_not_found=ignore_not_found,
        dry_run=dry_run,
    )
    return invocation.run("close", lambda context: close(context, options))


@_command(app, "sweep", (*_BOUNDED, "yes"))
def sweep(
    invocation: Invocation,
    *,
    profile: Profiles = [],
    label: Labels = [],
    region: Region = None,
    run: ThisRun = False,
    run_id: RunId = None,
    older_than: OlderThan = None,
    min_age: Annotated[
        Optional[str],
        typer.Option("--min-age", metavar="AGE", help="Never by age below this. [60s]"),
    ] = None,
    protect: Annotated[
        list[str],
        typer.Option("--protect", metavar="RULE", help="label:KEY, label:KEY=VALUE or id:PREFIX.", show_default=False),
    ] = [],
    max_close: Annotated[
        Optional[int], typer.Option("--max-close", min=0, metavar="N", help="End nothing where more than N would end.")
    ] = None,
    dry_run: DryRun = False,
    plan: Annotated[
        Optional[str], typer.Option("--plan", metavar="FILE", help="End nothing beyond this plan of --plan-out.")
    ] = None,
    plan_out: Annotated[
        Optional[str], typer.Option("--plan-out", metavar="FILE", help="Write what would end there; end nothing.")
    ] = None,
    fail_if_found: Annotated[
        bool, typer.Option("--fail-if-found", help="End nothing; exit 7 where something would end.")
    ] = False,
    lock_wait: Annotated[
        Optional[str], typer.Option("--lock-wait", metavar="DURATION", help="Wait for another sweep. [0s]")
    ] = None,
    report: Annotated[
        Optional[str], typer.Option("--report", metavar="FILE", help="Also write the JSON document there.")
    ] = None,
    metrics: Annotated[
        Optional[str], typer.Option("--metrics", metavar="FILE", help="Write metrics in the Prometheus text format.")
    ] = None,
) -> int:
    """End what is mine and orphaned, and nothing else; each with its reason.

    \b
    Examples:
      bsess sweep --dry-run
      bsess sweep --yes
      bsess sweep --older-than 2h --yes -o json
    """
    from bsess.commands.sweep import SweepOptions, sweep

    options = SweepOptions(
        profiles=profile,
        labels=config.labels(label),
        region=region,
        run=_run(invocation, this=run, named=run_id),
        older_than=_duration(older_than, "--older-than"),
        min_age=_duration(min_age, "--min-age"),
        protect=protect,
        max_close=max_close,
        dry_run=dry_run,
        plan=None if plan is None else read_file(plan, name="--plan"),
        plan_out=plan_out,
        fail_if_found=fail_if_found,
        lock_wait=_duration(lock_wait, "--lock-wait") or 0.0,
        metrics=metrics,
    )
    return invocation.run(
        "sweep", lambda context: sweep(context, options), deadline=SWEEP_DEADLINE_SECONDS, report=report
    )


@_command(app, "run", ("quiet", "verbose", "debug", "timeout"))
def run(
    invocation: Invocation,
    command: Annotated[list[str], typer.Argument(metavar="-- CMD…", show_default=False)],
    *,
    profile: OneProfile = None,
    region: Region = None,
    ttl: Ttl = None,
    label: Labels = [],
    options: dict[str, object],
    grace: Annotated[
        str, typer.Option("--grace", metavar="DURATION", help="How long the command may take to obey a signal.")
    ] = "5s",
) -> int:
    """Make a session, run a command with it, and always end it.

    The command finds it in BSESS_CONNECT_URL, BSESS_SESSION_ID, BSESS_PROVIDER and BSESS_PROFILE.
    Its exit code is ours.

    \b
    Examples:
      bsess run -- python scrape.py
      bsess run --ttl 10m --label job=42 -- npm test
    """
    from bsess.commands.create import CreateOptions
    from bsess.commands.run import CREATE_FAILED, RunOptions, run

    invocation.command = "run"
    wanted = RunOptions(
        create=CreateOptions(
            profile=profile,
            region=region,
            ttl=_duration(ttl, "--ttl"),
            labels=config.labels(label),
            options=options,
        ),
        command=command,
        grace=_duration(grace, "--grace") or 0.0,
    )
    context = invocation.context(config.load(invocation.environment), deadline=None)
    try:
        return run(context, wanted)
    except UsageError:
        raise
    except BsessError as error:
        invocation.fail(error)
        return CREATE_FAILED
    finally:
        context.close()


@_command(app, "adopt")
def adopt(
    invocation: Invocation,
    ids: Ids,
    *,
    profile: OneProfile = None,
    ttl: Ttl = None,
    label: Labels = [],
) -> int:
    """Make mine what my own code created: from now on close --all and sweep end it.

    \b
    Examples:
      bsess adopt abcdefghijklmnop --ttl 30m
    """
    from bsess.commands.adopt import AdoptOptions, adopt

    options = AdoptOptions(ids=ids, profile=profile, ttl=_duration(ttl, "--ttl"), labels=config.labels(label))
    return invocation.run("adopt", lambda context: adopt(context, options))


@_command(app, "tag", _ALWAYS)
def tag(invocation: Invocation, *, profile: OneProfile = None, label: Labels = []) -> int:
    """Print what a session that my own code creates must carry to be mine from the start.

    \b
    Examples:
      bsess tag -o json
    """
    from bsess.commands.tag import tag

    labels = config.labels(label)
    return invocation.run("tag", lambda context: tag(context, profile, labels))


@_command(app, "usage", _READS)
def usage(invocation: Invocation, *, profile: Profiles = []) -> int:
    """Show what each account uses of its slots and units.

    \b
    Examples:
      bsess usage
    """
    from bsess.commands.usage import usage

    return invocation.run("usage", lambda context: usage(context, profile))


OneSession = Annotated[str, typer.Argument(metavar="ID", autocompletion=_session_ids, show_default=False)]


@_command(app, "show", (*_READS, "show_secrets"))
def show(invocation: Invocation, session: OneSession, *, profile: OneProfile = None) -> int:
    """Show one session, with all that its provider tells of it.

    \b
    Examples:
      bsess show abcdefghijklmnop
    """
    from bsess.commands.details import show

    return invocation.run("show", lambda context: show(context, session, profile))


@_command(app, "live", _READS)
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


@_command(app, "logs", _READS)
def logs(invocation: Invocation, session: OneSession, *, profile: OneProfile = None) -> int:
    """Print a session's DevTools log, one JSON record a line (Browserbase).

    \b
    Examples:
      bsess logs 5a1b0cc4-5f0a-4a2e-8f2e-3f1f2f1f0a11
    """
    from bsess.commands.details import logs

    return invocation.run("logs", lambda context: logs(context, session, profile))


@_command(app, "recording", _READS)
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

    if mp4:
        if file is None:
            raise UsageError("--mp4 needs --file", hint="--mp4 --file rec.mp4")
        return invocation.run("recording", lambda context: videos(context, session, profile, file))
    return invocation.run("recording", lambda context: recording(context, session, profile, file))


@_command(app, "bql", _READS)
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

    options = QueryOptions(name=session, text=_query(query, file), variables=variables(var), profile=profile)
    if invocation.flags.timeout is None:
        # A query drives pages for as long as it needs: the command's deadline bounds it.
        invocation.flags.timeout = "1d"
    return invocation.run("bql", lambda context: bql(context, options))


@_command(app, "history", _ALWAYS)
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

    seconds = _duration(since, "--since")
    return invocation.run("history", lambda context: history(context, since=seconds, limit=limit))


@_command(app, "completion", ("quiet",))
def completion(
    invocation: Invocation,
    shell: Annotated[
        str, typer.Argument(metavar="bash|zsh|fish|powershell", autocompletion=_shells, show_default=False)
    ],
) -> int:
    """Print the completion script of a shell.

    \b
    Examples:
      bsess completion bash
    """
    from bsess.completion import script

    return invocation.tell(script(shell))


@_command(config_app, "show", _ALWAYS)
def config_show(invocation: Invocation) -> int:
    """Show every setting and where it came from.

    \b
    Examples:
      bsess config show
    """
    from bsess.commands.config import show

    return invocation.run("config show", show)


@_command(config_app, "path", _ALWAYS)
def config_path(invocation: Invocation) -> int:
    """Print where the config file is, or would be.

    \b
    Examples:
      bsess config path
    """
    from bsess.commands.config import path

    return invocation.run("config path", lambda context: path(context.config.path.value))


@_command(config_app, "init", _ALWAYS)
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


@_command(context_app, "create", _READS)
def context_create(invocation: Invocation, *, profile: OneProfile = None) -> int:
    """Make an empty context and print its id (Browserbase).

    \b
    Examples:
      bsess context create
    """
    from bsess.commands import context as contexts

    return invocation.run("context create", lambda context: contexts.create(context, profile))


@_command(context_app, "show", _READS)
def context_show(invocation: Invocation, name: OneContext, *, profile: OneProfile = None) -> int:
    """Show one context.

    \b
    Examples:
      bsess context show 5a1b0cc4-5f0a-4a2e-8f2e-3f1f2f1f0a11
    """
    from bsess.commands import context as contexts

    return invocation.run("context show", lambda context: contexts.show(context, name, profile))


@_command(context_app, "delete", _READS)
def context_delete(invocation: Invocation, name: OneContext, *, profile: OneProfile = None) -> int:
    """Delete one context, with all that it saved.

    \b
    Examples:
      bsess context delete 5a1b0cc4-5f0a-4a2e-8f2e-3f1f2f1f0a11
    """
    from bsess.commands import context as contexts

    return invocation.run("context delete", lambda context: contexts.delete(context, name, profile))


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


def _duration(text: str | None, name: str) -> float | None:
    zero = name in ("--older-than", "--min-age", "--grace")
    return None if text is None else durations.parse(text, name=name, zero=zero)


def _run(invocation: Invocation, *, this: bool, named: str | None) -> str | None:
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


def _session_options(given: dict[str, Any]) -> dict[str, object]:
    """Return what was given: a provider refuses what it has no use for."""
    keep_alive = given["keep_alive"]
    if keep_alive is not None:
        given["keep_alive"] = keep_alive == "on" or _duration(keep_alive, "--keep-alive")
    given["set"] = _fields(given["set"])
    given["context"] = given.pop("saved")
    return {key: value for key, value in given.items() if value not in (None, False, [], {})}


def _query(given: str | None, file: str | None) -> str:
    if given is not None and file is not None:
        raise UsageError("a query and --file exclude each other")
    if given not in (None, "-"):
        return str(given)
    if file in (None, "-"):
        return read_text("the query")
    return read_file(str(file), name="--file")


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
