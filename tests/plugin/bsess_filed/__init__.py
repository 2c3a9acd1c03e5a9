"""Somebody else's provider: an account in a JSON file, which can misbehave on command.

The file is {"sessions": {id: {...}}, "faults": {"create"|"list"|"get"|"close": FAULT}, "calls": ["close ID force", …]}.
FAULT: lost (done, but the answer is lost), silent (not done, no answer), refused, forbidden, full, accepted (done
later: never), absent.
"""

from __future__ import annotations

import fcntl
import json
import re
import time
from contextlib import contextmanager
from pathlib import Path

from bsess.errors import AuthError, FailedError, QuotaError, UnreachableError
from bsess.model import Owner
from bsess.providers.base import Capability, CloseAnswer, CloseState, Listing, RemoteSession

ID = re.compile(r"filed-[0-9a-z]{8}")
REFUSALS = {
    "refused": FailedError("the provider refused", http_status=400),
    "forbidden": AuthError("the token may not do this", http_status=403),
    "full": QuotaError("all slots are taken", code="slots", http_status=429),
    "silent": UnreachableError("no answer within 30 s"),
}


class FiledProvider:
    name = "filed"
    capabilities = frozenset({Capability.TAG})
    ttl_bounds = (1.0, 3600.0)
    secret = None

    def __init__(self, settings):
        self.base_url = settings.url or ""
        self.account = "one"
        self._path = Path(self.base_url)

    def validate(self, request):
        pass

    def planned_id(self, request):
        return None

    def create(self, request):
        with self._account(f"create {request.key}") as account:
            fault = self._fail(account, "create")
            number = len(account["sessions"])
            session_id = f"filed-{number:08}"
            account["sessions"][session_id] = {
                "created_at": time.time(),
                "expires_at": time.time() + request.ttl,
                "owner": request.owner.name,
                "run": request.owner.run,
                "key": request.owner.key,
                "labels": dict(request.labels),
            }
            made = self._session(session_id, account["sessions"][session_id])
        if fault == "lost":
            raise UnreachableError("the answer was lost")
        return made

    def list(self):
        with self._account("list") as account:
            self._fail(account, "list")
            found = [self._session(*item) for item in account["sessions"].items()]
        return Listing(tuple(found), settle_seconds=0.0)

    def get(self, session_id):
        with self._account(f"get {session_id}") as account:
            self._fail(account, "get")
            record = account["sessions"].get(session_id)
        return None if record is None else self._session(session_id, record)

    def close(self, target):
        with self._account(f"close {target.id}{' force' if target.force else ''}") as account:
            fault = self._fail(account, "close")
            if fault == "accepted":
                return CloseAnswer(CloseState.ACCEPTED, provider_status="REQUEST_RELEASE", http_status=200)
            if account["sessions"].pop(target.id, None) is None:
                return CloseAnswer(CloseState.ABSENT, http_status=404)
        if fault == "lost":
            raise UnreachableError("the answer was lost")
        return CloseAnswer(CloseState.ENDED, http_status=200)

    def is_id(self, text):
        return ID.fullmatch(text) is not None

    def disconnect(self):
        pass

    def tag(self, owner, labels):
        return {"owner": owner.name, **labels}

    def _session(self, session_id, record):
        owner = Owner(record["owner"], record.get("run"), record.get("key")) if record.get("owner") else None
        return RemoteSession(
            id=session_id,
            status=record.get("status", "running"),
            live=record.get("live", True),
            created_at=record.get("created_at"),
            expires_at=record.get("expires_at"),
            owner=owner,
            labels=record.get("labels", {}),
            connect_url=f"wss://filed.invalid/{session_id}?token=canary-secret",
        )

    def _fail(self, account, call):
        fault = account["faults"].get(call)
        if fault in REFUSALS:
            raise REFUSALS[fault]
        return fault

    @contextmanager
    def _account(self, call):
        with self._path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            account = json.load(file)
            account["calls"].append(call)
            try:
                yield account
            finally:
                file.seek(0)
                file.truncate()
                json.dump(account, file)
