"""The open-source Browserless: the real server, and what only another version of it does through a fake."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

import strangers
from bsess import cdp
from clients import connect
from forwarder import Forwarder, certificate_for
from servers import RealBrowserless
from worlds import CHROMIUM_ARGS, leads_a_session, wait_for, write_config

TOKEN = "canary-token-4711"
LAUNCH = '{"args": ["--disable-background-networking","--disable-component-update","--disable-sync","--disable-quic"]}'
KILLING = Path(__file__).parent / "killing"


@pytest.fixture(scope="module")
def module_server():
    """One server for all tests of a worker; its own limit is 2 s, so that what outlives that was told to."""
    server = RealBrowserless(token=TOKEN, timeout=2000)
    yield server
    server.close()


@pytest.fixture
def server(module_server):
    """The server, empty before and after."""
    module_server.start()
    assert wait_for(lambda: not module_server.sessions(), 10)
    yield module_server
    for row in module_server.sessions():
        module_server.kill(row["browserId"])
    assert wait_for(lambda: module_server.pressure()["running"] == 0, 10)


@pytest.fixture
def own(world, server):
    """A world whose default profile is that server, and whose owner is `me`."""
    world.variables |= {"BROWSERLESS_TOKEN": TOKEN, "BSESS_OWNER": "me"}
    args = str(CHROMIUM_ARGS).replace("'", '"')
    write_config(
        world,
        f'default = "own"\n[profiles.own]\nprovider = "browserless-self-hosted"\nurl = "{server.url}"\nargs = {args}\n',
    )
    return world


@contextlib.contextmanager
def connected(url):
    """Be a client of a session."""
    connection = cdp.Connection(url, cdp.Route(), seconds=30)
    try:
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def somebody_elses(server, *, tracking=None):
    """A session that no bsess made; yields its browserId."""
    before = {row["browserId"] for row in server.sessions()}
    query = f"token={server.token}&timeout=60000" + (f"&trackingId={tracking}" if tracking else "")
    with connected(f"{server.url.replace('http', 'ws')}/chromium?{query}"):
        (browser,) = {row["browserId"] for row in server.sessions()} - before
        yield browser


@contextlib.contextmanager
def forwarding(own, server, *, certificate=None):
    """Let the profile lead to the server through a forwarder."""
    between = Forwarder(server.port, certificate=certificate)
    scheme = "https" if certificate else "http"
    own.config.write_text(own.config.read_text().replace(server.url, f"{scheme}://127.0.0.1:{between.port}"))
    try:
        yield between
    finally:
        between.close()


def resident_kilobytes(pid):
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0])


def holders(world):
    return [pid for pid, line in world.processes() if "connection.py" in line]


def outcome(ended):
    assert len(ended.outcomes) == 1
    return ended.outcomes[0]["outcome"], ended.code


def decisions(ended):
    return {item["id"]: (item["decision"], item["reason"]) for item in ended.json["data"]["decisions"]}


def listed(world, *arguments, **settings):
    return [session["id"] for session in world.ok("list", "-o", "json", *arguments, **settings).sessions]


def test_playwright_drives_it_and_a_close_leaves_nothing(own, server):
    made = own.create("--ttl", "2m")
    with sync_playwright() as playwright:
        browser = connect(playwright, made["connect_url"])
        page = browser.new_page()
        page.set_content("<title>here it is</title>")
        assert page.title() == "here it is"
        assert listed(own) == [made["id"]], "one browser is one session, however many pages it has"
        assert outcome(own.ok("close", made["id"], "-o", "json")) == ("closed", 0)
    assert server.sessions() == []
    own.assert_nothing_left(within=10)
    assert own.rows() == []


def test_what_is_made_is_listed_with_its_owner_and_its_end(own, server):
    made = own.create("--ttl", "2m", "--label", "job=42")
    (session,) = own.ok("list", "-o", "json").sessions
    assert session["id"] == made["id"] == server.sessions()[0]["trackingId"]
    assert (session["owner"], session["mine"], session["labels"]) == ("me", True, {"job": "42"})
    assert session["expires_at"] == made["expires_at"]


def test_the_sessions_arguments_reach_the_browser(own, server):
    own.create("--arg=--lang=de", "--set", "launch.slowMo=1")
    given = server.sessions()[0]["launchOptions"]
    assert given["args"] == [*CHROMIUM_ARGS, "--lang=de"]
    assert given["slowMo"] == 1


def test_it_ends_with_its_ttl_though_a_client_is_attached_and_no_bsess_runs(own, server):
    made = own.create("--ttl", "4s")
    with connected(made["connect_url"]):
        assert wait_for(lambda: len(server.sessions()) == 0, 20)
    own.assert_nothing_left(within=10)


def test_it_outlives_the_servers_own_limit_for_holder_and_client(own, server):
    made = own.create("--ttl", "1m")
    with connected(made["connect_url"]) as client, pytest.raises(TimeoutError):
        client.receive(3.5)  # the server's own limit is 2 s: that it passes is the point
    assert listed(own) == [made["id"]]


def test_a_session_whose_holder_was_killed_is_gone_and_the_sweep_says_so(own, server):
    made = own.create("--ttl", "1m")
    (holder,) = holders(own)
    os.kill(holder, signal.SIGKILL)
    assert wait_for(lambda: server.sessions() == [], 10)
    # What has just changed is not yet proven gone by a listing.
    with sqlite3.connect(own.state / "ledger.sqlite3") as ledger:
        ledger.execute("UPDATE session SET changed_at = changed_at - 60")
    ledger.close()
    swept = own.ok("sweep", "--yes", "-o", "json")
    assert [(item["id"], item["outcome"]) for item in swept.outcomes] == [(made["id"], "already_closed")]
    assert own.rows() == []


def test_a_sweep_ends_an_orphan_that_a_client_keeps_alive_though_its_holder_was_killed(own, server):
    with strangers.a_process() as owner:
        made = own.create("--ttl", "5m", "--owner-pid", str(owner.pid))
    with connected(made["connect_url"]):
        (holder,) = holders(own)
        os.kill(holder, signal.SIGKILL)
        swept = own.ok("sweep", "--yes", "-o", "json")
        assert outcome(swept) == ("closed", 0)
        assert swept.outcomes[0]["reason"] == "its owner process is gone"
        assert server.sessions() == []


def test_a_holder_that_lost_its_connection_still_ends_the_session_at_its_ttl(own, server):
    with forwarding(own, server) as between:
        made = own.create("--ttl", "6s")
        with connected(made["connect_url"].replace(str(between.port), str(server.port))):
            between.cut()
            assert wait_for(lambda: server.sessions()[0]["numbConnected"] == 1, 10)
            assert wait_for(lambda: server.sessions() == [], 20)
        own.assert_nothing_left(within=20)


def test_it_is_made_and_held_through_tls_in_24_megabytes(own, server):
    certificate = certificate_for("127.0.0.1", own.folder)
    own.variables["SSL_CERT_FILE"] = certificate
    with forwarding(own, server, certificate=certificate):
        made = own.create("--ttl", "1m")
        assert made["connect_url"].startswith("wss://")
        (holder,) = holders(own)
        assert resident_kilobytes(holder) <= 24 * 1024
        assert outcome(own.ok("close", made["id"], "-o", "json")) == ("closed", 0)
        own.assert_nothing_left(within=10)


def test_a_server_whose_certificate_nobody_vouches_for_gets_no_token(own, server):
    with forwarding(own, server, certificate=certificate_for("127.0.0.1", own.folder)):
        assert own.run("create", "--timeout", "5s").code == 5
        assert own.run("list", "-p", "own").code == 5
    assert server.sessions() == []


def test_a_full_server_is_out_of_quota_and_names_who_holds_it(own, server):
    made = [own.create("--ttl", "2m") for _ in range(4)]
    with contextlib.ExitStack() as queue:
        waiting = [queue.enter_context(own.start("create", "--timeout", "20s")) for _ in range(2)]
        assert wait_for(lambda: server.pressure()["queued"] == 2, 20)
        full = own.run("create", "-o", "json")
        assert full.code == 6
        assert full.json["errors"][0]["code"] == "slots"
        assert made[0]["id"] in full.err
        assert len(full.err.splitlines()) <= 2
        own.ok("close", *(session["id"] for session in made))
        for process in waiting:
            assert process.wait(30) == 0
    own.ok("close", "--all", "--yes")
    assert wait_for(lambda: server.sessions() == [], 10)


def test_a_server_killed_and_started_again_under_us_has_none_of_our_sessions(own, server):
    made = own.create("--ttl", "2m")
    server.stop(signum=signal.SIGKILL)
    down = own.run("list", "-p", "own", "--deadline", "3s")
    assert down.code == 5
    assert outcome(own.run("close", made["id"], "-o", "json", "--deadline", "3s")) == ("unknown", 5)
    assert own.run("create").code == 5
    assert [row["id"] for row in own.rows()] == [made["id"]], "what was never sent made nothing"
    server.start()
    assert outcome(own.ok("close", made["id"], "-o", "json")) == ("already_closed", 0)
    own.assert_nothing_left(within=30)


def test_a_wrong_token_is_said_with_its_source(own, server):
    made = own.create("--ttl", "1m")
    wrong = {"BROWSERLESS_TOKEN": "wrong-canary"}
    for arguments in (["create"], ["close", made["id"]], ["list", "-p", "own"]):
        ended = own.run(*arguments, env=wrong)
        assert ended.code == 4, ended
        assert "env BROWSERLESS_TOKEN" in ended.err
        assert "wrong-canary" not in ended.out + ended.err
    assert [row["trackingId"] for row in server.sessions()] == [made["id"]]


def test_what_no_bsess_made_survives_all_but_its_typed_id(own, server):
    with somebody_elses(server) as plain, somebody_elses(server, tracking="someones-own") as named:
        own.ok("close", "--all", "--yes")
        swept = own.ok("sweep", "--yes", "--older-than", "1s", "--min-age", "1s", "-o", "json")
        assert {decision for decision, _ in decisions(swept).values()} == {"spare"}
        assert outcome(own.run("close", "-", "-o", "json", stdin=f"{plain}\n")) == ("skipped", 0)
        assert {row["browserId"] for row in server.sessions()} == {plain, named}
        ended = own.ok("close", named, "-o", "json")
        assert outcome(ended) == ("closed", 0)
        assert "foreign" in ended.outcomes[0]["reason"]
        assert [row["browserId"] for row in server.sessions()] == [plain]


def test_two_owners_on_one_server_see_each_other_as_foreign(own, server):
    made = own.create("--ttl", "2m")
    other = {"BSESS_OWNER": "other", "BSESS_STATE_DIR": str(own.folder / "other")}
    (session,) = own.ok("list", "-o", "json", env=other).sessions
    assert (session["id"], session["mine"]) == (made["id"], False)
    own.ok("close", "--all", "--yes", env=other)
    own.ok("sweep", "--yes", "--older-than", "1s", env=other)
    assert listed(own) == [made["id"]]


def test_a_session_that_carries_the_tag_is_mine_without_a_ledger_row(own, server):
    tag = own.ok("tag", "-o", "json").json["data"]["tag"]
    with somebody_elses(server, tracking=tag["trackingId"]):
        assert listed(own, "--mine") == [tag["trackingId"]]
        assert outcome(own.ok("close", "--all", "--yes", "-o", "json")) == ("closed", 0)
        assert server.sessions() == []


def test_an_adopted_session_is_mine(own, server):
    with somebody_elses(server) as browser:
        own.ok("adopt", browser, "--ttl", "1m")
        assert listed(own, "--mine") == [browser]
        assert outcome(own.ok("close", "--all", "--yes", "-o", "json")) == ("closed", 0)


def test_the_servers_own_id_of_my_session_ends_it_and_its_row(own, server):
    own.create("--ttl", "1m")
    assert outcome(own.ok("close", server.sessions()[0]["browserId"], "-o", "json")) == ("closed", 0)
    assert own.rows() == []


@pytest.mark.parametrize("name", ["all", "ALL", "bs-" + "a" * 20])
def test_no_name_ends_what_it_does_not_name(own, server, name):
    with somebody_elses(server) as browser:
        assert own.run("close", name, "-o", "json").code == 1
        assert [row["browserId"] for row in server.sessions()] == [browser]


@pytest.mark.parametrize(
    "point",
    ["return:SqliteLedger.intend", "return:Popen.__init__@launch", "c_return:write@launch", "return:launch",
     "return:BrowserlessSelfHostedProvider.create", "return:SqliteLedger.change", "call:Renderer.render"],
)  # fmt: skip
def test_a_create_killed_at_any_step_leaves_nothing_after_one_sweep(own, server, point):
    ended = own.run("create", "--ttl", "5m", env={"PYTHONPATH": str(KILLING), "KILL_AT": point})
    assert ended.code == -signal.SIGKILL
    # What a holder is still about to make must be there to be found, or never come.
    assert wait_for(lambda: not holders(own) or server.sessions(), 15)
    own.ok("sweep", "--yes")
    assert server.sessions() == []
    own.assert_nothing_left(within=30)


def test_a_holder_that_dies_before_it_answers_leaves_an_intent_that_the_sweep_settles(own, server):
    stopping = {"PYTHONPATH": str(KILLING), "KILL_AT": "return:Popen.__init__@launch", "KILL_WITH": "SIGSTOP"}
    creating = own.start("create", env=stopping)
    assert wait_for(lambda: [pid for pid in holders(own) if leads_a_session(pid)], 10)
    (holder,) = holders(own)
    os.kill(holder, signal.SIGKILL)
    creating.send_signal(signal.SIGCONT)
    told = creating.communicate(timeout=60)
    assert creating.returncode == 5, told
    own.ok("sweep", "--yes")
    assert server.sessions() == []


def test_no_secret_is_in_the_process_list_or_the_ledger(own, server):
    own.create("--ttl", "1m", "-v", "--debug")
    (holder,) = holders(own)
    shown = Path(f"/proc/{holder}/cmdline").read_bytes() + Path(f"/proc/{holder}/environ").read_bytes()
    assert TOKEN.encode() not in shown
    connection = sqlite3.connect(own.state / "ledger.sqlite3")
    assert TOKEN not in "\n".join(connection.iterdump())
    connection.close()


def test_usage_tells_how_full_the_server_is(own, server):
    own.create("--ttl", "1m")
    (usage,) = own.ok("usage", "-o", "json").json["data"]["usage"]
    assert (usage["running"], usage["slots"], usage["queued"], usage["mine"]) == (1, 4, 0, 1)


def test_run_ends_the_session_with_its_command(own, server):
    ended = own.ok("run", "--", "sh", "-c", "echo $BSESS_CONNECT_URL")
    assert "/devtools/browser/" in ended.out
    assert server.sessions() == []
    own.assert_nothing_left(within=10)


def test_many_at_once_are_all_made_and_all_ended(own, server):
    made = own.ok("create", "--count", "4", "--ttl", "1m", "-o", "name").lines
    assert sorted(listed(own)) == sorted(made)
    ended = own.ok("close", "-", "-o", "json", stdin="\n".join(made))
    assert {item["outcome"] for item in ended.outcomes} == {"closed"}
    assert server.sessions() == []


def test_a_profile_without_a_url_is_told_to_have_one(world):
    write_config(world, '[profiles.own]\nprovider = "browserless-self-hosted"\n')
    ended = world.run("create", "-p", "own")
    assert ended.code == 2
    assert "url" in ended.err


def test_the_cloud_gets_no_token_that_is_meant_for_a_server_of_ones_own(own, server):
    shown = {line["key"] for line in own.ok("config", "show", "-o", "json").json["data"]["settings"]}
    assert "profiles.browserless.provider" not in shown
