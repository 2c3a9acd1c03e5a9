"""`bsess context`: saved cookies and storage, for `create --context`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from bsess import naming
from bsess.errors import NotFoundError, UsageError
from bsess.model import Result
from bsess.providers.base import UNSUPPORTED, Capability

if TYPE_CHECKING:
    from bsess.context import Context
    from bsess.providers.base import KeepsContexts


def create(context: Context, profile: str | None) -> Result:
    """Make an empty one and return its id."""
    return Result("context create", text=_keeper(context, profile).create_context())


def show(context: Context, name: str, profile: str | None) -> Result:
    """Return what the provider tells of one."""
    _check(name)
    found = _keeper(context, profile).context(name)
    if found is None:
        raise _unknown(name)
    return Result("context show", answer=dict(found))


def delete(context: Context, name: str, profile: str | None) -> Result:
    """Delete one, with all that it saved: its typed id is the consent."""
    _check(name)
    if not _keeper(context, profile).delete_context(name):
        raise _unknown(name)
    return Result("context delete", text=name)


def _keeper(context: Context, profile: str | None) -> KeepsContexts:
    wanted = context.config.profile(profile)
    provider = context.provider(wanted)
    if Capability.CONTEXTS not in provider.capabilities:
        raise UsageError(f"{wanted.provider} keeps no contexts that bsess can reach", code=UNSUPPORTED)
    return cast("KeepsContexts", provider)


def _check(name: str) -> None:
    if not name.strip() or not name.isprintable():
        raise UsageError(
            f"{name[:40]!r} cannot be a context's id", code="id_invalid", hint="`bsess context create` prints one"
        )
    naming.check(name)


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(f"{name}: no such context", hint="another profile is named with -p")
