"""What every provider must do. A new one joins by a fixture: its name in PROVIDERS and a function that makes it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pytest

from bsess.context import new_key
from bsess.errors import BsessError
from bsess.model import Owner
from bsess.providers import load
from bsess.providers.base import CloseState, CloseTarget, CreateRequest, ProviderSettings
from worlds import CHROMIUM_ARGS, wait_for

PLUGIN = Path(__file__).parent / "plugin"
PROVIDERS = ["memory", "local", "filed"]
HOSTILE_IDS = ["", " ", "a b", "../x", "..", "a\nb", "a\x1b[31mb", "x" * 10_000, "a/b", "-rf", "é", "\u202e"]


@pytest.fixture(params=PROVIDERS)
def provider(request, monkeypatch):
    folder = Path(tempfile.mkdtemp(prefix="bs-", dir="/tmp"))
    account = folder / "account.json"
    account.write_text(json.dumps({"sessions": {}, "faults": {}, "calls": []}))
    monkeypatch.setattr(sys, "path", [*sys.path, str(PLUGIN)])
    options = {"args": CHROMIUM_ARGS} if request.param == "local" else {}
    made = load(
        request.param,
        ProviderSettings(
            profile=f"contract-{folder.name}",
            state_dir=folder / "s",
            environment=dict(os.environ),
            url=str(account),
            options=options,
        ),
    )
    yield made
    for session in made.list().sessions:
        made.close(CloseTarget(session.id, force=True))
    shutil.rmtree(folder)


def asked(*, owner: str = "me", ttl: float = 300.0, **settings) -> CreateRequest:
    key = new_key()
    return CreateRequest(owner=Owner(owner, "run-1", key), key=key, ttl=ttl, start_seconds=30.0, **settings)


def test_what_was_made_lives_and_can_be_connected_to(provider):
    made = provider.create(asked())
    assert made.live
    assert provider.is_id(made.id)
    assert made.connect_url


def test_what_was_made_is_listed_and_got_under_its_id(provider):
    made = provider.create(asked())
    listing = provider.list()
    assert listing.complete
    assert [session.id for session in listing.sessions] == [made.id]
    assert provider.get(made.id).live


def test_the_planned_id_is_the_id(provider):
    request = asked()
    planned = provider.planned_id(request)
    made = provider.create(request)
    assert planned in (None, made.id)


def test_a_listing_tells_whose_a_session_is(provider):
    request = asked(owner="somebody")
    provider.create(request)
    assert [session.owner for session in provider.list().sessions] == [request.owner]


def test_labels_come_back_as_they_were_given(provider):
    made = provider.create(asked(labels={"job": "42", "keep": ""}))
    assert provider.get(made.id).labels == {"job": "42", "keep": ""}


def test_times_are_seconds_since_the_epoch(provider):
    before = time.time()
    made = provider.get(provider.create(asked(ttl=300.0)).id)
    assert before <= made.created_at <= time.time()
    assert 300.0 <= made.expires_at - before < 400.0


def test_a_close_is_conclusive_or_ends_it_soon(provider):
    made = provider.create(asked())
    answer = provider.close(CloseTarget(made.id))
    assert answer.state in (CloseState.ENDED, CloseState.ACCEPTED)
    assert wait_for(lambda: (found := provider.get(made.id)) is None or not found.live, 10)
    assert provider.list().sessions == ()


def test_a_forced_close_ends_it(provider):
    made = provider.create(asked())
    assert provider.close(CloseTarget(made.id, force=True)).state in (CloseState.ENDED, CloseState.ACCEPTED)
    assert wait_for(lambda: provider.list().sessions == (), 10)


def test_closing_twice_is_known_as_such(provider):
    made = provider.create(asked())
    provider.close(CloseTarget(made.id))
    wait_for(lambda: provider.list().sessions == (), 10)
    assert provider.close(CloseTarget(made.id)).state in (CloseState.ABSENT, CloseState.GONE)


def test_closing_one_leaves_the_other(provider):
    first, second = provider.create(asked()), provider.create(asked())
    provider.close(CloseTarget(first.id, force=True))
    assert [session.id for session in provider.list().sessions] == [second.id]
    assert provider.get(second.id).live


def test_an_unknown_id_is_absent_and_nothing_else_ends(provider):
    made = provider.create(asked())
    unknown = made.id[:-4] + "7777"
    assert provider.get(unknown) is None
    assert provider.close(CloseTarget(unknown, force=True)).state is CloseState.ABSENT
    assert provider.get(made.id).live


@pytest.mark.parametrize("text", HOSTILE_IDS)
def test_no_hostile_text_is_an_id(provider, text):
    assert not provider.is_id(text)


def test_ttl_bounds_are_seconds_in_order(provider):
    low, high = provider.ttl_bounds
    assert 0 < low < high


def test_the_account_has_a_name(provider):
    assert isinstance(provider.base_url, str)
    assert provider.account


@pytest.mark.parametrize("provider", ["memory", "local"], indirect=True)
def test_an_option_that_the_provider_does_not_know_is_refused_before_anything_is_made(provider):
    with pytest.raises(BsessError):
        provider.validate(asked(options={"no-such-option": 1}))
    assert provider.list().sessions == ()
