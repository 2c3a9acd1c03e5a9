"""Other versions of the open-source Browserless, through a fake: what the real one of these tests does not do."""

from __future__ import annotations

import pytest

from fake_management import TOKEN, FakeManagement
from worlds import write_config

BROWSER = "b3c9f808-7359-4473-8d69-0b0be0ac3753"


@pytest.fixture
def server():
    fake = FakeManagement()
    yield fake
    wrong = fake.wrong
    fake.close()
    assert wrong == []


@pytest.fixture
def own(world, server):
    world.variables |= {"BROWSERLESS_TOKEN": TOKEN, "BSESS_OWNER": "me"}
    write_config(
        world, f'default = "own"\n[profiles.own]\nprovider = "browserless-self-hosted"\nurl = "{server.url}"\n'
    )
    return world


def row(browser=BROWSER, kind="browser", **more):
    return {"id": browser, "browserId": browser, "type": kind, "timeAliveMs": 90_000, "numbConnected": 1} | more


def outcome(ended):
    assert len(ended.outcomes) == 1
    return ended.outcomes[0]["outcome"], ended.code


def listed(own):
    return [item["id"] for item in own.ok("list", "-p", "own", "-o", "json").sessions]


def test_a_kill_that_is_answered_and_not_done_is_stuck(own, server):
    server.rows = [row()]
    server.stubborn = {BROWSER}
    ended = own.run("close", BROWSER, "-o", "json")
    assert outcome(ended) == ("stuck", 1)
    assert "still lists it" in ended.outcomes[0]["reason"]


def test_a_version_that_kills_by_its_own_id_alone_gets_that(own, server):
    tracking = own.ok("tag", "-o", "json").json["data"]["tag"]["trackingId"]
    server.rows = [row(trackingId=tracking)]
    server.unknown = {tracking}
    assert outcome(own.ok("close", tracking, "-o", "json")) == ("closed", 0)
    assert server.rows == []


def test_a_sweep_tells_of_a_session_that_no_kill_ends_and_tries_again(own, server):
    server.rows = [row()]
    server.stubborn = {BROWSER}
    own.ok("adopt", BROWSER, "--ttl", "5m")
    for _ in range(2):
        assert outcome(own.run("close", "--all", "--yes", "-o", "json")) == ("stuck", 1)
    assert outcome(own.run("sweep", "--yes", "-o", "json")) == ("stuck", 1)
    server.stubborn.clear()
    assert outcome(own.run("sweep", "--yes", "-o", "json")) == ("closed", 0)


def test_rows_are_grouped_by_browser_whatever_they_are_of(own, server):
    server.rows = [
        row(id=None, killURL=None),
        row(kind="page", id="p1"),
        row("other", kind="page", id="p2"),
        {},
        None,
        7,
    ]
    assert sorted(listed(own)) == sorted([BROWSER, "other"])


def test_a_session_without_an_age_is_never_ended_by_age(own, server):
    server.rows = [row(timeAliveMs=None, trackingId=own.ok("tag", "-o", "json").json["data"]["tag"]["trackingId"])]
    swept = own.ok("sweep", "--yes", "--older-than", "1s", "-o", "json")
    assert [item["reason"] for item in swept.json["data"]["decisions"]] == ["of unknown age"]


def test_an_old_session_that_carries_my_tag_ends_by_age_without_a_ledger_row(own, server):
    server.rows = [row(trackingId=own.ok("tag", "-o", "json").json["data"]["tag"]["trackingId"])]
    assert outcome(own.ok("sweep", "--yes", "--older-than", "1m", "-o", "json")) == ("closed", 0)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((200, b"{}"), 5),
        ((200, b"<html>", "text/html"), 5),
        ((200, b""), 5),
        ((403, b"no", "text/plain"), 4),
        ((404, b"Not Found", "text/plain"), 1),
        ((500, b"oops", "text/plain"), 5),
    ],
)
def test_an_answer_that_says_nothing_is_told_and_closes_nothing(own, server, answer, code):
    server.rows = [row()]
    own.ok("adopt", BROWSER)
    server.answer = answer
    assert own.run("list", "-p", "own", "--deadline", "3s").code == code
    assert own.run("usage", "-p", "own", "--deadline", "3s").code == code
    ended = own.run("close", BROWSER, "-o", "json", "--deadline", "3s")
    assert ended.outcomes[0]["outcome"] in ("unknown", "failed")
    assert len(own.rows()) == 1


def test_a_pressure_of_another_shape_is_shown_as_far_as_it_goes(own):
    (usage,) = own.ok("usage", "-o", "json").json["data"]["usage"]
    assert (usage["running"], usage["slots"]) == (1, None)


def test_the_token_goes_in_a_header_and_in_no_url(own, server):
    server.rows = [row()]
    own.ok("list", "-p", "own", "-v")
    own.ok("close", BROWSER, "-v")
    assert not [path for path in server.requests if TOKEN in path]
