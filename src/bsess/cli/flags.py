"""Flags that several commands share."""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer


def _session_ids(incomplete: str) -> list[str]:
    from bsess import completion

    return completion.session_ids(incomplete)


def _profile_names(incomplete: str) -> list[str]:
    from bsess import completion

    return completion.profile_names(incomplete)


def shells(incomplete: str) -> list[str]:
    """Return the shells that begin so."""
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

COMMON = {
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
SESSION = {
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
ALWAYS = ("output", "quiet", "verbose", "debug")
READS = (*ALWAYS, "timeout", "deadline")
BOUNDED = (*ALWAYS, "timeout", "deadline", "workers")


OneSession = Annotated[str, typer.Argument(metavar="ID", autocompletion=_session_ids, show_default=False)]
