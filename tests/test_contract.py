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
from bsess.credentials import Token
from bsess.errors import BsessError
from bsess.model import Owner
from bsess.providers import load
from bsess.providers.base import Capability, CloseState, CloseTarget, CreateRequest, ProviderSettings
from fake_browserbase import API_KEY
from fake_browserless import TOKEN
from servers import RealBrowserless
from worlds import CHROMIUM_ARGS, wait_for

PLUGIN = Path(__file__).parent / "plugin"
# What a session carries at its provider: all that was asked for; its owner alone; nothing, and nothing is listed.
TELLING_ALL = ["memory", "local", "filed", "browserbase"]
LISTING = [*TELLING_ALL, "browserless-self-hosted"]
PROVIDERS = [*LISTING, "browserless"]
HOSTILE_IDS = ["", " ", "a b", "../x", "..", "a\nb", "a\x1b[31mb", "x" * 10_000, "a/b", "-rf", "é", "\u202e"]


@pytest.fixture(scope="module")
def server():
    real = RealBrowserless(token=TOKEN, concurrent=5)
    yield real
    real.close()


def place_of(name, folder, request):
    """Where a provider's sessions live, as its profile's url."""
    if name == "browserless-self-hosted":
        return request.getfixturevalue("server").url
    if name == "browserbase":
        return request.getfixturevalue("base").url
    if name == "browserless":
        return request.getfixturevalue("cloud").url
    account = folder / "account.json"
    account.write_text(json.dumps({"sessions": {}, "faults": {}, "calls": []}))
    return str(account)


@pytest.fixture(params=PROVIDERS)
def provider(request, monkeypatch):
    folder = Path(tempfile.mkdtemp(prefix="bs-", dir="/tmp"))
    monkeypatch.setattr(sys, "path", [*sys.path, str(PLUGIN)])
    made = load(
        request.param,
        ProviderSettings(
            profile=f"contract-{folder.name}",
            state_dir=folder / "s",
            environment=dict(os.environ),
            owner="me",
            url=place_of(request.param, folder, request),
            options={"args": CHROMIUM_ARGS},
            token=lambda: Token(API_KEY if request.param == "browserbase" else TOKEN, "this test"),
        ),
    )
    yield made
    for session in made.list().sessions:
        made.close(CloseTarget(session.id, force=True))
    assert wait_for(lambda: not made.list().sessions, 10)
    made.disconnect()
    shutil.rmtree(folder)


def only(providers):
    return pytest.mark.parametrize("provider", providers, indirect=True)


def closed(provider, made, *, force=False):
    return provider.close(CloseTarget(made.id, force=force, recorded=True, stop_url=made.stop_url))


def asked(*, owner: str = "me", ttl: float = 300.0, **settings) -> CreateRequest:
    key = new_key()
    return CreateRequest(owner=Owner(owner, "run-1", key), key=key, ttl=ttl, start_seconds=30.0, **settings)


def test_what_was_made_lives_and_can_be_connected_to(provider):
    made = provider.create(asked())
    assert made.live
    assert provider.is_id(made.id)
    assert made.connect_url


@only(LISTING)
def test_what_was_made_is_listed_and_got_under_its_id(provider):
    made = provider.create(asked())
    listing = provider.list()
    # What is missing from a listing that is not complete can be looked for.
    assert listing.complete or Capability.FIND in provider.capabilities
    assert [session.id for session in listing.sessions] == [made.id]
    assert provider.get(made.id).live


def test_the_planned_id_is_the_id(provider):
    request = asked()
    planned = provider.planned_id(request)
    made = provider.create(request)
    assert planned in (None, made.id)


@only(LISTING)
def test_a_listing_tells_whose_a_session_is(provider):
    provider.create(asked(owner="me"))
    assert [session.owner.name for session in provider.list().sessions] == ["me"]


@only(LISTING)
def test_another_owners_session_is_never_told_as_mine(provider):
    provider.create(asked(owner="somebody"))
    (session,) = provider.list().sessions
    assert session.owner is not None
    assert session.owner.name != "me"


@only(TELLING_ALL)
def test_a_listing_tells_run_and_key(provider):
    request = asked(owner="somebody")
    provider.create(request)
    assert [session.owner for session in provider.list().sessions] == [request.owner]


@only(["browserless"])
def test_what_lists_nothing_says_so(provider):
    made = provider.create(asked())
    listing = provider.list()
    assert (listing.sessions, listing.complete, listing.ttl_is_proof) == ((), False, True)
    with pytest.raises(BsessError, match=made.id):
        provider.get(made.id)


@only(TELLING_ALL)
def test_labels_come_back_as_they_were_given(provider):
    made = provider.create(asked(labels={"job": "42", "keep": ""}))
    assert provider.get(made.id).labels == {"job": "42", "keep": ""}


def test_times_are_seconds_since_the_epoch(provider):
    before = time.time()
    made = provider.create(asked(ttl=300.0))
    # The server counts a session's age in whole milliseconds.
    assert before - 0.001 <= made.created_at <= time.time()
    assert 300.0 <= made.expires_at - before + 0.001 < 400.0


def test_a_close_is_conclusive_or_ends_it_soon(provider):
    made = provider.create(asked())
    answer = closed(provider, made)
    assert answer.state in (CloseState.ENDED, CloseState.ACCEPTED)
    assert wait_for(lambda: provider.list().sessions == (), 10)


def test_a_forced_close_ends_it(provider):
    made = provider.create(asked())
    assert closed(provider, made, force=True).state in (CloseState.ENDED, CloseState.ACCEPTED)
    assert wait_for(lambda: provider.list().sessions == (), 10)


@only([name for name in PROVIDERS if name != "browserbase"])
def test_closing_twice_is_known_as_such(provider):
    made = provider.create(asked())
    closed(provider, made)
    assert wait_for(lambda: provider.list().sessions == (), 10)
    assert closed(provider, made).state in (CloseState.ABSENT, CloseState.GONE)


def test_closing_twice_is_conclusive_both_times(provider):
    # What a second release answers is not documented: its status says that the session has ended.
    made = provider.create(asked())
    closed(provider, made)
    assert wait_for(lambda: provider.list().sessions == (), 10)
    assert closed(provider, made).state in (CloseState.ABSENT, CloseState.GONE, CloseState.ENDED)


def test_closing_one_leaves_the_other(provider):
    first, second = provider.create(asked()), provider.create(asked())
    closed(provider, first, force=True)
    assert closed(provider, second).state in (CloseState.ENDED, CloseState.ACCEPTED)


@only(LISTING)
def test_closing_one_leaves_the_other_in_the_list(provider):
    first, second = provider.create(asked()), provider.create(asked())
    closed(provider, first, force=True)
    assert wait_for(lambda: [session.id for session in provider.list().sessions] == [second.id], 10)


@only(LISTING)
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


@only([name for name in PROVIDERS if name != "filed"])
def test_an_option_that_the_provider_does_not_know_is_refused_before_anything_is_made(provider):
    with pytest.raises(BsessError):
        provider.validate(asked(options={"no-such-option": 1}))
    assert provider.list().sessions == ()
