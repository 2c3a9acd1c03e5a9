"""Ending what one holds a URL of: stop URLs and connect URLs, typed and from a pipe."""

from __future__ import annotations

import contextlib
import json
import threading

import pytest
from websockets.sync.server import serve

import faults
from bsess import config, pasted
from bsess.errors import UsageError
from fake_browserless import SESSION_SECRET, TOKEN
from forwarder import Forwarder
from worlds import wait_for, write_config

ID = "5a1b0cc4-5f0a-4a2e-8f2e-3f1f2f1f0a11"
CLOUD = "production-sfo.browserless.io"


def outcome(ended):
    assert len(ended.outcomes) == 1
    return ended.outcomes[0]["outcome"], ended.code


def living(cloud, name=ID):
    """A session that no ledger knows; returns its stop URL."""
    cloud.sessions[name] = {"ttl": 1}
    return f"{cloud.url}/session/{name}?token={TOKEN}"


def settings(text="", tmp_path=None, **environment):
    path = tmp_path / "config.toml"
    path.write_text(text)
    return config.load({"BSESS_CONFIG": str(path), "HOME": str(tmp_path), **environment})


def test_a_typed_stop_url_needs_no_config(world, cloud):
    ended = world.ok("close", living(cloud), "--force", "-o", "json")
    assert outcome(ended) == ("closed", 0)
    assert ended.outcomes[0]["id"] == ID
    assert cloud.requests == [("DELETE", f"/session/{ID}", {"token": TOKEN, "force": "true"}, None)]


def test_a_stop_url_pinned_to_a_worker_is_sent_as_it_is(world, cloud):
    url = living(cloud).replace("/session/", "/e/aGVsbG8=/session/")
    assert outcome(world.ok("close", url, "-o", "json")) == ("closed", 0)
    assert cloud.requests == [("DELETE", f"/e/aGVsbG8=/session/{ID}", {"token": TOKEN}, None)]


def test_a_secret_typed_as_an_argument_draws_a_warning_that_names_the_pipe(world, cloud):
    ended = world.ok("close", living(cloud), "--force")
    assert "bsess close -" in ended.err
    assert TOKEN not in ended.out + ended.err
    assert TOKEN not in world.ok("history", "-o", "json").out


def test_a_stop_url_from_a_pipe_ends_it_where_a_profile_has_its_host(world, cloud):
    write_config(world, f'[profiles.work]\nprovider = "browserless"\nurl = "{cloud.url}"\n')
    ended = world.ok("close", "-", "--force", "-o", "json", stdin=living(cloud) + "\n")
    assert outcome(ended) == ("closed", 0)
    assert ended.outcomes[0]["profile"] == "work"
    assert "warning" not in ended.err


def test_the_profiles_token_is_put_where_a_url_of_its_own_has_none(world, cloud):
    write_config(world, f'[profiles.work]\nprovider = "browserless"\nurl = "{cloud.url}"\n')
    url = living(cloud).partition("?")[0]
    assert outcome(world.ok("close", url, "-o", "json", env={"BROWSERLESS_TOKEN": TOKEN})) == ("closed", 0)


def test_the_ledgers_row_of_a_pasted_url_is_closed_with_it(world, cloud):
    write_config(world, f'default = "work"\n[profiles.work]\nprovider = "browserless"\nurl = "{cloud.url}"\n')
    world.variables["BROWSERLESS_TOKEN"] = TOKEN
    made = world.create()
    stop = f"{cloud.url}/e/{SESSION_SECRET}/session/{made['id']}?token={TOKEN}"
    assert outcome(world.ok("close", stop, "--force", "-o", "json")) == ("closed", 0)
    assert world.rows() == []


def test_a_dead_stop_url_is_not_found_and_a_wrong_token_is_said(world, cloud):
    living(cloud)
    gone = f"{cloud.url}/session/{ID.replace('5', '6')}?token={TOKEN}"
    assert outcome(world.run("close", gone, "-o", "json")) == ("not_found", 1)
    wrong = world.run("close", f"{cloud.url}/session/{ID}?token=wrong-canary", "-o", "json")
    assert outcome(wrong) == ("failed", 4)
    assert "wrong-canary" not in wrong.out + wrong.err


REFUSED = [
    f"ftp://{CLOUD}/session/{ID}?token=canary",
    f"file:///session/{ID}?token=canary",
    f"http://{CLOUD}/session/{ID}?token=canary",
    f"https://{CLOUD}/kill/{ID}?token=canary",
    f"https://{CLOUD}/session?token=canary",
    f"https://{CLOUD}/session/connect/{ID}?token=canary",
    f"https://{CLOUD}/session/../kill/all?token=canary",
    f"https://{CLOUD}/session/%2e%2e%2fkill?token=canary",
    f"https://{CLOUD}/session/{ID}",
    f"https://{CLOUD}:8443/session/{ID}?token=canary",
    f"https://{CLOUD}.evil.example/session/{ID}?token=canary",
    f"https://{CLOUD}@evil.example/session/{ID}?token=canary",
    f"https://browserless.io.evil.example/session/{ID}?token=canary",
    f"https://browser1ess.io/session/{ID}?token=canary",
    f"https://production-sfo.browseriess.io/session/{ID}?token=canary",
    f"https://brоwserless.io/session/{ID}?token=canary",  # noqa: RUF001  the letter is the point
    f"https://xn--brwserless-tbh.io/session/{ID}?token=canary",
    f"https://10.0.0.7/session/{ID}?token=canary",
    f"https://192.168.1.1/session/{ID}?token=canary",
    f"https://169.254.169.254/session/{ID}?token=canary",
    f"https://[fe80::1]/session/{ID}?token=canary",
    f"https://[::ffff:10.0.0.7]/session/{ID}?token=canary",
    f"https://0.0.0.0/session/{ID}?token=canary",
    f"https://2130706433/session/{ID}?token=canary",
    f"https://0x7f.1/session/{ID}?token=canary",
    f"https://metadata/session/{ID}?token=canary",
    f"https://metadata.google.internal/session/{ID}?token=canary",
    f"https:///session/{ID}?token=canary",
    f"https://{CLOUD}:notaport/session/{ID}?token=canary",
    "wss://production-sfo.browserless.io?token=canary",
    "wss://production-sfo.browserless.io/chromium?token=canary",
    f"ws://{CLOUD}/session/connect/{ID}?token=canary",
    "wss://10.0.0.7/devtools/browser/1?token=canary",
]


@pytest.mark.parametrize("typed", [True, False], ids=["typed", "piped"])
@pytest.mark.parametrize("url", REFUSED)
def test_a_url_that_may_not_be_used_is_refused_before_anything_is_sent(tmp_path, monkeypatch, url, typed):
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: pytest.fail("it was looked up"))
    with pytest.raises(UsageError) as refused:
        pasted.read(url, settings(tmp_path=tmp_path), typed=typed)
    assert "canary" not in f"{refused.value.message}{refused.value.hint}"


def test_a_refused_url_ends_the_program_with_2_and_shows_no_secret(world):
    for url in (
        f"https://10.0.0.7/session/{ID}?token=canary",
        f"https://{CLOUD}/x?token=canary",
        "ftp://x?token=canary",
    ):
        ended = world.run("close", url, "--force", "-o", "json")
        assert ended.code == 2
        assert ended.json["errors"][0]["code"] == "url_refused"
        assert "canary" not in ended.out + ended.err


@pytest.mark.parametrize("url", ["https://fleet.example/session/{}?token=x", "https://127.0.0.1:9/session/{}?token=x"])
def test_an_unknown_host_is_for_typed_urls_alone(tmp_path, monkeypatch, url):
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: [(2, 1, 6, "", ("8.8.8.8", 0))])
    found = pasted.read(url.format(ID), settings(tmp_path=tmp_path), typed=True)
    assert found.id == ID
    with pytest.raises(UsageError, match="only a typed URL"):
        pasted.read(url.format(ID), settings(tmp_path=tmp_path), typed=False)


def test_a_name_that_leads_to_a_private_address_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: [(2, 1, 6, "", ("10.1.2.3", 0))])
    with pytest.raises(UsageError, match="private"):
        pasted.read(f"https://fleet.example/session/{ID}?token=x", settings(tmp_path=tmp_path), typed=True)


def test_a_private_address_that_a_profile_has_is_known(tmp_path):
    text = '[profiles.fleet]\nprovider = "browserless"\nurl = "https://10.0.0.7/base"\n'
    found = pasted.read(f"https://10.0.0.7/base/session/{ID}", settings(text, tmp_path=tmp_path), typed=False)
    assert (found.id, found.profile.name) == (ID, "fleet")


@pytest.mark.parametrize("typed", [True, False], ids=["typed", "piped"])
def test_the_vendors_hosts_are_known_without_any_profile(tmp_path, typed):
    found = pasted.read(f"https://{CLOUD}/e/x/session/{ID}?token=x", settings(tmp_path=tmp_path), typed=typed)
    assert (found.id, found.profile.name, found.profile.region) == (ID, "browserless", CLOUD)


# Connect URLs.


def test_a_connect_url_ends_a_real_browser(world):
    made = world.create()
    other = {"BSESS_STATE_DIR": str(world.folder / "elsewhere")}
    ended = world.ok("close", made["connect_url"], "-o", "json", env=other)
    assert outcome(ended) == ("closed", 0)
    world.assert_nothing_left(within=10)


def test_a_connect_url_of_a_session_in_the_ledger_closes_its_row(world):
    made = world.create()
    assert outcome(world.ok("close", "-", "-o", "json", stdin=made["connect_url"])) == ("closed", 0)
    world.assert_nothing_left()
    assert world.rows() == []


@contextlib.contextmanager
def devtools(behave, **options):
    """A server that lets `behave(connection, number)` answer each connection; yields its URL."""
    count = iter(range(1, 100))
    with serve(lambda connection: behave(connection, next(count)), "127.0.0.1", 0, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/devtools/browser/abc?token=canary-secret"
        finally:
            server.shutdown()
            thread.join(10)


def close_by(world, url, *arguments, **settings):
    ended = world.run("close", url, "-o", "json", *arguments, **settings)
    assert "canary-secret" not in ended.out + ended.err
    return outcome(ended)


def obey(connection, _):
    assert json.loads(connection.recv()) == {"id": 1, "method": "Browser.close"}
    connection.send(json.dumps({"method": "Target.targetDestroyed", "params": {"text": "x" * 100_000}}))
    connection.send("no json")
    connection.send('{"id": 1, "result": {}}')


def ignore(connection, _):
    connection.recv()
    connection.send('{"id": 1, "result": {}}')
    with contextlib.suppress(Exception):
        connection.recv()


def refuse(connection, _):
    connection.recv()
    connection.send('{"id": 1, "error": {"code": -32000, "message": "Not allowed"}}')
    with contextlib.suppress(Exception):
        connection.recv()


def cut(connection, _):
    connection.recv()
    connection.close()


def test_a_browser_that_obeys_is_closed(world):
    with devtools(obey) as url:
        assert close_by(world, url) == ("closed", 0)


def test_a_browser_that_ignores_it_is_stuck(world):
    with devtools(ignore) as url:
        assert close_by(world, url, "--wait-timeout", "1s") == ("stuck", 1)


def test_a_browser_that_refuses_has_failed(world):
    with devtools(refuse) as url:
        assert close_by(world, url) == ("failed", 1)


def test_a_connection_cut_before_the_answer_to_a_browser_that_lives_on_is_stuck(world):
    with devtools(cut) as url:
        assert close_by(world, url) == ("stuck", 1)


def test_a_connection_cut_before_the_answer_is_closed_once_the_server_knows_no_such_browser(world):
    seen = []

    def once(connection, request):
        seen.append(request.path)
        return connection.respond(404, "Not Found") if len(seen) > 1 else None

    with devtools(cut, process_request=once) as url:
        assert close_by(world, url) == ("closed", 0)


def test_a_connection_cut_before_the_answer_leaves_the_state_unknown_where_nobody_can_say(world):
    seen = []

    def once(connection, request):
        seen.append(request.path)
        return connection.respond(503, "busy") if len(seen) > 1 else None

    with devtools(cut, process_request=once) as url:
        assert close_by(world, url) == ("unknown", 5)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(404, ("not_found", 1)), (401, ("failed", 4)), (429, ("failed", 6)), (400, ("failed", 1)), (500, ("unknown", 5))],
)
def test_each_refusal_of_a_connection_has_its_outcome(world, status, expected):
    with devtools(obey, process_request=lambda connection, _: connection.respond(status, "token=canary-secret")) as url:
        assert close_by(world, url) == expected


def test_nobody_at_a_connect_url_leaves_the_state_unknown(world):
    with devtools(obey) as url:
        pass
    assert close_by(world, url, "--timeout", "2s") == ("unknown", 5)


def garbage(connection, _):
    connection.sendall(b"220 mail.example ESMTP\r\n")


@pytest.mark.parametrize(
    ("behave", "expected"),
    [(garbage, ("unknown", 5)), (faults.reset, ("unknown", 5)), (faults.answer(200), ("failed", 1))],
    ids=["garbage", "reset", "plain-http"],
)
def test_what_does_not_speak_websocket_closes_nothing(world, behave, expected):
    server = faults.FaultServer(behave)
    try:
        url = f"{server.url.replace('http', 'ws')}/devtools/browser/abc?token=canary-secret"
        assert close_by(world, url, "--timeout", "5s") == expected
    finally:
        server.close()


def test_a_server_that_says_nothing_is_given_up_in_time(world):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/devtools/browser/abc"
        assert close_by(world, url, "--timeout", "1s") == ("unknown", 5)


def test_verbose_tells_the_connection_without_its_secret(world):
    with devtools(obey) as url:
        ended = world.ok("close", url, "-v", "--debug")
        assert "CONNECT ws://127.0.0.1" in ended.err
        assert "canary-secret" not in ended.err


def test_a_proxy_carries_the_connection(world):
    from bsess import cdp

    with devtools(obey) as url:
        forwarder = Connect(int(url.split(":")[2].split("/")[0]))
        try:
            route = cdp.Route(proxy=f"http://ann:pw@127.0.0.1:{forwarder.port}")
            connection = cdp.Connection(url.replace("127.0.0.1", "browser.invalid"), route, seconds=5)
            connection.send(1, "Browser.close")
            assert wait_for(lambda: {"id": 1, "result": {}} in connection.receive(5), 5)
            connection.close()
            assert b"CONNECT browser.invalid:" in forwarder.head
            assert b"Proxy-Authorization: Basic YW5uOnB3" in forwarder.head
        finally:
            forwarder.close()


class Connect(Forwarder):
    """A proxy that leads to one port whatever it is asked for."""

    head = b""

    def _join(self, client):
        while b"\r\n\r\n" not in self.head:
            self.head += client.recv(1)
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        super()._join(client)


@pytest.mark.parametrize(
    "name",
    [f"{CLOUD}/session/x?token=canary", "//h/session/x?token=canary", "https:h/x?token=canary", "x?token=canary"],
)
def test_what_looks_like_a_url_and_is_none_is_refused_and_not_repeated(world, name):
    for arguments in (["close", name], ["adopt", name], ["bql", name, "query { a }"]):
        ended = world.run(*arguments)
        assert ended.code == 2, ended
        assert "canary" not in ended.out + ended.err
    piped = world.run("close", "-", stdin=name + "\n")
    assert piped.code == 2
    assert "canary" not in piped.out + piped.err


@pytest.mark.parametrize("command", [["adopt"], ["bql"]])
def test_only_close_takes_a_url_and_nothing_repeats_one(world, command):
    ended = world.run(
        *command, f"wss://{CLOUD}/session/connect/x?token=canary", *(["query { a }"] if "bql" in command else [])
    )
    assert ended.code == 2
    assert "canary" not in ended.out + ended.err


def test_a_line_that_may_not_be_used_fails_alone_and_the_others_are_ended(world, cloud):
    write_config(world, f'[profiles.work]\nprovider = "browserless"\nurl = "{cloud.url}"\n')
    lines = [f"https://evil.example/session/{ID}?token=canary", living(cloud), f"{cloud.url}/***"]
    ended = world.run("close", "-", "-o", "json", stdin="\n".join(lines))
    assert ended.code == 3
    assert [item["outcome"] for item in ended.outcomes] == ["failed", "failed", "closed"]
    assert "canary" not in ended.out + ended.err
    assert "--show-secrets" in ended.err
    assert cloud.sessions == {}


def test_what_went_wrong_with_a_url_is_no_close_in_the_history(world, cloud):
    living(cloud)
    cloud.misbehave["DELETE"] = 302
    assert world.run("close", f"{cloud.url}/session/{ID}?token={TOKEN}", "-o", "json").code == 5
    (event,) = world.ok("history", "-o", "json").json["data"]["events"]
    assert (event["event"], event["outcome"]) == ("failed", "unknown")
