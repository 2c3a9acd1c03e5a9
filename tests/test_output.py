"""What is printed where: formats, keys, masking, codes; and on a real terminal: whole ids, questions, --watch."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import shlex
import subprocess
import time
import uuid
from datetime import UTC, datetime

import pytest

from bsess import boundary, cli, errors
from bsess.errors import BsessError, ExitCode, UsageError
from bsess.invocation import Flags, Invocation
from bsess.ledger.sqlite import FILE
from bsess.model import Decision
from bsess.output import Format, grid, rich_table, tells
from worlds import ROOT, end_world, make_world, wait_for

FORMATS = ["table", "json", "jsonl", "tsv", "name", "url", "env", "github"]
SESSION_KEYS = [
    "id", "profile", "provider", "status", "region", "created_at", "expires_at", "age_seconds", "mine", "owner", "run",
    "labels", "connect_url",
]  # fmt: skip
OUTCOME_KEYS = ["id", "profile", "provider", "outcome", "reason", "http_status", "provider_status"]
DECISION_KEYS = ["id", "profile", "decision", "reason"]
EVENT_KEYS = ["at", "event", "command", "id", "profile", "provider", "owner", "run", "outcome", "reason"]
ENVELOPE_KEYS = ["schema", "command", "status", "exit_code", "data", "errors"]
ERROR_KEYS = ["code", "message", "hint", "session"]
RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
BOX = re.compile(r"[\u2500-\u257f]")


@pytest.fixture(scope="module")
def shared(executable):
    """A world with one session, for tests that only look."""
    world = make_world([executable], os.geteuid())
    world.session = world.create("--label", "job=42", "--ttl", "10m")
    world.url = world.session["connect_url"]
    yield world
    end_world(world)


# Off a terminal


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "command",
    [["list"], ["history"], ["config", "show"], ["sweep", "--dry-run"], ["close", "aaaaaaaaaaaaaaaa"], ["tag"]],
)
def test_off_a_terminal_there_is_no_escape_no_box_and_no_cut(shared, command, form):
    ended = shared.run(*command, "-o", form)
    assert ended.code in (0, 1, 2), ended.err
    assert "Traceback" not in ended.err
    both = ended.out + ended.err
    assert "\x1b" not in both
    assert not BOX.search(both)
    assert "…" not in both
    if command == ["list"] and form not in ("url", "env", "github"):
        assert shared.session["id"] in ended.out


def test_off_a_terminal_the_default_is_tsv(shared):
    plain, tsv = (re.sub(r"\t[0-9]+\ttrue", "", shared.ok("list", *flags).out) for flags in ([], ["-o", "tsv"]))
    assert plain == tsv


def test_tsv_has_no_header_and_a_column_for_each_key_but_the_secret(shared):
    lines = shared.ok("list", "-o", "tsv").lines
    assert len(lines) == 1
    cells = dict(zip(SESSION_KEYS[:-1], lines[0].split("\t"), strict=True))
    assert (cells["id"], cells["mine"], cells["labels"]) == (shared.session["id"], "true", "job=42")


@pytest.mark.parametrize("form", ["tsv", "json", "jsonl"])
def test_times_are_rfc_3339_in_utc(shared, form):
    out = shared.ok("list", "-o", form).out
    times = RFC3339.findall(out)
    assert len(times) == 2
    created, expires = (datetime.fromisoformat(text) for text in times)
    assert abs((expires - created).total_seconds() - 600) <= 1
    assert abs((datetime.now(UTC) - created).total_seconds()) < 600


def test_times_do_not_depend_on_the_time_zone(shared):
    there = shared.ok("list", "-o", "json", env={"TZ": "Asia/Tokyo"}).sessions[0]["created_at"]
    assert there == shared.session["created_at"]


def test_a_table_off_a_terminal_has_whole_cells_under_a_header(shared):
    header, line = shared.ok("list", "-o", "table").lines
    assert header.split()[:3] == ["ID", "PROFILE", "STATUS"]
    assert line.split()[:3] == [shared.session["id"], "local", "running"]


def test_name_is_the_id_in_the_default_profile_and_carries_the_profile_elsewhere(shared):
    assert shared.ok("list", "-o", "name").lines == [shared.session["id"]]
    shared.config.write_text(shared.config.read_text() + '[profiles.other]\nprovider = "local"\n')
    other = shared.ok("list", "-o", "name", env={"BSESS_PROFILE": "other"}).lines
    assert other == [f"local/{shared.session['id']}"]


def test_an_unknown_format_names_the_valid_ones(shared):
    ended = shared.run("list", "-o", "yaml")
    assert (ended.code, ended.out) == (2, "")
    assert all(form in ended.err for form in FORMATS)
    assert len(ended.err.splitlines()) == 2


@pytest.mark.parametrize("form", ["JSON", "", "json ", "x\x1b[31m"])
def test_a_format_is_exact(shared, form):
    ended = shared.run("list", f"--output={form}")
    assert ended.code == 2
    assert "\x1b" not in ended.err


def test_an_unknown_format_is_refused_before_a_session_is_made(world):
    assert world.run("create", "-o", "yaml").code == 2
    assert not world.state.exists()


@pytest.mark.parametrize(
    "arguments", [["create", "--count", "2", "-o", "env"], ["create", "-o", "github", "--count", "0"]]
)
def test_a_format_that_cannot_tell_the_result_leaves_no_session(world, arguments):
    assert world.run(*arguments).code == 2
    world.assert_nothing_left(within=2)


def test_the_format_of_the_environment_is_taken_and_a_flag_wins(shared):
    assert shared.ok("list", env={"BSESS_OUTPUT": "name"}).lines == [shared.session["id"]]
    assert shared.ok("list", "-o", "json", env={"BSESS_OUTPUT": "name"}).json["command"] == "list"


def test_quiet_leaves_errors_only_and_does_not_change_stdout(world):
    loud = world.run("create", "-o", "name")
    quiet = world.run("create", "-o", "name", "-q")
    assert quiet.err == ""
    assert re.fullmatch(r"[a-z2-7]{16}\n", quiet.out)
    assert re.fullmatch(r"[a-z2-7]{16}\n", loud.out)
    assert "bsess: " in world.run("close", "aaaaaaaaaaaaaaaa", "-q").err
    assert world.run("close", "--all", "--yes", "--force", "-q").err == ""


# JSON


@pytest.mark.parametrize(
    "command",
    [
        ["list"],
        ["history"],
        ["config", "show"],
        ["config", "path"],
        ["sweep", "--dry-run"],
        ["close", "--all", "--dry-run"],
    ],
)
def test_the_envelope_has_exactly_its_keys(shared, command):
    document = shared.ok(*command, "-o", "json").json
    assert list(document) == ENVELOPE_KEYS
    assert document["schema"] == "bsess/1"
    assert document["command"] == " ".join(part for part in command if not part.startswith("-"))
    assert (document["status"], document["exit_code"], document["errors"]) == ("success", 0, [])


def test_the_data_of_each_command_has_exactly_its_keys(world):
    made = world.ok("create", "-o", "json").json
    assert list(made["data"]) == ["sessions"]
    assert list(made["data"]["sessions"][0]) == SESSION_KEYS
    assert list(world.ok("list", "-o", "json").json["data"]) == ["sessions"]
    planned = world.ok("sweep", "--dry-run", "-o", "json").json["data"]
    assert set(planned) == {"decisions", "outcomes", "summary", "scope", "errors"}
    assert list(planned["decisions"][0]) == DECISION_KEYS
    assert planned["outcomes"] == []
    assert set(planned["summary"].values()) == {0}
    closed = world.ok("close", made["data"]["sessions"][0]["id"], "--force", "-o", "json").json["data"]
    assert list(closed) == ["outcomes"]
    assert list(closed["outcomes"][0]) == OUTCOME_KEYS
    events = world.ok("history", "-o", "json").json["data"]["events"]
    assert {tuple(event) for event in events} == {tuple(EVENT_KEYS)}
    settings = world.ok("config", "show", "-o", "json").json["data"]["settings"]
    assert list(settings[0]) == ["key", "value", "source"]


@pytest.mark.parametrize(
    ("arguments", "config", "code", "command", "error"),
    [
        (["list", "-o", "json", "--nope"], None, 2, "list", "usage"),
        (["list", "--nope", "-ojson"], None, 2, "list", "usage"),
        (["nope", "-o", "json"], None, 2, "nope", "usage"),
        (["nope", "--output=json"], None, 2, "nope", "usage"),
        (["list", "--output", "json"], "broken", 2, "list", "config"),
        (["list", "-o", "json"], "zzz = 1", 2, "list", "config_key"),
        (["list", "-o", "json"], "owner = 1", 2, "list", "config_type"),
        (["create", "-o", "json", "--ttl", "5"], None, 2, "create", "usage"),
        (["create", "-o", "json", "--executable", "/nowhere"], None, 2, "create", "executable"),
        (["create", "-o", "json", "--executable", "/bin/false"], None, 1, "create", "browser_start"),
        (["create", "-o", "json", "--ttl", "999d"], None, 2, "create", "ttl_bounds"),
        (["create", "-o", "json", "-p", "nope"], None, 2, "create", "profile_unknown"),
        (["close", "-o", "json", "a b"], None, 2, "close", "id_invalid"),
        (["tag", "-o", "json"], None, 2, "tag", "unsupported"),
        (["config", "init", "-o", "json"], "", 2, "config init", "config"),
        (["config", "nope", "-o", "json"], None, 2, "config", "usage"),
        (["-o", "json"], None, 2, "", "usage"),
    ],
)  # fmt: skip
def test_a_failure_is_a_document_too_with_a_stable_code(world, arguments, config, code, command, error):
    if config is not None:
        world.config.write_text(config)
    ended = world.run(*arguments)
    assert ended.code == code, ended.err
    document = ended.json
    assert list(document) == ENVELOPE_KEYS
    assert (document["command"], document["status"], document["exit_code"]) == (command, "error", code)
    assert list(document["errors"][0]) == ERROR_KEYS
    assert document["errors"][0]["code"] == error
    assert ended.err.splitlines()[0] == f"bsess: {document['errors'][0]['message']}"


def test_a_damaged_ledger_is_a_document_too(world):
    world.state.mkdir(mode=0o700)
    (world.state / FILE).write_bytes(b"garbage" * 1000)
    ended = world.run("list", "-o", "json")
    assert (ended.code, ended.json["errors"][0]["code"]) == (1, "ledger_damaged")


def test_a_json_flag_after_two_dashes_asks_for_nothing(world):
    assert world.run("run", "--nope", "--", "x", "-o", "json").out == ""


def test_an_unknown_id_is_an_outcome_and_an_error(world):
    ended = world.run("close", "aaaaaaaaaaaaaaaa", "-o", "json")
    assert (ended.code, ended.json["status"]) == (1, "error")
    assert ended.outcomes[0]["outcome"] == "not_found"
    assert ended.json["errors"][0]["code"] == "not_found"
    assert ended.json["errors"][0]["session"] == "aaaaaaaaaaaaaaaa"
    assert world.run("close", "aaaaaaaaaaaaaaaa", "--ignore-not-found").code == 0


def test_some_done_and_some_not_is_partial(world):
    ended = world.run("close", world.create()["id"], "aaaaaaaaaaaaaaaa", "--force", "-o", "json")
    assert (ended.code, ended.json["status"]) == (3, "partial")
    assert sorted(row["outcome"] for row in ended.outcomes) == ["closed", "not_found"]


def test_jsonl_is_one_record_a_line(world):
    made = [json.loads(line) for line in world.ok("create", "--count", "2", "-o", "jsonl").lines]
    assert [list(line) for line in made] == [SESSION_KEYS] * 2
    listed = [json.loads(line) for line in world.ok("list", "-o", "jsonl").lines]
    assert {line["id"] for line in listed} == {line["id"] for line in made}
    events = [json.loads(line) for line in world.ok("history", "-o", "jsonl").lines]
    assert [list(line) for line in events] == [EVENT_KEYS] * 2
    closed = [json.loads(line) for line in world.ok("close", "--all", "--yes", "--force", "-o", "jsonl").lines]
    assert [list(line) for line in closed] == [OUTCOME_KEYS] * 2


def test_jsonl_of_nothing_is_nothing(world):
    for command in (["list"], ["sweep", "--yes"], ["close", "--all", "--yes"], ["history"]):
        assert world.ok(*command, "-o", "jsonl").out == ""


def test_the_codes_of_the_errors_are_stable():
    found = {
        name: (int(kind.exit_code), kind.default_code)
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, BsessError)
    }
    assert {
        "UsageError": (2, "usage"),
        "ConfigError": (2, "config"),
        "FailedError": (1, "failed"),
        "NotFoundError": (1, "not_found"),
        "LedgerError": (1, "ledger"),
        "BrowserError": (1, "browser"),
        "AuthError": (4, "auth"),
        "UnreachableError": (5, "unreachable"),
        "QuotaError": (6, "quota"),
        "LockedError": (75, "locked"),
    }.items() <= found.items()


def test_the_readmes_table_of_exit_codes_is_the_programs():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    told = {
        int(number)
        for row in re.findall(r"^\| *([0-9 ·,/]+) *\|", text, re.MULTILINE)
        for number in re.findall("[0-9]+", row)
    }
    assert told == {int(code) for code in ExitCode}


@pytest.mark.parametrize("arguments", [["list"], ["list", "-o", "json"]])
def test_a_bug_is_a_line_with_where_to_report_it(monkeypatch, capsys, arguments):
    def fail(*_):
        raise ZeroDivisionError("on the moon")

    monkeypatch.setattr(cli, "main", fail)
    assert boundary.run(arguments) == 70
    told = capsys.readouterr()
    first, second = told.err.splitlines()
    assert first == "bsess: this is a bug in bsess: ZeroDivisionError: on the moon"
    assert "report it at" in second
    assert not told.out or json.loads(told.out)["errors"][0]["code"] == "bug"


def test_a_bug_shows_its_traceback_only_with_debug(monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "main", fail)
    with pytest.raises(ZeroDivisionError):
        boundary.run(["list", "--debug"])


# Secrets


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "command", [["list"], ["history"], ["sweep", "--dry-run"], ["close", "--all", "--dry-run"], ["config", "show"]]
)
def test_the_connect_url_is_masked_wherever_it_was_not_asked_for(shared, command, form):
    ended = shared.run(*command, "-o", form)
    name = " ".join(word for word in command if not word.startswith("-"))
    assert ended.code == (0 if tells(Format(form), name) else 2)
    assert shared.url.rpartition("/")[2] not in ended.out + ended.err


def test_a_masked_url_still_says_where_it_leads(shared):
    port = shared.url.split("/")[2]
    assert shared.ok("list", "-o", "json").sessions[0]["connect_url"] == f"ws://{port}/***"
    assert shared.ok("list", "-o", "url").out == f"ws://{port}/***\n"


def test_show_secrets_shows_the_connect_url(shared):
    assert shared.ok("list", "-o", "json", "--show-secrets").sessions[0]["connect_url"] == shared.url
    assert shared.ok("list", "-o", "url", "--show-secrets").lines == [shared.url]
    assert shared.url not in shared.ok("list", "--show-secrets").out


@pytest.mark.parametrize("form", ["url", "env", "json"])
def test_create_tells_the_connect_url_where_that_was_asked_for(world, form):
    out = world.ok("create", "-o", form).out
    assert re.search(r"ws://127\.0\.0\.1:[0-9]+/devtools/browser/[0-9a-f-]{36}", out)
    world.ok("close", "--all", "--yes", "--force")


@pytest.mark.parametrize("form", ["table", "tsv", "jsonl", "name"])
def test_create_masks_the_connect_url_elsewhere(world, form):
    ended = world.ok("create", "-o", form)
    assert "/devtools/" not in ended.out + ended.err
    world.ok("close", "--all", "--yes", "--force")


def test_the_connect_url_is_in_no_processs_arguments(shared):
    secret = shared.url.rpartition("/")[2]
    assert not [line for _, line in shared.processes() if secret in line]


# Text for shells and terminals


def test_the_output_of_create_env_is_for_eval_in_sh(world):
    script = (
        f'eval "$({shlex.join(world.program)} create -q -o env)"; '
        'echo "$BSESS_SESSION_ID $BSESS_PROVIDER $BSESS_PROFILE"; '
        "sh -c 'echo \"$BSESS_CONNECT_URL\"'"
    )
    done = subprocess.run(["sh", "-euc", script], env=world.env, capture_output=True, text=True, check=True, timeout=60)
    names, url = done.stdout.splitlines()
    assert names == f"{world.folders()[0]} local local"
    assert url.startswith("ws://127.0.0.1:")
    world.ok("close", "--all", "--yes", "--force")


@pytest.mark.parametrize("name", ["a'b", "$(touch x)", "`touch x`", 'a"b', "a b; touch x", "\\", "!x", "-n", "äö"])
def test_the_values_of_env_are_quoted(name):
    from bsess.model import Result, Session
    from bsess.output import Format, Renderer

    out = io.StringIO()
    renderer = Renderer(Format.ENV, stream=out, environment={}, now=time.time, show_secrets=True)
    renderer.render(Result("create", sessions=(Session(name, name, name, "running", mine=True, connect_url=name),)))
    script = (
        out.getvalue() + 'printf "%s\\n" "$BSESS_SESSION_ID" "$BSESS_CONNECT_URL" "$BSESS_PROVIDER" "$BSESS_PROFILE"'
    )
    done = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, check=True, timeout=10, cwd="/")
    assert done.stdout.splitlines() == [name] * 4


HOSTILE = "\x1b[31mred\x07\u202egnp.exe\u2066\u200b\r\n\x9b[bold]x[/bold]\u2028"


@pytest.fixture
def hostile(world):
    """A world whose one session carries text that would steer a terminal, written past bsess into its marker."""
    made = world.create()
    path = world.state / "local" / made["id"] / "session.json"
    marker = json.loads(path.read_text())
    path.write_text(json.dumps({**marker, "labels": {"note": HOSTILE, HOSTILE: "x"}, "run": HOSTILE, "owner": HOSTILE}))
    for row in world.state.glob(f"{FILE}*"):
        row.unlink()
    return world


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "tsv", "name"])
def test_what_others_wrote_never_steers_a_terminal(hostile, form):
    out = b""
    for command in (["list"], ["sweep", "--dry-run"], ["close", "-", "--dry-run"]):
        with hostile.start(*command, "-o", form, stdin=subprocess.PIPE, text=False) as process:
            told, err = process.communicate(f"{hostile.folders()[0]}\n".encode(), timeout=30)
        out += told + err
    text = out.decode()
    assert not set(text) & set("\x1b\x07\u202e\u2066\u200b\r\x9b\u2028")
    assert form == "name" or "[bold]x[/bold]" in text
    if form == "json":
        return
    assert all(line.count("red") <= 4 for line in text.splitlines())


# A real terminal


class Terminal:
    """A tmux of its own server with one window in which bsess runs."""

    def __init__(self, world, columns, rows=40):
        self.world = world
        self.socket = f"bsess-test-{uuid.uuid4().hex[:12]}"
        variables = [f"{key}={value}" for key, value in {**world.env, "TERM": "screen-256color"}.items()]
        self._tmux(
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            str(columns),
            "-y",
            str(rows),
            "env",
            "-i",
            *variables,
            "PS1=% ",
            "sh",
        )

    def _tmux(self, *arguments):
        command = ["tmux", "-L", self.socket, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout

    def type(self, text):
        self._tmux("send-keys", "-l", text)
        self._tmux("send-keys", "Enter")

    def key(self, name):
        self._tmux("send-keys", name)

    def screen(self):
        return self._tmux("capture-pane", "-p", "-S", "-")

    def run(self, *arguments):
        """Run bsess; its exit code is shown once it has ended."""
        self.type(f"{shlex.join([*self.world.program, *arguments])}; echo code=$?.")

    def see(self, text, seconds=20):
        assert wait_for(lambda: text in self.screen(), seconds), self.screen()
        return self.screen()

    def end(self):
        with contextlib.suppress(subprocess.CalledProcessError):
            self._tmux("kill-server")


@pytest.fixture
def terminal(world):
    opened = []

    def open_it(columns=80):
        opened.append(Terminal(world, columns))
        return opened[-1]

    yield open_it
    for item in opened:
        item.end()


def test_a_listing_on_a_terminal_is_a_table_with_whole_ids(world, terminal):
    ids = [
        world.create("--label", "job=a-rather-long-value-of-a-label", "--label", "team=crawlers")["id"]
        for _ in range(2)
    ]
    for columns in (80, 200):
        screen = terminal(columns)
        screen.run("list")
        shown = screen.see("code=0.")
        assert re.search(r"ID +PROFILE +STATUS", shown)
        assert "\t" not in shown
        for session_id in ids:
            assert [line for line in shown.splitlines() if line.strip().startswith(session_id)], shown
        assert all(len(line) <= columns for line in shown.splitlines())


def test_a_declined_question_ends_nothing_and_a_yes_ends_it(world, terminal):
    made = world.create()
    screen = terminal()
    screen.run("close", "--all", "--force")
    assert made["id"] in screen.see("[y/N]")
    screen.type("n")
    screen.see("code=1.")
    assert world.folders() == [made["id"]]
    screen = terminal()
    screen.run("close", "--all", "--force")
    screen.see("[y/N]")
    screen.type("y")
    assert "closed" in screen.see("code=0.")
    world.assert_nothing_left()


def test_a_sweep_asks_with_the_plan_and_its_reasons(world, terminal):
    with subprocess.Popen(["sleep", "60"]) as owner:
        made = world.create("--owner-pid", str(owner.pid))
        owner.kill()
    screen = terminal(120)
    screen.run("sweep")
    shown = screen.see("[y/N]")
    assert made["id"] in shown
    assert "owner" in shown
    screen.type("")
    screen.see("code=1.")
    assert world.folders() == [made["id"]]
    screen = terminal(120)
    screen.run("sweep")
    screen.see("[y/N]")
    screen.type("yes")
    screen.see("code=0.")
    world.assert_nothing_left()


def test_ctrl_c_at_the_question_is_130_and_ends_nothing(world, terminal):
    made = world.create()
    screen = terminal()
    screen.run("close", "--all", "--force")
    screen.see("[y/N]")
    screen.key("C-c")
    assert "Traceback" not in screen.see("code=130.")
    assert world.folders() == [made["id"]]
    world.ok("close", "--all", "--yes", "--force")


def test_watch_shows_changes_until_ctrl_c(world, terminal):
    screen = terminal()
    screen.run("list", "--watch")
    screen.see("0 sessions")
    made = world.create()
    screen.see(made["id"])
    world.ok("close", made["id"], "--force")
    assert wait_for(lambda: "0 sessions" in screen._tmux("capture-pane", "-p"), 10)
    screen.key("C-c")
    assert "Traceback" not in screen.see("code=130.")


def test_watch_off_a_terminal_is_a_usage_error(world):
    ended = world.run("list", "--watch")
    assert (ended.code, ended.out) == (2, "")
    assert "--watch" in ended.err
    assert len(ended.err.splitlines()) <= 2


def test_a_dumb_terminal_gets_no_escapes(world):
    for variables, escapes in (({"TERM": "dumb"}, False), ({"TERM": "xterm-256color"}, True)):
        main, side = pty.openpty()
        world.run("config", "show", env=variables, stdout=side)
        os.close(side)
        out = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(main, 65536):
                out += chunk
        os.close(main)
        assert (b"\x1b" in out) is escapes
        assert b"KEY" in out


@pytest.mark.parametrize(
    ("count", "typed", "agreed"),
    [
        (1, "y", True),
        (20, "yes", True),
        (20, "20", False),
        (21, "y", False),
        (21, "yes", False),
        (21, "20", False),
        (21, "21", True),
        (1, "", False),
    ],
)
def test_more_than_twenty_are_confirmed_by_typing_their_number(monkeypatch, count, typed, agreed):
    main, side = pty.openpty()
    decisions = [Decision(f"id-{number}", "local", "local", end=True, reason="mine") for number in range(count)]
    decisions.append(Decision("spared", "local", "local", end=False, reason="protected"))
    with os.fdopen(side, "r+b", buffering=0) as raw:
        stream = io.TextIOWrapper(raw, write_through=True)
        monkeypatch.setattr("sys.stdin", stream)
        monkeypatch.setattr("sys.stderr", open(side, "w", closefd=False))  # noqa: SIM115
        os.write(main, typed.encode() + b"\n")
        assert Invocation({"TERM": "dumb"})._confirm(decisions) is agreed
        monkeypatch.undo()
    # All of it was written, and the side is closed: what is there is read to its end, which Linux tells as EIO.
    asked = ""
    with contextlib.suppress(OSError):
        while chunk := os.read(main, 65536):
            asked += chunk.decode()
    os.close(main)
    assert ("Type 21 to end them" in asked) is (count == 21)


def test_yes_answers_every_question():
    many = [Decision(f"id-{number}", "local", "local", end=True, reason="mine") for number in range(100)]
    assert Invocation({}, flags=Flags(yes=True))._confirm(many)


def test_without_a_terminal_nobody_can_confirm(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError):
        Invocation({})._confirm([Decision("id", "local", "local", end=True, reason="mine")])


@pytest.mark.parametrize(
    "command", [["close", "--all"], ["close", "--label", "job=1"], ["sweep", "--older-than", "1s", "--min-age", "0s"]]
)
def test_off_a_terminal_without_yes_nothing_is_ended(world, command):
    made = world.create("--label", "job=1")
    assert wait_for(lambda: world.ok("list", "--older-than", "1s").out, 5)
    ended = world.run(*command)
    assert (ended.code, ended.out) == (2, "")
    assert "--yes" in ended.err
    assert len(ended.err.splitlines()) == 2
    assert world.folders() == [made["id"]]
    assert world.ok(*command, "--dry-run", "-o", "json").json["data"]["outcomes"] == []
    assert world.folders() == [made["id"]]
    world.ok(*command, "--yes")
    world.assert_nothing_left()


@pytest.mark.parametrize(
    "command", [["close", "--all"], ["close", "--label", "a=b"], ["close", "--run-id", "r"], ["sweep"]]
)
def test_off_a_terminal_without_yes_nothing_to_end_is_success(world, command):
    assert world.ok(*command).out == ""


def test_no_short_column_is_broken_beside_a_long_id(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    row = (
        "4ec2b3b3-5f97-4752-beb7-ff1f53862f46",
        "bb",
        "running",
        "1h06m",
        "13m17s",
        "unknown",
        "job=42,team=crawlers",
    )
    headers = ("ID", "PROFILE", "STATUS", "AGE", "ENDS IN", "OWNER", "LABELS")
    stream = io.StringIO()
    rich_table.show([grid.Grid(headers, (row,))], stream, colour=False)
    text = stream.getvalue()
    assert all(word in text for word in (*row[:6], *headers[:6]))
    assert max(map(len, text.splitlines())) <= 80
