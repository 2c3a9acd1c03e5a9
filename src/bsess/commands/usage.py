"""`bsess usage`: what each account uses of what it may."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from bsess import inventory, verdict
from bsess.errors import BsessError, ExitCode, UsageError
from bsess.known import same_account
from bsess.model import AccountUsage, Result
from bsess.providers.base import UNSUPPORTED, Capability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bsess.config import Profile
    from bsess.context import Context
    from bsess.model import Problem
    from bsess.providers.base import Measures


def usage(context: Context, names: Sequence[str]) -> Result:
    """Ask the named profiles, or all whose provider can tell; one line for each account."""
    profiles = [context.config.profile(name) for name in names] or list(context.config.profiles.values())
    failures: list[tuple[Problem, int]] = []
    told: list[AccountUsage] = []
    for group in inventory.accounts(context, profiles, failures):
        profile = group[0]
        try:
            if Capability.USAGE in context.provider(profile).capabilities:
                told.append(_of(context, profile))
            elif names:
                raise UsageError(f"{profile.provider} tells nothing of what is used", code=UNSUPPORTED)
        except BsessError as error:
            failures.append((inventory.problem(error, profile=profile.name), error.exit_code))
    codes = [code for _, code in failures]
    return Result(
        "usage",
        exit_code=(ExitCode.PARTIAL if told else verdict.of_failures(codes)) if codes else ExitCode.OK,
        usage=tuple(told),
        errors=tuple(problem for problem, _ in failures),
    )


def _of(context: Context, profile: Profile) -> AccountUsage:
    provider = context.provider(profile)
    me = context.config.owner.value
    rows = [row for row in context.ledger().open_rows() if row.owner == me and same_account(row, provider)]
    return AccountUsage(profile.name, profile.provider, len(rows), cast("Measures", provider).usage())
