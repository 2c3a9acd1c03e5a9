"""The fault matrix: each command against each way a server can fail, through the real executable.

Every fault says what each command is to make of it. To take another command in: give `COMMANDS` its arguments, each
`Fault` its expectation, and `Expected` what is particular to it.
"""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import shutil
import sqlite3
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import faults
from worlds import end_world, make_world, wait_for, write_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from worlds import World

# Each secret begins so: to look for this alone finds also half of one.
CANARY = "canary"
TOKEN = f"{CANARY}-token-4711"
PATH_SECRET = f"{CANARY}-Path-8152"
QUERY_SECRET = f"{CANARY}-Query-9263"
SESSION = "0d9f6a52-session"
NOWHERE = "http://127.0.0.1:1"
# Room for two attempts at least.
DEADLINE = "2.5s"
# What a process may need beyond its deadline to start and to end, on a machine that has much else to do.
SPARE_SECONDS = 20
COMMANDS = {"create": ["create"], "close": ["close", SESSION, "--force"], "list": ["list", "-p", "work"]}
LOG_LINE = re.compile(r"(?:GET|POST|DELETE) https?://\S+ .+ \d+ ms")
REQUEST = re.compile(rb"(?:GET|POST|DELETE) /")


@dataclass(frozen=True)
class Expected:
    """What a command makes of a fault: `rows` are the states of the open rows then, `requests` at least and at most."""

    code: int
    rows: tuple[str, ...]
    requests: tuple[int, int]
    outcome: str | None = None


# A create is sent once. What is refused was not made, and so was what never left; all else may have been.
REFUSED = Expected(1, (), (1, 1))
NOT_ALLOWED = Expected(4, (), (1, 1))
OUT_OF_QUOTA = Expected(6, (), (1, 1))
MAYBE_MADE = Expected(5, ("intent",), (1, 1))
NOT_MADE = Expected(5, (), (0, 0))
# A close is sent again after a passing failure. Its row stays open unless the end is proven.
CLOSED = Expected(0, (), (1, 1), "closed")
GONE = Expected(0, (), (1, 1), "already_closed")
NOT_CLOSED = Expected(1, ("open",), (1, 1), "failed")
MAY_NOT_CLOSE = Expected(4, ("open",), (1, 1), "failed")
TOO_MANY = Expected(6, ("open",), (5, 5), "failed")
TOO_MANY_IN_TIME = Expected(6, ("open",), (2, 4), "failed")
TOO_MANY_FOR_LONG = OUT_OF_MINUTES = Expected(6, ("open",), (1, 1), "failed")
MAYBE_CLOSED = Expected(5, ("open",), (2, 5), "unknown")
MAYBE_CLOSED_AT_ONCE = Expected(5, ("open",), (1, 1), "unknown")
NOT_REACHED = Expected(5, ("open",), (0, 0), "unknown")


class Stage:
    """A world and the servers it meets: `server` is the one at fault, `other` one that nobody may ask."""

    def __init__(self, world, certificates):
        self.world = world
        self.certificates = certificates
        self.server = None
        self.other = None
        self._servers = []

    def serve(self, behave, **settings):
        self._servers.append(faults.FaultServer(behave, **settings))
        return self._servers[-1]

    def meet(self, behave, **settings):
        """Let the server at fault behave so; return its URL."""
        self.server = self.serve(behave, **settings)
        return self.server.url

    def close(self):
        for server in self._servers:
            server.close()

    @property
    def requests(self):
        return [] if self.server is None else [head for head in self.server.requests if REQUEST.match(head)]


@dataclass(frozen=True)
class Fault:
    """`begin` sets a stage and returns the profile's url; `timeout` bounds one request, `deadline` all."""

    begin: Callable[[Stage], str]
    create: Expected
    close: Expected
    timeout: str = "5s"
    deadline: str = DEADLINE
    config: str = ""


def behaving(behave):
    return lambda stage: stage.meet(behave)


def saying(status, kind="text/plain", **headers):
    """Answer so, with a body that repeats what was asked, as many servers do. A header may be a function's value."""

    def begin(stage):
        said = {key: value() if callable(value) else value for key, value in headers.items()}

        def behave(connection, number):
            method, target = stage.server.requests[-1].decode().split()[:2]
            text = f"Cannot {method} {target.partition('?')[0]} ({target})"
            if kind == "text/html":
                text = f"<!DOCTYPE html><html><body><pre>{html.escape(text)}</pre></body></html>"
            faults.answer(status, text.encode(), kind, **said)(connection, number)

        return stage.meet(behave)

    return begin


def redirecting(status):
    def begin(stage):
        stage.other = stage.serve(faults.answer())
        return stage.meet(faults.answer(status, location=f"http://localhost:{stage.other.port}/session?token={TOKEN}"))

    return begin


def over_tls(name, *, trusted):
    """Speak TLS with a certificate for `name`."""

    def begin(stage):
        certificate = stage.certificates[name]
        if trusted:
            stage.world.variables["SSL_CERT_FILE"] = str(certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        return stage.meet(good, tls=context)

    return begin


def under_https(behave):
    """Let a server that speaks no TLS behave so at an https URL, once something came."""
    return lambda stage: stage.meet(behave, read=faults.read_something).replace("http:", "https:")


def exploding(stage):
    faults.packed_bomb()
    return stage.meet(faults.bomb)


def good(connection, number):
    """Answer a create as Browserless does."""
    secure = "s" if isinstance(connection, ssl.SSLSocket) else ""
    here = f"{secure}://127.0.0.1:{connection.getsockname()[1]}/e/{PATH_SECRET}/session"
    query = f"{SESSION}?token={TOKEN}&key={QUERY_SECRET}"
    body = {
        "id": SESSION,
        "connect": f"ws{here}/connect/{query}",
        "stop": f"http{here}/{query}",
        "browserQL": f"http{here}/bql/{query}",
        "ttl": 900_000,
        "cloudEndpointId": None,
    }
    faults.answer(body=json.dumps(body).encode())(connection, number)


def without(key):
    """Return a create's answer that lacks a usable value, and still holds secrets."""
    stop = f"http://127.0.0.1:1/e/{PATH_SECRET}/session/x?token={TOKEN}&key={QUERY_SECRET}"
    return json.dumps({"id": SESSION, "stop": stop, "connect": stop, key: [stop]}).encode()


SLOW = "0.4s"
# For what takes no second attempt to tell.
SHORT = "1s"
# For all five attempts: their pauses are 7.5 s at most, 5.6 as a rule.
LONG = "15s"
FAULTS = {
    "refused connection": Fault(lambda _: NOWHERE, NOT_MADE, NOT_REACHED, deadline=SHORT),
    "unknown host": Fault(lambda _: "https://no-such-host.invalid", NOT_MADE, NOT_REACHED, deadline=SHORT),
    "unknown host, plain": Fault(
        lambda _: "http://no-such-host.invalid", NOT_MADE, NOT_REACHED, deadline=SHORT, config="insecure = true"
    ),
    "self-signed certificate": Fault(over_tls("127.0.0.1", trusted=False), NOT_MADE, NOT_REACHED, deadline=SHORT),
    "certificate of another host": Fault(
        over_tls("other.invalid", trusted=True), NOT_MADE, NOT_REACHED, deadline=SHORT
    ),
    "no TLS": Fault(
        under_https(faults.answer(400, b"bad request", "text/plain")), NOT_MADE, NOT_REACHED, deadline=SHORT
    ),
    "silence instead of TLS": Fault(under_https(faults.silence), NOT_MADE, NOT_REACHED, SLOW, SHORT),
    "reset instead of TLS": Fault(under_https(faults.reset), NOT_MADE, NOT_REACHED, deadline=SHORT),
    "reset": Fault(behaving(faults.reset), MAYBE_MADE, MAYBE_CLOSED),
    "reset in the body": Fault(behaving(faults.reset_in_the_body), MAYBE_MADE, CLOSED),
    "early end": Fault(behaving(faults.end_early), MAYBE_MADE, CLOSED),
    "silence": Fault(behaving(faults.silence), MAYBE_MADE, MAYBE_CLOSED, SLOW),
    "silence in the body": Fault(behaving(faults.silence_in_the_body), MAYBE_MADE, CLOSED, SLOW),
    "drip": Fault(behaving(faults.drip), MAYBE_MADE, MAYBE_CLOSED, SLOW),
    "no HTTP": Fault(behaving(lambda connection, _: connection.sendall(b"SSH-2.0-x\r\n")), MAYBE_MADE, MAYBE_CLOSED),
    "400 text": Fault(saying(400), REFUSED, NOT_CLOSED),
    "401 HTML": Fault(saying(401, "text/html"), NOT_ALLOWED, MAY_NOT_CLOSE),
    "401 text": Fault(saying(401), NOT_ALLOWED, MAY_NOT_CLOSE),
    "402": Fault(saying(402), OUT_OF_QUOTA, OUT_OF_MINUTES),
    "403": Fault(saying(403), NOT_ALLOWED, MAY_NOT_CLOSE),
    "404 text": Fault(saying(404), REFUSED, GONE),
    "408": Fault(saying(408), MAYBE_MADE, MAYBE_CLOSED),
    "429": Fault(saying(429), OUT_OF_QUOTA, TOO_MANY, deadline=LONG),
    "429 for 0.2 s": Fault(saying(429, retry_after="0.2"), OUT_OF_QUOTA, TOO_MANY, deadline=LONG),
    "429 for 1 s": Fault(saying(429, retry_after="1"), OUT_OF_QUOTA, TOO_MANY_IN_TIME, deadline="3s"),
    "429 until a date": Fault(saying(429, retry_after=lambda: faults.soon(1)), OUT_OF_QUOTA, TOO_MANY, deadline=LONG),
    "429 until a past date": Fault(saying(429, retry_after=faults.soon(-3600)), OUT_OF_QUOTA, TOO_MANY, deadline=LONG),
    "429 until next year": Fault(saying(429, retry_after=faults.soon(3e7)), OUT_OF_QUOTA, TOO_MANY_FOR_LONG),
    "429 for 30 years": Fault(saying(429, retry_after="1000000000"), OUT_OF_QUOTA, TOO_MANY_FOR_LONG),
    "429 for ever": Fault(saying(429, retry_after="inf"), OUT_OF_QUOTA, TOO_MANY_FOR_LONG),
    "429 for less than nothing": Fault(saying(429, retry_after="-5"), OUT_OF_QUOTA, TOO_MANY, deadline=LONG),
    "429 for garbage": Fault(saying(429, retry_after="a while"), OUT_OF_QUOTA, TOO_MANY, deadline=LONG),
    "429 for nan": Fault(saying(429, retry_after="nan"), OUT_OF_QUOTA, TOO_MANY, deadline=LONG),
    "500 HTML": Fault(saying(500, "text/html"), MAYBE_MADE, MAYBE_CLOSED),
    "503": Fault(saying(503), MAYBE_MADE, MAYBE_CLOSED),
    "503 for 30 years": Fault(saying(503, retry_after="1000000000"), MAYBE_MADE, MAYBE_CLOSED_AT_ONCE),
    "empty body": Fault(behaving(faults.answer(body=b"")), MAYBE_MADE, CLOSED),
    "invalid JSON": Fault(behaving(faults.answer(body=b'{"id": "x", "stop')), MAYBE_MADE, CLOSED),
    "HTML": Fault(saying(200, "text/html"), MAYBE_MADE, CLOSED),
    "a list": Fault(behaving(faults.answer(body=b"[1]")), MAYBE_MADE, CLOSED),
    "an id that is none": Fault(behaving(faults.answer(body=without("id"))), MAYBE_MADE, CLOSED),
    "200 MB": Fault(behaving(faults.flood), MAYBE_MADE, CLOSED),
    "gzip bomb": Fault(exploding, MAYBE_MADE, CLOSED),
    "302 to no host": Fault(saying(302, location="https://xn--.invalid/"), MAYBE_MADE, MAYBE_CLOSED_AT_ONCE),
    "302 to no port": Fault(saying(302, location="http://127.0.0.1:x/"), MAYBE_MADE, MAYBE_CLOSED_AT_ONCE),
    "302 elsewhere": Fault(redirecting(302), MAYBE_MADE, MAYBE_CLOSED_AT_ONCE),
    "307 elsewhere": Fault(redirecting(307), MAYBE_MADE, MAYBE_CLOSED_AT_ONCE),
}


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Self-signed certificates, each for one name, with its key beside it."""
    folder = tmp_path_factory.mktemp("certificates")
    made = {}
    for name, kind in (("127.0.0.1", "IP"), ("other.invalid", "DNS")):
        made[name] = folder / f"{name}.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName={kind}:{name}"),
                *("-keyout", folder / f"{name}.key", "-out", made[name]),
            ],
            check=True,
            capture_output=True,
        )
    return made


@pytest.fixture(scope="session")
def state_with_a_session(executable):
    """The state folder of a world that has one session, and the URL of the server that made it."""
    server = faults.FaultServer(good)
    made = make_world([executable], os.geteuid())
    with_profile(made, server.url)
    made.create()
    server.close()
    yield made.state, server.url
    end_world(made)


@pytest.fixture
def stage(world, certificates):
    made = Stage(world, certificates)
    yield made
    made.close()


def with_profile(world: World, url: str, config: str = "") -> None:
    world.variables |= {"BROWSERLESS_TOKEN": TOKEN, "BSESS_OWNER": "me"}
    write_config(world, f'default = "work"\n[profiles.work]\nprovider = "browserless"\nurl = "{url}"\n{config}\n')


def with_session(world: World, state: tuple[Path, str], url: str) -> None:
    """Give a world the session that another made, as if the server at `url` had it."""
    folder, maker = state
    shutil.copytree(folder, world.state)
    with contextlib.closing(sqlite3.connect(world.state / "ledger.sqlite3")) as ledger, ledger:
        ledger.execute(
            "UPDATE session SET base_url = replace(base_url, :maker, :url), stop_url = replace(stop_url, :maker, :url)",
            {"maker": maker, "url": url},
        )


def prepare(stage: Stage, command: str, name: str, state: tuple[Path, str]) -> list[str]:
    """Set the stage; return the command line."""
    fault = FAULTS[name]
    url = fault.begin(stage)
    with_profile(stage.world, url, fault.config)
    if command != "create":
        with_session(stage.world, state, url)
    return [*COMMANDS[command], "-o", "json", "-v", "--debug", "--timeout", fault.timeout, "--deadline", fault.deadline]


def assert_no_secret_in_the_ledger(world: World) -> None:
    with contextlib.closing(sqlite3.connect(world.state / "ledger.sqlite3")) as ledger:
        assert TOKEN not in "\n".join(ledger.iterdump())
        with contextlib.closing(sqlite3.connect(":memory:")) as copy:
            ledger.backup(copy)
            # What opens and ends a session has to be somewhere while it lives.
            copy.execute(
                "UPDATE session SET connect_url = NULL, stop_url = NULL, query_url = NULL WHERE state <> 'closed'"
            )
            assert CANARY not in "\n".join(copy.iterdump())


@pytest.mark.parametrize("name", FAULTS)
def test_a_list_shows_the_ledgers_session_whatever_the_server_does_and_is_partial(stage, state_with_a_session, name):
    arguments = prepare(stage, "list", name, state_with_a_session)
    fault = FAULTS[name]
    ended = stage.world.run(*arguments, timeout=float(fault.deadline[:-1]) + SPARE_SECONDS)
    told = f"{ended.out}\n{ended.err}"
    assert CANARY not in told
    assert "Traceback" not in told
    assert ended.code == 3, told
    assert len([line for line in ended.err.splitlines() if not LOG_LINE.fullmatch(line)]) <= 2, told
    assert [session["id"] for session in ended.sessions] == [SESSION]
    assert len(ended.json["errors"]) == 1
    assert [row["state"] for row in stage.world.rows()] == ["open"]
    assert len(stage.requests) <= (1 if fault.create in (NOT_ALLOWED, REFUSED) else 5)
    assert stage.other is None or stage.other.connections == 0
    assert_no_secret_in_the_ledger(stage.world)


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("command", ["create", "close"])
def test_a_fault_has_its_code_its_row_and_its_requests_and_shows_no_secret(stage, state_with_a_session, command, name):
    arguments = prepare(stage, command, name, state_with_a_session)
    fault = FAULTS[name]
    expected: Expected = getattr(fault, command)
    world = stage.world
    ended = world.run(*arguments, timeout=float(fault.deadline[:-1]) + SPARE_SECONDS)
    told = f"{ended.out}\n{ended.err}"
    assert CANARY not in told
    assert "Traceback" not in told
    assert ended.code == expected.code, told
    problems = [line for line in ended.err.splitlines() if not LOG_LINE.fullmatch(line)]
    assert len(problems) <= (2 if ended.code else 0), told

    assert len(ended.lines) == 1
    document = ended.json
    assert (document["command"], document["exit_code"]) == (command, expected.code)
    assert len(document["errors"]) == (1 if ended.code else 0)
    assert [item["outcome"] for item in document["data"].get("outcomes", ())] == list(filter(None, [expected.outcome]))
    assert "sessions" not in document["data"]

    rows = world.rows()
    assert tuple(row["state"] for row in rows) == expected.rows
    assert all(row["claim"] is None for row in rows)
    least, most = expected.requests
    assert least <= len(stage.requests) <= most, stage.requests
    assert stage.other is None or stage.other.connections == 0
    if most == 0 and stage.server is not None:
        assert not [data for data in stage.server.requests if CANARY.encode() in data]

    history = world.ok("history", "-o", "json", "-v", "--debug")
    assert CANARY not in history.out + history.err
    assert [event["event"] for event in history.json["data"]["events"]][-1:] == ["failed" if ended.code else "closed"]
    assert_no_secret_in_the_ledger(world)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_secret_is_in_a_command_line_while_a_server_is_silent(stage, state_with_a_session, command):
    process = stage.world.start(*prepare(stage, command, "silence", state_with_a_session))
    with process:
        assert wait_for(lambda: stage.requests, SPARE_SECONDS)
        lines = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.getsid(int(entry.name)) == process.pid:
                    lines.append((entry / "cmdline").read_bytes())
        process.communicate(timeout=SPARE_SECONDS)
    assert len(lines) == 1
    assert CANARY.encode() not in lines[0]


@pytest.mark.parametrize("begin", [behaving(good), over_tls("127.0.0.1", trusted=True)], ids=["plain", "TLS"])
def test_without_a_fault_a_create_and_a_close_succeed(stage, begin):
    with_profile(stage.world, begin(stage))
    assert stage.world.create()["id"] == SESSION
    stage.world.ok("close", SESSION, "--force")
    assert [head.decode().split(" HTTP/")[0] for head in stage.requests] == [
        f"POST /session?token={TOKEN}",
        f"DELETE /e/{PATH_SECRET}/session/{SESSION}?token={TOKEN}&key={QUERY_SECRET}&force=true",
    ]
    assert_no_secret_in_the_ledger(stage.world)
