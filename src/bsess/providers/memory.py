"""Sessions that exist only in this process: the reference of the provider contract, and a fake for users' own tests."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, ClassVar

from bsess.errors import UsageError
from bsess.model import Owner, Status
from bsess.providers.base import (
    Capability,
    CloseAnswer,
    CloseState,
    CloseTarget,
    CreateRequest,
    Listing,
    ProviderSettings,
    RemoteSession,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_ID = re.compile(r"memory-[0-9]{6}", re.ASCII)


# The accounts, by profile: what a server would hold. They end with the process.
_ACCOUNTS: dict[str, dict[str, RemoteSession]] = {}
_NUMBERS = count(1)


class MemoryProvider:
    """An account of this process; all providers of one profile share it, as clients of one server would."""

    name: ClassVar[str] = "memory"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.TAG})
    ttl_bounds: ClassVar[tuple[float, float]] = (1.0, 86_400.0)

    def __init__(self, settings: ProviderSettings) -> None:
        self.secret: str | None = None
        self.base_url = "memory:"
        self.account = settings.profile
        self._sessions = _ACCOUNTS.setdefault(settings.profile, {})

    def validate(self, request: CreateRequest) -> None:
        """Refuse options: there are none."""
        if request.region is not None:
            raise UsageError("memory sessions have no region", hint="leave --region out")
        if request.options:
            raise UsageError(f"memory sessions have no option {next(iter(request.options))!r}")

    def planned_id(self, request: CreateRequest) -> None:
        """Return None: the account numbers its sessions itself."""

    def create(self, request: CreateRequest) -> RemoteSession:
        """Make a session that ends with its ttl."""
        now = time.time()
        session = RemoteSession(
            id=f"memory-{next(_NUMBERS):06}",
            status=Status.RUNNING,
            live=True,
            created_at=now,
            expires_at=now + request.ttl,
            owner=request.owner,
            labels=dict(request.labels),
            region=request.region,
            connect_url="ws://127.0.0.1:1/memory",
        )
        self._sessions[session.id] = session
        return session

    def list(self) -> Listing:
        """Return all sessions whose ttl has not passed."""
        now = time.time()
        live = (session for session in list(self._sessions.values()) if (session.expires_at or 0) > now)
        return Listing(sessions=tuple(live), settle_seconds=0.0)

    def get(self, session_id: str) -> RemoteSession | None:
        """Return one session; one whose ttl has passed is `ended`."""
        session = self._sessions.get(session_id)
        if session is not None and (session.expires_at or 0) <= time.time():
            return replace(session, status=Status.ENDED, live=False, connect_url=None)
        return session

    def close(self, target: CloseTarget) -> CloseAnswer:
        """End a session at once."""
        session = self._sessions.pop(target.id, None)
        return CloseAnswer(CloseState.ABSENT if session is None else CloseState.ENDED)

    def is_id(self, text: str) -> bool:
        """Tell whether `text` is `memory-` and six digits."""
        return _ID.fullmatch(text) is not None

    def disconnect(self) -> None:
        """Do nothing: there are no connections."""

    def tag(self, owner: Owner, labels: Mapping[str, str]) -> Mapping[str, str]:
        """Return the metadata by which a session is that owner's."""
        return {"bsess_owner": owner.name, **({"bsess_run": owner.run} if owner.run else {}), **labels}
