"""`bsess tag`: what a session that my own code creates must carry to be mine from the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bsess.model import Owner, Result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bsess.context import Context


def tag(context: Context, profile: str | None, labels: Mapping[str, str]) -> Result:
    """Return the tag in the provider's own form. Raises UsageError where the provider takes none."""
    config = context.config
    provider = context.provider(config.profile(profile))
    return Result("tag", tag=provider.tag(Owner(config.owner.value, config.run.value), labels))
