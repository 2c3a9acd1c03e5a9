"""The HTTP core against servers that misbehave: bounded, honest, and silent about secrets."""

from __future__ import annotations

import time

import pytest

import faults
from bsess import http
from bsess.errors import AuthError, BsessError, ConfigError, FailedError, NotFoundError, QuotaError, UnreachableError
from bsess.http import Access, Client
from bsess.output.text import secrets_of

TOKEN = "canary-token-4711"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(http, "BACKOFF_SECONDS", 0.01)


@pytest.fixture
def serve():
    servers = []

    def start(behave):
        servers.append(faults.FaultServer(behave))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def make_client():
    clients = []

    def make(url, *, timeout=5.0, left=20.0, environment=None, **access):
        end = time.monotonic() + left
        lines = []
        access = {"headers": {"x-key": TOKEN}, "secrets": (TOKEN,), "token_source": "env X", **access}
        clients.append(
            Client(
                Access(url, **access),
                environment=environment or {},
                timeout=timeout,
                seconds_left=lambda: end - time.monotonic(),
                log=lines.append,
            )
        )
        clients[-1].lines = lines
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def test_an_answer_comes_back_whole(serve, make_client):
    server = serve(faults.answer(body=b'{"id": 1}', date="Fri, 20 Nov 2026 22:00:00 GMT"))
    client = make_client(server.url)
    answer = client.send("GET", f"{server.url}/x?token={TOKEN}")
    assert (answer.status, client.json(answer, what="get"), answer.server_time) == (200, {"id": 1}, 1795212000.0)
    assert f"x-key: {TOKEN}".encode() in server.requests[0]


def test_a_log_line_has_neither_query_nor_token(serve, make_client):
    server = serve(faults.answer())
    client = make_client(server.url)
    client.send("GET", f"{server.url}/session/{TOKEN}?token=other")
    assert client.lines[0].startswith(f"GET {server.url}/session/*** 200 ")


@pytest.mark.parametrize("behave", [faults.reset, faults.reset_in_the_body, faults.end_early])
def test_a_broken_read_is_tried_again(serve, make_client, behave):
    server = serve(faults.in_turn(behave, faults.answer()))
    assert make_client(server.url).send("GET", server.url).status == 200
    assert len(server.requests) == 2


@pytest.mark.parametrize("behave", [faults.reset, faults.reset_in_the_body, faults.end_early])
def test_what_may_not_be_repeated_is_sent_once(serve, make_client, behave):
    server = serve(behave)
    with pytest.raises(UnreachableError):
        make_client(server.url).send("POST", server.url, body={}, repeatable=False)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_status_is_tried_again_for_what_may_be_repeated_alone(serve, make_client, status):
    server = serve(faults.in_turn(faults.answer(status), faults.answer()))
    client = make_client(server.url)
    assert client.send("POST", server.url, repeatable=False).status == status
    assert client.send("GET", server.url).status == 200
    assert len(server.requests) == 2


@pytest.mark.parametrize("behave", [faults.reset_in_the_body, faults.end_early, faults.flood])
def test_a_status_is_an_answer_where_it_is_all_that_is_asked(serve, make_client, behave):
    server = serve(behave)
    answer = make_client(server.url).send("DELETE", server.url, wanted=http.Wanted.STATUS)
    assert (answer.status, answer.body) == (200, b"")
    assert len(server.requests) == 1


def test_it_gives_up_after_five_attempts(serve, make_client):
    server = serve(faults.answer(503))
    assert make_client(server.url).send("GET", server.url).status == 503
    assert len(server.requests) == 5


def test_nobody_there_is_unreachable(make_client):
    with pytest.raises(UnreachableError) as caught:
        make_client("http://127.0.0.1:1").send("DELETE", f"http://127.0.0.1:1/session/x?token={TOKEN}")
    assert caught.value.code == "unreachable"
    assert TOKEN not in caught.value.message


def test_a_name_that_resolves_to_nothing_is_unreachable(make_client):
    with pytest.raises(UnreachableError):
        make_client("https://no-such-host.invalid", timeout=2.0, left=4.0).send("GET", "https://no-such-host.invalid/")


def test_a_server_without_tls_is_unreachable_over_https(serve, make_client):
    url = serve(faults.answer()).url.replace("http:", "https:")
    with pytest.raises(UnreachableError):
        make_client(url, left=3.0).send("GET", url)


@pytest.mark.parametrize("behave", [faults.silence, faults.drip])
def test_a_slow_server_cannot_prolong_a_request(serve, make_client, behave):
    server = serve(behave)
    began = time.monotonic()
    with pytest.raises(UnreachableError):
        make_client(server.url, timeout=0.5).send("POST", server.url, repeatable=False)
    assert time.monotonic() - began < 5


def test_the_deadline_ends_the_attempts(serve, make_client):
    server = serve(faults.silence)
    began = time.monotonic()
    with pytest.raises(UnreachableError):
        make_client(server.url, timeout=0.4, left=1.0).send("GET", server.url)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("status", [429, 503])
def test_a_deadline_before_the_next_attempt_leaves_the_last_answer(serve, make_client, monkeypatch, status):
    monkeypatch.setattr(http, "BACKOFF_SECONDS", 60)
    server = serve(faults.answer(status))
    assert make_client(server.url, left=5.0).send("GET", server.url).status == status
    assert len(server.requests) == 1


@pytest.mark.parametrize("behave", [faults.flood, faults.bomb])
def test_a_huge_answer_is_refused_in_bounded_memory(serve, make_client, behave):
    server = serve(behave)
    with pytest.raises(UnreachableError, match="larger than 64 MB"):
        make_client(server.url, timeout=60.0, left=120.0).send("GET", server.url)
    assert len(server.requests) == 1


def test_a_redirect_is_not_followed(serve, make_client):
    other = serve(faults.answer())
    server = serve(faults.answer(302, location=other.url))
    client = make_client(server.url)
    answer = client.send("GET", server.url)
    assert isinstance(client.failure(answer, what="list"), UnreachableError)
    assert other.requests == []


def test_a_token_goes_to_its_own_origin_alone(serve, make_client):
    other = serve(faults.answer())
    make_client("http://127.0.0.1:1").send("GET", other.url)
    assert TOKEN.encode() not in other.requests[0]


@pytest.mark.parametrize(
    "url", ["http://example.invalid/", "ftp://127.0.0.1/", "127.0.0.1", "http://", "file:///etc/passwd"]
)
def test_an_unsafe_url_is_refused_before_any_request(make_client, url):
    with pytest.raises(ConfigError):
        make_client(url).send("GET", url)


def test_retry_after_is_waited_for(serve, make_client):
    server = serve(faults.in_turn(faults.answer(429, retry_after="0.3"), faults.answer()))
    began = time.monotonic()
    assert make_client(server.url).send("GET", server.url).status == 200
    assert time.monotonic() - began >= 0.3


def test_retry_after_as_a_date_is_understood(serve, make_client):
    server = serve(faults.in_turn(faults.answer(429, retry_after=faults.soon(1)), faults.answer()))
    assert make_client(server.url).send("GET", server.url).status == 200


@pytest.mark.parametrize("text", ["-5", "soon", "nan", ""])
def test_an_absurd_retry_after_is_no_reason_to_wait_or_crash(serve, make_client, text):
    server = serve(faults.in_turn(faults.answer(429, retry_after=text), faults.answer()))
    assert make_client(server.url).send("GET", server.url).status == 200


@pytest.mark.parametrize("text", ["86400", "1e300", "inf"])
def test_a_retry_after_beyond_the_deadline_fails_at_once(serve, make_client, text):
    server = serve(faults.answer(429, retry_after=text))
    client = make_client(server.url)
    began = time.monotonic()
    assert client.send("GET", server.url).status == 429
    with pytest.raises(QuotaError):
        client.send("GET", server.url)
    assert time.monotonic() - began < 5
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"", "application/json", "nothing"),
        (b"<!DOCTYPE html><h1>Hi</h1>", "text/html", "HTML"),
        (b'{"id": ', "application/json", "truncated JSON"),
        (b"\xff\xfe", "application/json", "not UTF-8"),
        (b"hello", "text/plain", "text"),
        (b"[" * 100_000, "application/json", "truncated JSON"),
    ],
)
def test_what_is_no_json_is_said(serve, make_client, body, kind, said):
    server = serve(faults.answer(body=body, kind=kind))
    client = make_client(server.url)
    with pytest.raises(UnreachableError, match=said):
        client.json(client.send("GET", server.url), what="list")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, FailedError),
        (401, AuthError),
        (402, QuotaError),
        (403, AuthError),
        (404, NotFoundError),
        (408, UnreachableError),
        (429, QuotaError),
        (500, UnreachableError),
        (302, UnreachableError),
    ],
)
def test_each_status_is_its_own_error(serve, make_client, status, kind):
    server = serve(faults.answer(status, b"<html><style>x</style><b>No, no</b></html>", "text/html"))
    client = make_client(server.url)
    error = client.failure(client.send("POST", server.url, repeatable=False), what="create")
    assert type(error) is kind
    assert "No, no" in error.message


def test_an_errors_text_has_no_secret_and_no_control_character(serve, make_client):
    server = serve(faults.answer(400, f'{{"message": "bad \\u001b[31m {TOKEN} at /x?token=abc&y"}}'.encode()))
    client = make_client(server.url)
    error = client.failure(client.send("GET", server.url), what="list")
    assert error.message.endswith("bad [31m *** at /x?token=***&y")


def test_a_secret_at_the_cut_of_a_long_line_is_redacted_whole(serve, make_client):
    server = serve(faults.answer(400, b"x" * 192 + b" " + TOKEN.encode()))
    client = make_client(server.url)
    assert "canary" not in client.failure(client.send("GET", server.url), what="list").message


def test_what_is_hidden_later_is_in_no_message_and_no_log_line(serve, make_client):
    server = serve(
        faults.answer(400, b"Cannot DELETE /e/Secret-71/session/id-1 (key=other-72, Secret-71, session id-1)")
    )
    client = make_client(server.url)
    url = f"{server.url}/e/Secret-71/session/id-1?key=other%2D72&force=true"
    client.hide(secrets_of(url, "id-1"))
    error = client.failure(client.send("DELETE", url), what="close")
    assert error.message.endswith("Cannot DELETE /*** (key=***, ***, session id-1)")
    assert client.lines[0].startswith(f"DELETE {server.url}/*** 400 ")


def test_a_401_says_where_the_token_came_from(serve, make_client):
    server = serve(faults.answer(401, b"no"))
    client = make_client(server.url)
    assert "env X" in client.failure(client.send("GET", server.url), what="list").hint


def test_a_proxy_is_used_and_no_proxy_excepts(serve, make_client):
    proxy = serve(faults.answer(body=b'"proxied"'))
    environment = {"HTTP_PROXY": proxy.url, "NO_PROXY": "other.invalid"}
    client = make_client("http://far.invalid", environment=environment, insecure=True)
    assert client.send("GET", "http://far.invalid/x").body == b'"proxied"'
    with pytest.raises(BsessError):
        make_client("http://other.invalid", environment=environment, insecure=True, left=2.0).send(
            "GET", "http://other.invalid/x"
        )
    assert len(proxy.requests) == 1


def test_an_unreadable_ca_file_is_a_config_error(serve, make_client, tmp_path):
    url = serve(faults.answer()).url.replace("http:", "https:")
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        make_client(url, environment={"SSL_CERT_FILE": str(tmp_path / "none")}).send("GET", url)


def test_one_connection_serves_many_requests(serve, make_client):
    def keep(connection, _):
        for _ in range(3):
            connection.sendall(b"HTTP/1.1 200 X\r\ncontent-length: 2\r\n\r\n{}")
            server.requests.append(faults.read_request(connection))

    server = serve(keep)
    client = make_client(server.url)
    for _ in range(3):
        assert client.send("GET", server.url).status == 200
