"""Browserless's Session API, through the real executable and a fake that refuses what no document has."""

from __future__ import annotations

import json
import sqlite3
import time

import pytest

import strangers
from fake_browserless import SESSION_SECRET, TOKEN, FakeBrowserless
from worlds import write_config


def outcome(ended):
    assert len(ended.outcomes) == 1
    return ended.outcomes[0]["outcome"], ended.code


def test_the_documented_flow_request_for_request(account, cloud):
    made = account.create("--ttl", "60s", "--stealth")
    assert cloud.requests == [("POST", "/session", {"token": TOKEN}, {"ttl": 60000, "stealth": True})]
    assert outcome(account.ok("close", made["id"], "--force", "-o", "json")) == ("closed", 0)
    assert cloud.requests[1:] == [
        ("DELETE", f"/e/{SESSION_SECRET}/session/{made['id']}", {"token": TOKEN, "force": "true"}, None)
    ]
    assert cloud.sessions == {}


def test_every_field_of_the_api_has_its_flag(account, cloud):
    account.create(
        "--ttl", "10m", "--keep-alive", "2m", "--proxy", "residential:us", "--browser", "chrome", "--headed",
        "--arg=--lang=de", "--context", "shop", "--set", 'url="http://x/"', "--set", "proxy.sticky=true",
    )  # fmt: skip
    assert cloud.requests[0][3] == {
        "ttl": 600_000,
        "processKeepAlive": 120_000,
        "browser": "chrome",
        "headless": False,
        "args": ["--lang=de"],
        "profile": "shop",
        "proxy": {"type": "residential", "country": "us", "sticky": True},
        "url": "http://x/",
    }


@pytest.mark.parametrize(
    "flags",
    [
        ["--keep-alive", "20m", "--ttl", "10m"],
        ["--browser", "firefox"],
        ["--proxy", "nowhere/at/all"],
        ["--executable", "/bin/true"],
        ["--set", "a"],
        ["--set", "a={"],
    ],
)
def test_what_the_api_cannot_do_is_refused_before_any_request(account, cloud, flags):
    assert account.run("create", *flags).code == 2
    assert cloud.requests == []


def test_a_session_is_listed_from_the_ledger_with_its_expiry(account, cloud):
    made = account.create("--ttl", "10m")
    listed = account.ok("list", "-p", "work", "-o", "json").sessions
    assert [(item["id"], item["status"], item["mine"]) for item in listed] == [(made["id"], "recorded", True)]
    assert listed[0]["expires_at"] == made["expires_at"]


def test_the_profile_is_there_as_soon_as_its_token_is(account):
    write_config(account)
    shown = {line["key"]: line for line in account.ok("config", "show", "-o", "json").json["data"]["settings"]}
    assert shown["profiles.browserless.provider"]["source"] == "env BROWSERLESS_TOKEN"
    assert shown["default"]["value"] == "browserless"


def test_a_client_that_is_attached_is_said_and_force_ends_it(account, cloud):
    made = account.create()
    cloud.attached.add(made["id"])
    ended = account.run("close", made["id"], "-o", "json")
    assert outcome(ended) == ("failed", 1)
    assert "--force" in ended.json["errors"][0]["hint"]
    assert outcome(account.ok("close", made["id"], "--force", "-o", "json")) == ("closed", 0)


def test_a_404_is_already_closed(account, cloud):
    made = account.create()
    cloud.sessions.clear()
    assert outcome(account.ok("close", made["id"], "-o", "json")) == ("already_closed", 0)
    assert account.rows() == []


def test_a_404_for_another_token_proves_nothing(account, cloud):
    made = account.create()
    cloud.misbehave["DELETE"] = 404
    ended = account.run("close", made["id"], "-o", "json", env={"BROWSERLESS_TOKEN": "another"})
    assert ended.outcomes[0]["outcome"] == "unknown"
    assert ended.code == 5
    assert [row["id"] for row in account.rows()] == [made["id"]]
    assert made["id"] in cloud.sessions


def test_a_lost_answer_to_a_close_is_settled_by_asking_again(account, cloud):
    made = account.create()
    cloud.misbehave["DELETE"] = "lost"
    assert outcome(account.ok("close", made["id"], "-o", "json")) == ("already_closed", 0)
    assert cloud.methods() == ["POST", "DELETE", "DELETE"]


def test_a_create_is_never_sent_twice_after_an_ambiguous_failure(account, cloud):
    cloud.misbehave["POST"] = "lost"
    ended = account.run("create", "--ttl", "10m", "-o", "json")
    assert ended.code == 5
    assert cloud.methods() == ["POST"]
    sessions = account.ok("list", "-p", "work", "-o", "json").sessions
    assert [(item["status"], bool(item["expires_at"])) for item in sessions] == [("unknown", True)]
    swept = account.ok("sweep", "--yes", "-o", "json")
    assert [item["decision"] for item in swept.json["data"]["decisions"]] == ["spare"]
    assert "its ttl ends it" in swept.json["data"]["decisions"][0]["reason"]


def test_a_create_whose_request_never_left_made_nothing(account):
    write_config(account, 'default = "work"\n[profiles.work]\nprovider = "browserless"\nurl = "http://127.0.0.1:1"\n')
    assert account.run("create", "--deadline", "1s").code == 5
    assert account.rows() == []


def test_a_session_that_nobody_can_list_ends_in_the_ledger_with_its_ttl(account, cloud):
    account.create("--ttl", "1s")
    time.sleep(1.1)  # its ttl is what is waited for
    ended = account.ok("list", "-p", "work")
    assert ended.out == ""
    assert "ttl passed" in ended.err
    assert account.rows() == []


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 1), (401, 4), (402, 6), (403, 4), (404, 1), (408, 5), (429, 6), (500, 5), (503, 5), (302, 5)],
)
def test_each_refusal_of_a_create_has_its_code_and_is_sent_once(account, cloud, status, code):
    cloud.misbehave["POST"] = status
    ended = account.run("create")
    assert ended.code == code
    assert len(ended.err.splitlines()) <= 2
    assert cloud.methods() == ["POST"]
    assert len(account.rows()) == (1 if code == 5 else 0)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"id": 7}', b'{"id": "a b"}', b'{"id": ', b"<html>", b"\xff"])
def test_an_answer_that_cannot_be_read_leaves_the_state_unknown(account, cloud, body):
    cloud.misbehave["POST"] = body
    assert account.run("create").code == 5
    assert len(account.rows()) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_close_is_tried_again_and_then_unknown_or_refused(account, cloud, status):
    made = account.create()
    cloud.misbehave["DELETE"] = status
    ended = account.run("close", made["id"], "-o", "json", "--deadline", "30s")
    assert outcome(ended) == (("failed", 6) if status == 429 else ("unknown", 5))
    assert cloud.methods().count("DELETE") > 1
    assert [row["id"] for row in account.rows()] == [made["id"]]


def test_a_sweep_ends_a_session_whose_owner_process_is_gone(account, cloud):
    with strangers.a_process() as owner:
        account.create("--owner-pid", str(owner.pid))
    assert outcome(account.ok("sweep", "--yes", "-o", "json")) == ("closed", 0)
    assert cloud.sessions == {}


def test_run_gives_the_connect_url_and_ends_the_session(account, cloud):
    ended = account.ok("run", "--ttl", "60s", "--", "sh", "-c", "echo $BSESS_CONNECT_URL $BSESS_PROVIDER")
    assert ended.out.startswith("wss://")
    assert TOKEN in ended.out
    assert "browserless" in ended.out
    assert cloud.methods() == ["POST", "DELETE"]


@pytest.mark.parametrize(
    "url",
    [
        "http://[",
        "http://127.0.0.1:x",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:0",
        "https://a..b",
        "https://xn--.a",
    ],
)
def test_a_profile_whose_url_is_none_is_a_mistake_in_the_config(account, url):
    write_config(account, f'default = "work"\n[profiles.work]\nprovider = "browserless"\nurl = "{url}"\n')
    ended = account.run("create", "-o", "json", "--deadline", "2s")
    assert (ended.code, ended.json["errors"][0]["code"]) == (2, "url")
    assert not (account.state / "ledger.sqlite3").exists() or account.rows() == []


def test_a_stop_url_that_leads_elsewhere_is_never_sent(account, cloud):
    cloud.misbehave["POST"] = json.dumps({"id": "abcdef", "stop": "http://127.0.0.1:9/session/abcdef"}).encode()
    made = account.create()
    ended = account.run("close", made["id"], "-o", "json")
    assert outcome(ended) == ("failed", 1)
    assert ended.json["errors"][0]["code"] == "stop_url"


@pytest.mark.parametrize("stop", ["http://[", "http://127.0.0.1:99999/e", "http://127.0.0.1:x/e", "stop", "//", "\x00"])
def test_a_stop_url_that_is_none_is_a_failure_and_no_crash(account, cloud, stop):
    cloud.misbehave["POST"] = json.dumps({"id": "abcdef", "stop": stop}).encode()
    ended = account.run("close", account.create()["id"], "--force", "-o", "json")
    assert outcome(ended) == ("failed", 1)
    assert ended.json["errors"][0]["code"] == "stop_url"
    assert [row["state"] for row in account.rows()] == ["open"]


def test_a_stop_url_with_a_control_character_is_never_sent(account, cloud):
    cloud.misbehave["POST"] = json.dumps({"id": "abcdef", "stop": f"{cloud.url}/session/a\x01b"}).encode()
    assert outcome(account.run("close", account.create()["id"], "-o", "json")) == ("failed", 1)
    assert cloud.methods() == ["POST"]


@pytest.mark.parametrize("key", ["connect", "stop", "browserQL"])
def test_a_url_that_is_no_text_leaves_the_state_unknown(account, cloud, key):
    cloud.misbehave["POST"] = b'{"id": "abcdef", "%b": "http://127.0.0.1/\\ud800"}' % key.encode()
    ended = account.run("create", "-o", "json")
    assert (ended.code, ended.json["errors"][0]["code"]) == (5, "malformed")
    assert len(account.rows()) == 1


def test_a_missing_token_names_what_to_set(account):
    ended = account.run("create", env={"BROWSERLESS_TOKEN": ""})
    assert ended.code == 4
    assert "BROWSERLESS_TOKEN" in ended.err


def test_a_401_says_where_the_token_came_from(account, cloud):
    ended = account.run("create", env={"BROWSERLESS_TOKEN": "wrong"})
    assert ended.code == 4
    assert "env BROWSERLESS_TOKEN" in ended.err


@pytest.mark.parametrize("key", ["token_command", "token_file"])
def test_a_token_comes_from_a_command_or_a_file(account, cloud, key):
    secret = account.folder / "token"
    secret.write_text(TOKEN + "\n")
    value = f"cat {secret}" if key == "token_command" else str(secret)
    write_config(
        account,
        f'default = "work"\n[profiles.work]\nprovider = "browserless"\nurl = "{cloud.url}"\n{key} = "{value}"\n',
    )
    account.config.chmod(0o600)
    account.create(env={"BROWSERLESS_TOKEN": ""})
    assert len(cloud.sessions) == 1


def test_a_token_command_in_a_config_that_others_can_write_is_not_run(account, cloud):
    write_config(
        account,
        f'default = "work"\n[profiles.work]\nprovider = "browserless"\ntoken_command = "touch {account.folder}/ran"\n',
    )
    account.config.chmod(0o666)
    assert account.run("create", env={"BROWSERLESS_TOKEN": ""}).code == 2
    assert not (account.folder / "ran").exists()


def test_the_token_is_nowhere(account, cloud):
    made = account.create("-v", "--debug")
    cloud.misbehave["DELETE"] = 500
    told = [account.run("close", made["id"], "-v", "--debug", "--deadline", "8s")]
    told += [
        account.run(*arguments)
        for arguments in (["list", "-o", "json"], ["history", "-o", "json"], ["sweep", "--dry-run"])
    ]
    told += [account.run("config", "show"), account.run("list", "-v", "--debug", "-o", "table")]
    assert not [ended for ended in told if TOKEN in ended.out + ended.err]
    connection = sqlite3.connect(account.state / "ledger.sqlite3")
    assert TOKEN not in "\n".join(connection.iterdump())
    connection.close()


def running(browser, **more):
    return {
        "browserId": browser, "startTime": "2026-11-20T10:00:00.123Z", "browserName": None, "type": None, "ttl": None,
    } | more  # fmt: skip


def test_running_browsers_are_listed_as_of_unknown_owner(account, cloud):
    cloud.browsers = [running(f"browser-{number}") for number in range(120)]
    listed = account.ok("list", "-p", "work", "-o", "json").sessions
    assert {(item["id"], item["mine"], item["owner"]) for item in listed} == {
        (f"browser-{number}", False, None) for number in range(120)
    }
    assert listed[0]["created_at"] == "2026-11-20T10:00:00Z"
    assert [request[3]["variables"]["skip"] for request in cloud.requests] == [0, 50, 100]


@pytest.mark.parametrize("start", [None, "soon", 1795202750344, "1795202750344", 1795202750])
def test_a_running_browser_whose_time_cannot_be_read_is_listed_all_the_same(account, cloud, start):
    cloud.browsers = [running("browser-1", startTime=start), {"browserId": None}, None]
    (item,) = account.ok("list", "-p", "work", "-o", "json").sessions
    assert item["created_at"] in (None, "2026-11-20T19:25:50Z")


def test_no_sweep_and_no_selection_ends_a_running_browser_or_asks_for_them(account, cloud):
    cloud.browsers = [running("browser-1")]
    account.ok("sweep", "--yes", "--older-than", "1s", "--min-age", "1s")
    account.ok("close", "--all", "--yes")
    assert cloud.requests == []
    assert account.run("close", "-", "-o", "json", stdin="browser-1\n").outcomes[0]["outcome"] == "skipped"
    assert account.run("close", "-", "--foreign", "-o", "json", stdin="browser-1\n").outcomes[0]["outcome"] == "skipped"
    assert cloud.requests == []


def test_a_running_browser_ends_by_its_typed_id(account, cloud):
    cloud.browsers = [running("browser-1"), running("browser-2")]
    assert outcome(account.ok("close", "browser-1", "-o", "json")) == ("closed", 0)
    assert [row["browserId"] for row in cloud.browsers] == ["browser-2"]
    assert cloud.requests == [("DELETE", "/browser/browser-1", {"token": TOKEN}, None)]


def test_an_id_that_nobody_knows_is_not_found(account, cloud):
    assert outcome(account.run("close", "browser-9", "-o", "json")) == ("not_found", 1)


def test_a_session_whose_stop_url_never_came_is_not_taken_for_a_browser(account, cloud):
    cloud.misbehave["POST"] = b'{"id": "abcdefghij"}'
    account.create()
    ended = account.run("close", "abcdefghij", "-o", "json")
    assert outcome(ended) == ("failed", 1)
    assert ended.json["errors"][0]["code"] == "no_stop_url"
    assert cloud.methods() == ["POST"]
    assert len(account.rows()) == 1


@pytest.mark.parametrize(
    ("fault", "code"),
    [(401, 4), (500, 5), (b"<html>", 5), (b'{"errors": [{"message": "Invalid API token"}]}', 4), (b"[]", 5)],
)
def test_a_listing_of_browsers_that_fails_leaves_the_ledgers_sessions_and_is_partial(account, cloud, fault, code):
    made = account.create()
    cloud.misbehave["graphql"] = fault
    ended = account.run("list", "-p", "work", "-o", "json", "--deadline", "4s")
    assert ended.code == 3
    assert [item["id"] for item in ended.sessions] == [made["id"]]
    assert account.run("usage", "-p", "work", "--deadline", "4s").code == code
    if code == 4:
        asked = [path for _, path, *_ in cloud.requests if path == "/graphql"]
        assert len(asked) == 2, "an auth error is never tried again: failures lock the account"


def test_an_empty_graphql_url_leaves_the_running_browsers_out(account, cloud):
    account.config.write_text(
        account.config.read_text().replace("[profiles.work]", '[profiles.work]\ngraphql_url = ""')
    )
    assert account.ok("list", "-p", "work").out == ""
    assert cloud.requests == []


def test_usage_tells_units_and_running_browsers(account, cloud):
    account.create()
    cloud.browsers = [running("browser-1"), running("browser-2")]
    (usage,) = account.ok("usage", "-o", "json").json["data"]["usage"]
    assert usage == {
        "profile": "work", "provider": "browserless", "mine": 1, "running": 2, "queued": None, "slots": None,
        "plan": "Starter", "units_used": 100.0, "units_left": 900.0, "minutes_used": None, "proxy_bytes": None,
    }  # fmt: skip


MUTATION = 'mutation CloseExample { goto(url: "https://example.com", waitUntil: networkIdle) { status } }'


def test_the_vendors_flow_with_a_query_in_the_middle(account, cloud):
    made = account.create("--ttl", "60s", "--stealth")
    answered = account.ok("bql", made["id"], MUTATION)
    assert json.loads(answered.out) == {"data": {"goto": {"status": 200}, "text": {"text": "Example Domain"}}}
    assert f"{made['id']} stays open until `bsess close {made['id']} --force`" in answered.err
    account.ok("close", made["id"], "--force")
    assert cloud.requests == [
        ("POST", "/session", {"token": TOKEN}, {"ttl": 60000, "stealth": True}),
        ("POST", f"/e/{SESSION_SECRET}/session/bql/{made['id']}", {"token": TOKEN}, {"query": MUTATION}),
        ("DELETE", f"/e/{SESSION_SECRET}/session/{made['id']}", {"token": TOKEN, "force": "true"}, None),
    ]


def test_a_query_comes_from_a_file_or_a_pipe_with_its_variables(account, cloud):
    made = account.create("--stealth")
    query = account.folder / "q.graphql"
    query.write_text(MUTATION)
    account.ok("bql", made["id"], "--file", str(query), "--var", "user=ann", "--var", "n=3", "--var", 'deep={"a": [1]}')
    account.ok("bql", made["id"][:8], "-", stdin=MUTATION)
    account.ok("bql", made["id"], stdin=MUTATION)
    variables = {"user": "ann", "n": 3, "deep": {"a": [1]}}
    assert cloud.queried == [(made["id"], MUTATION, variables), *[(made["id"], MUTATION, None)] * 2]


def test_graphql_errors_fail_and_are_told_with_the_answer(account, cloud):
    made = account.create("--stealth")
    answer = {"errors": [{"message": "Cannot query field \x1b[31mx"}], "data": None}
    cloud.misbehave["bql"] = json.dumps(answer).encode()
    ended = account.run("bql", made["id"], MUTATION, "-o", "json")
    assert ended.code == 1
    assert ended.json["data"]["answer"] == answer
    assert "Cannot query field" in ended.json["errors"][0]["message"]
    assert "\x1b" not in ended.out + ended.err
    assert json.loads(account.run("bql", made["id"], MUTATION).out) == answer


@pytest.mark.parametrize(
    ("fault", "code"), [(400, 1), (401, 4), (404, 1), (408, 5), (500, 5), (b"", 5), (b"<p>", 5), (b"[1]", 5)]
)
def test_each_refusal_of_a_query_has_its_code_and_is_sent_once(account, cloud, fault, code):
    made = account.create("--stealth")
    cloud.misbehave["bql"] = fault
    assert account.run("bql", made["id"], MUTATION).code == code
    assert cloud.methods() == ["POST", "POST"]


def test_a_query_needs_a_living_session_of_the_ledger_that_takes_one(account, cloud):
    cloud.misbehave["POST"] = b'{"id": "abcdefghij"}'
    account.create()
    plain = account.run("bql", "abcdefghij", MUTATION)
    assert (plain.code, "--stealth" in plain.err) == (1, True)
    assert account.run("bql", "nobody-knows-it", MUTATION).code == 1
    assert account.run("bql", "abcdefghij", " ").code == 2
    assert account.run("bql", "abcdefghij", "--file", "/no/such/file").code == 2
    assert account.run("bql", "abcdefghij", MUTATION, "--var", "x").code == 2
    local = account.create("-p", "local")
    assert account.run("bql", local["id"], MUTATION).code == 2
    assert cloud.methods() == ["POST"]


@pytest.mark.parametrize("wrong", [{"id": None}, {"id": 7}, {"id": "x" * 300}, {"id": "../../x"}])
def test_a_session_that_came_without_a_usable_id_is_ended_by_its_stop_url(account, cloud, wrong):
    stop = f"{cloud.url}/session/abcdef?token={TOKEN}"
    cloud.sessions["abcdef"] = {}
    cloud.misbehave["POST"] = json.dumps({"id": "abcdef", "stop": stop, **wrong}).encode()
    ended = account.run("create", "-o", "json")
    assert ended.code == 1
    assert "ended again" in ended.err
    assert "abcdef" not in cloud.sessions
    assert account.rows() == []


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"connect": "wss://127.0.0.1:1/x"}, "without a stop URL"),
        ({"stop": "https://evil.invalid/session/x"}, "its stop URL leads to evil.invalid"),
        ({"stop": "file:///x"}, "its stop URL leads to nowhere"),
        ({"stop": "{here}/session/x"}, "without a connect URL"),
        ({"stop": "{here}/session/x", "connect": "wss://evil.invalid/x"}, "its connect URL leads to evil.invalid"),
    ],
)
def test_what_a_session_lacks_is_said_when_it_is_made(account, cloud, answer, told):
    text = json.dumps({"id": "abcdefghij", **answer}).replace("{here}", cloud.url)
    cloud.misbehave["POST"] = text.encode()
    assert told in account.ok("create").err


def test_run_starts_nothing_with_a_session_that_has_no_connect_url(account, cloud):
    cloud.misbehave["POST"] = json.dumps({"id": "abcdef", "stop": f"{cloud.url}/session/abcdef"}).encode()
    cloud.sessions["abcdef"] = {}
    ended = account.run("run", "--", "touch", "started")
    assert ended.code == 125
    assert not (account.folder / "started").exists()
    assert "abcdef" not in cloud.sessions


def test_a_429_names_my_sessions_that_hold_the_slots_and_how_to_end_the_oldest(account, cloud):
    made = [account.create()["id"] for _ in range(2)]
    cloud.misbehave["POST"] = 429
    ended = account.run("create", "-o", "json")
    assert ended.code == 6
    assert ended.json["errors"][0]["code"] == "slots"
    assert f"bsess close {made[0]} --force" in ended.err
    assert made[1] in ended.err
    assert len(ended.err.splitlines()) == 2


def test_two_profiles_with_tokens_and_no_default_are_named(account):
    write_config(
        account,
        '[profiles.a]\nprovider = "browserless"\n[profiles.b]\nprovider = "browserless"\nregion = "lon"\n',
    )
    ended = account.run("create")
    assert ended.code == 2
    assert "a, b" in ended.err


@pytest.mark.parametrize(
    ("region", "code"), [("sfo", 0), ("chrome-eu-uk.browserless.io", 0), ("mars", 2), ("evil.io", 2)]
)
def test_a_region_is_checked_before_anything_is_sent(account, cloud, region, code):
    write_config(account, f'default = "work"\n[profiles.work]\nprovider = "browserless"\nregion = "{region}"\n')
    listed = account.run("close", "--all", "--yes", "-p", "work")
    assert listed.code == code
    assert cloud.requests == []


def test_a_404_from_another_place_proves_nothing(account, cloud):
    made = account.create()
    other = FakeBrowserless()
    try:
        account.config.write_text(account.config.read_text().replace(cloud.url, other.url))
        with sqlite3.connect(account.state / "ledger.sqlite3") as ledger:
            ledger.execute("UPDATE session SET stop_url = replace(stop_url, ?, ?)", (cloud.url, other.url))
        ledger.close()
        assert outcome(account.run("close", made["id"], "-o", "json")) == ("unknown", 5)
        assert other.methods() == ["DELETE"]
    finally:
        other.close()
    assert [row["id"] for row in account.rows()] == [made["id"]]
