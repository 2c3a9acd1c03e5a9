"""The heart: create, list, close, sweep and run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from bsess import config
from bsess.cli.apps import app, command
from bsess.cli.flags import BOUNDED, DryRun, Ids, Labels, OlderThan, OneProfile, Profiles, Region, RunId, ThisRun, Ttl
from bsess.cli.values import check_files, duration, run_wanted
from bsess.errors import BsessError, LockedError, UsageError
from bsess.invocation import (
    SWEEP_DEADLINE_SECONDS,
    Invocation,
    ResultUntold,
    Told,
    lines_of,
    read_file,
    read_ids,
    reported,
)

if TYPE_CHECKING:
    from bsess.context import Context
    from bsess.model import Result
    from bsess.sweep.plan import Plan


@command(app, "create", (*BOUNDED, "show_secrets"))
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
        ttl=duration(ttl, "--ttl"),
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


@command(app, "list", (*BOUNDED, "show_secrets"))
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
        older_than=duration(older_than, "--older-than"),
        run=run_wanted(invocation, this=run, named=run_id),
    )

    def call(context: Context) -> Result:
        return list_sessions(context, options)

    return invocation.watch(call, every=2.0) if watch else invocation.run("list", call)


@command(app, "close", (*BOUNDED, "yes"))
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

    wait_seconds = duration(wait_timeout, "--wait-timeout") or (60.0 if wait else None)
    selects = every or bool(label) or run or run_id is not None
    if not ids and not selects and file is None:
        raise UsageError(
            "close needs an id, - for standard input, --file, or --all, --label or --run", hint="`bsess close --help`"
        )
    typed, read = read_ids(ids)
    if file is not None:
        read += lines_of(read_file(file, name=f"--file {file}"))
    options = CloseOptions(
        typed=typed,
        read=read,
        profile=profile,
        every=every,
        labels=config.labels(label),
        run=run_wanted(invocation, this=run, named=run_id),
        older_than=duration(older_than, "--older-than"),
        force=force,
        wait=wait_seconds,
        foreign=foreign,
        ignore_not_found=ignore_not_found,
        dry_run=dry_run,
    )
    return invocation.run("close", lambda context: close(context, options))


@command(app, "sweep", (*BOUNDED, "yes"))
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
    from bsess.commands.sweep import SweepOptions, failure, sweep

    check_files({"--report": report, "--metrics": metrics, "--plan-out": plan_out})
    options = SweepOptions(
        profiles=profile,
        labels=config.labels(label),
        region=region,
        run=run_wanted(invocation, this=run, named=run_id),
        older_than=duration(older_than, "--older-than"),
        min_age=duration(min_age, "--min-age"),
        protect=protect,
        max_close=max_close,
        dry_run=dry_run,
        plan=None if plan is None else _plan(plan),
        plan_out=plan_out,
        fail_if_found=fail_if_found,
        lock_wait=duration(lock_wait, "--lock-wait") or 0.0,
        metrics=metrics,
    )
    try:
        return invocation.run(
            "sweep", lambda context: sweep(context, options), deadline=SWEEP_DEADLINE_SECONDS, report=report
        )
    except (LockedError, ResultUntold):
        raise  # another sweep has files of its own to tell; what was done is told already
    except BsessError as error:
        failed = failure(error, metrics)
        if report is not None:
            reported(report, failed)
        raise


def _plan(path: str) -> Plan:
    from bsess.sweep import plan as plans

    name = f"--plan {path}"
    return plans.read(read_file(path, name=name, hint=plans.WRITTEN_BY), name=name)


@command(app, "run", ("quiet", "verbose", "debug", "timeout"))
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
            ttl=duration(ttl, "--ttl"),
            labels=config.labels(label),
            options=options,
        ),
        command=command,
        grace=duration(grace, "--grace") or 0.0,
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
