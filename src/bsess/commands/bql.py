"""`bsess bql`: run a BrowserQL query in a session of mine."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from bsess import durations, naming
from bsess.context import unseal
from bsess.errors import ExitCode, FailedError, NotFoundError, UsageError
from bsess.ledger import RowState
from bsess.model import Problem, Result
from bsess.output.text import clean, redact
from bsess.providers.base import UNSUPPORTED, Capability

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bsess.context import Context
    from bsess.ledger import Row
    from bsess.providers.base import Queries


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """Which session, and what to ask of it."""

    name: str
    text: str
    variables: Mapping[str, object] = field(default_factory=dict)
    profile: str | None = None


def bql(context: Context, options: QueryOptions) -> Result:
    """Run the query once; a GraphQL error makes the command fail, with the answer told all the same."""
    naming.check(options.name)
    if not options.text.strip():
        raise UsageError("the query is empty", hint="bsess bql ID 'mutation { title { title } }'")
    profile_name, session_id = naming.split(context, options.name)
    row = naming.find_row(context, session_id, profile_name or options.profile)
    if row is None or row.state is RowState.CLOSED:
        raise NotFoundError(
            f"{session_id}: {'it has ended' if row else 'the ledger has no such session'}",
            hint="`bsess list --mine` shows those there are",
            session=session_id,
        )
    provider = context.provider(context.config.profile(row.profile))
    if Capability.QUERY not in provider.capabilities:
        raise UsageError(f"{row.shown_id}: {row.provider} has no BrowserQL", code=UNSUPPORTED, session=row.shown_id)
    url = unseal(provider, row.query_url)
    if url is None:
        raise FailedError(
            f"{row.shown_id}: it has no BrowserQL endpoint",
            code="no_query_url",
            hint="make it with `bsess create --stealth`",
            session=row.shown_id,
        )
    answer = cast("Queries", provider).query(url, options.text, options.variables)
    problems = tuple(_problems(answer, row, provider.secret or ""))
    return Result(
        "bql",
        exit_code=ExitCode.FAILED if problems else ExitCode.OK,
        answer=answer,
        errors=problems,
        notes=(_stays_open(context, row),),
    )


def variables(pairs: Sequence[str]) -> dict[str, object]:
    """Read `--var k=v`: JSON where v is JSON, else the text itself. Raises UsageError."""
    found: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise UsageError(f"--var {pair[:60]!r} is not understood", hint="--var name=value")
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found


def _problems(answer: object, row: Row, secret: str) -> list[Problem]:
    errors = answer.get("errors") if isinstance(answer, dict) else None
    if not errors:
        return []
    found = errors if isinstance(errors, list) else [errors]
    said = [str(item.get("message") if isinstance(item, dict) else item) for item in found]
    return [
        Problem("bql", f"{row.shown_id}: {clean(redact(text, [secret]))[:300]}", session=row.shown_id) for text in said
    ]


def _stays_open(context: Context, row: Row) -> str:
    left = "" if row.expires_at is None else f", its ttl in {durations.show(row.expires_at - context.now())}"
    return f"{row.shown_id} stays open until `bsess close {row.shown_id} --force`{left}"
