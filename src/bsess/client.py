"""The Python API: the same commands, for a program."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bsess import config
from bsess.commands import close, create, sweep
from bsess.commands import list as listing
from bsess.context import Context

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bsess.model import Outcome, Session
    from bsess.model import Result as Report


class Client:
    """One profile's sessions, with the settings that the command line would have here.

    Nothing is asked or printed. Durations are seconds. Failures are raised as the errors of `bsess.errors`.
    """

    def __init__(self, profile: str | None = None, *, environment: Mapping[str, str] | None = None) -> None:
        self._environment = dict(os.environ) if environment is None else dict(environment)
        self._config = config.load(self._environment)
        self._profile = self._config.profile(profile).name

    def create(
        self,
        *,
        ttl: float | None = None,
        labels: Mapping[str, str] | None = None,
        region: str | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Session:
        """Make a session; `options` are the provider's own settings."""
        with self._context("create") as context:
            result = create.create(
                context,
                create.CreateOptions(
                    profile=self._profile, region=region, ttl=ttl, labels=labels or {}, options=options or {}
                ),
            )
            create.deliver(context, result)
        return (result.sessions or ())[0]

    def list(
        self,
        *,
        mine: bool = False,
        labels: Mapping[str, str] | None = None,
        status: str | None = None,
        older_than: float | None = None,
    ) -> Sequence[Session]:
        """Return the profile's sessions that live."""
        options = listing.ListOptions(
            profiles=[self._profile], mine=mine, labels=labels or {}, status=status, older_than=older_than
        )
        with self._context("list") as context:
            result = listing.list_sessions(context, options)
        return list(result.sessions or ())

    def close(self, session_id: str, *, force: bool = False, wait: float | None = None) -> Outcome:
        """End a session and return what came of it, failures included."""
        options = close.CloseOptions(typed=[session_id], profile=self._profile, force=force, wait=wait)
        with self._context("close") as context:
            result = close.close(context, options)
        return (result.outcomes or ())[0]

    def sweep(self, *, older_than: float | None = None, dry_run: bool = False) -> Report:
        """End my orphans; the report has every decision and every outcome."""
        options = sweep.SweepOptions(profiles=[self._profile], older_than=older_than, dry_run=dry_run)
        with self._context("sweep") as context:
            return sweep.sweep(context, options)

    @contextmanager
    def session(self, *, ttl: float | None = None, labels: Mapping[str, str] | None = None) -> Iterator[Session]:
        """Make a session for the length of a block, and end it however the block ends."""
        made = self.create(ttl=ttl, labels=labels)
        try:
            yield made
        finally:
            self.close(made.id, force=True)

    @contextmanager
    def _context(self, command: str) -> Iterator[Context]:
        context = Context(config=self._config, environment=self._environment, command=command)
        context.until = time.monotonic() + 300.0
        try:
            yield context
        finally:
            context.close()
