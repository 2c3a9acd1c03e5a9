"""`-o github`: what the runner of a job does with it; what others wrote is no command, no markup and no variable."""

from __future__ import annotations

import html.parser
import json
import re
import signal
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from bsess.output import github
from fake_browserbase import API_KEY, SIGNING
from worlds import wait_for, write_config

# The names that the runner obeys, and those that only a hostile text would bring.
COMMANDS = {"add-mask", "add-path", "debug", "error", "group", "notice", "set-env", "set-output", "stop-commands"}
COMMANDS |= {"warning", "endgroup", "save-state", "add-matcher", "remove-matcher", "echo"}
HOSTILE = (
    "::error::x",
    "##[add-mask]x",
    "\n::stop-commands::pause\n",
    "\r\n##[stop-commands]pause",
    "%0A::add-mask::x",
    "a|b\\|c\\",
    "<script>alert(1)</script>",
    "</code></details><img src=x>",
    "`code` ``` \n```\n# head",
    "*b* _i_ ~~s~~ [a](http://x.example) ![i](http://x.example/i.png) <http://x.example>",
    "www.x.example http://x.example a@x.example @someone #1 :smile: $x^2$ &lt; &#124;",
    "\u202egnp.exe\u2066\u200b\u2028x\x1b[31m",
)
LOUD = " ".join(HOSTILE)
BIDI = set("\u202e\u2066\u200b\u2028\x1b\r")


def commands(out):
    """Return (name, properties, data) of every line that the runner would obey, by its two grammars."""
    found = []
    for line in out.splitlines():
        match = re.match(r"\s*::([^\s:]+)(?: (.*?))?::(.*)", line) or re.search(r"##\[(\S+)(?: (.*?))?\](.*)", line)
        if match and match[1].lower() in COMMANDS:
            pairs = [pair.split("=", 1) for pair in (match[2] or "").split(",") if pair]
            properties = {key: plain(value).replace("%3A", ":").replace("%2C", ",") for key, value in pairs}
            found.append((match[1], properties, plain(match[3])))
    return found


def plain(data):
    return data.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")


def annotations(out, level="error"):
    return [data for name, _, data in commands(out) if name == level]


def variables(text):
    """Return what the runner reads from a file of variables; it fails on what it does not understand."""
    found, lines = {}, iter(text.split("\n"))
    for line in lines:
        if not line:
            continue
        name, heredoc, delimiter = line.partition("<<")
        if "=" in name or not heredoc:
            name, _, found[name] = line.partition("=")
            continue
        value = []
        while (line := next(lines)) != delimiter:
            value.append(line)
        found[name] = "\n".join(value)
    return found


class Page(html.parser.HTMLParser):
    """A summary as a browser would have it: its tags, and its tables as rows of texts."""

    def __init__(self, markdown):
        super().__init__()
        self.tags, self.tables, self.text, self._cell = set(), [], "", None
        self.feed(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown))

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append(self._cell)
            self._cell = None

    def handle_data(self, data):
        self.text += data
        if self._cell is not None:
            self._cell += data


TAGS = {"h3", "p", "table", "thead", "tbody", "tr", "th", "td", "code", "details", "summary"}


@pytest.fixture
def job(world, base):
    """A step of a job whose account has an orphan, a protected session and a foreign one."""
    world.variables |= {"BROWSERBASE_API_KEY": API_KEY, "BSESS_OWNER": "me", "GITHUB_ACTIONS": "true"}
    write_config(world, f'default = "bb"\n[profiles.bb]\nprovider = "browserbase"\nurl = "{base.url}"\n')
    world.steps, world.summary = world.folder / "env", world.folder / "summary"
    for path in (world.steps, world.summary):
        path.touch()
    world.variables |= {"GITHUB_ENV": str(world.steps), "GITHUB_STEP_SUMMARY": str(world.summary)}
    world.orphan = base.put(metadata={"bsess_owner": "me"}, age=7200, ttl=21_600)
    world.kept = base.put(metadata={"bsess_owner": "me", "keep": ""}, age=7200, ttl=21_600)
    world.foreign = base.put(metadata={"bsess_owner": "she"}, age=7200, ttl=21_600)
    return world


OLD = ["--older-than", "1h"]


# Later steps


def test_the_steps_that_follow_get_the_session(job, base):
    ended = job.ok("create", "-o", "github")
    found = variables(job.steps.read_text())
    made = found["BSESS_SESSION_ID"]
    assert made in base.running()
    assert found == {
        "BSESS_SESSION_ID": made,
        "BSESS_CONNECT_URL": f"wss://connect.usw2.browserbase.com/?signingKey={SIGNING}-{made}",
        "BSESS_PROVIDER": "browserbase",
        "BSESS_PROFILE": "bb",
    }
    assert made in ended.err


def test_the_connect_url_and_its_secret_are_masked_and_nothing_else_shows_them(job):
    ended = job.ok("create", "-o", "github", "-v", "--label", "job=42")
    found = variables(job.steps.read_text())
    masks = annotations(ended.out, "add-mask")
    assert found["BSESS_CONNECT_URL"] in masks
    assert f"{SIGNING}-{found['BSESS_SESSION_ID']}" in masks
    assert found["BSESS_SESSION_ID"] not in masks
    assert commands(ended.out)[: len(masks)] == [("add-mask", {}, mask) for mask in masks]
    rest = "\n".join(line for line in ended.lines if not line.startswith("::add-mask::"))
    for text in (rest, ended.err, job.summary.read_text()):
        assert SIGNING not in text
        assert API_KEY not in text
    assert API_KEY not in ended.out + job.steps.read_text()


def test_a_session_id_in_the_connect_url_stays_readable(job, base):
    def secrets(name):
        url = f"wss://connect.usw2.browserbase.com/?signingKey={SIGNING}&sessionId={name}"
        return {"connectUrl": url, "seleniumRemoteUrl": url, "signingKey": SIGNING}

    base._secrets = secrets
    masks = annotations(job.ok("create", "-o", "github").out, "add-mask")
    assert SIGNING in masks
    assert variables(job.steps.read_text())["BSESS_SESSION_ID"] not in masks


@pytest.mark.parametrize("value", ["", "false", "1"])
def test_outside_a_workflow_nothing_is_masked_for_the_mask_would_show_it(job, value):
    ended = job.ok("create", "-o", "github", env={"GITHUB_ACTIONS": value})
    assert "add-mask" not in ended.out
    assert SIGNING not in ended.out + ended.err
    assert SIGNING in job.steps.read_text()


def test_masks_do_not_hide_common_words(world):
    world.variables |= {"GITHUB_ENV": str(world.folder / "env"), "GITHUB_ACTIONS": "true"}
    masks = annotations(world.ok("create", "-o", "github").out, "add-mask")
    assert not {"devtools", "browser", "devtools/browser", "", "local"} & set(masks)
    assert any(re.fullmatch(r"[0-9a-f-]{36}", mask) for mask in masks)
    world.ok("close", "--all", "--yes", "--force")


def test_only_create_tells_later_steps_and_shows_no_secret_though_asked(job):
    job.ok("create", "-o", "name")
    ended = job.ok("list", "-o", "github", "--show-secrets")
    assert job.steps.read_text() == ""
    assert SIGNING not in ended.out + ended.err + job.summary.read_text()


def test_a_delimiter_is_of_one_value_alone(job):
    for _ in range(2):
        job.ok("create", "-o", "github")
    found = re.findall(r"^BSESS_\w+<<(.*)$", job.steps.read_text(), re.MULTILINE)
    assert len(found) == len(set(found)) == 8
    assert all(len(delimiter) >= 32 for delimiter in found)


@pytest.mark.parametrize("before", ["A=1", "A=1\n", "A<<x\n1\nx\n"])
def test_what_other_commands_left_stays_and_is_understood(job, before):
    job.steps.write_text(before)
    job.summary.write_text("said before")
    job.ok("create", "-o", "github")
    found = variables(job.steps.read_text())
    assert found.pop("A") == "1"
    assert len(found) == 4
    assert job.steps.read_text().startswith(before)
    assert job.summary.read_text().startswith("said before\n\n### bsess create\n")


def test_an_answer_that_would_set_a_variable_sets_none(job, base):
    url = f"wss://connect.usw2.browserbase.com/?signingKey={SIGNING}\nEVIL=1\r\n::error::x\nBSESS_PROFILE<<x"

    def answer(names, query, body):
        made = base.put(metadata=body["userMetadata"])
        return 201, {**base.sessions[made], **base._secrets(made), "connectUrl": url}

    base._Sessions_create = answer
    ended = job.ok("create", "-o", "github")
    found = variables(job.steps.read_text())
    assert set(found) == {"BSESS_SESSION_ID", "BSESS_CONNECT_URL", "BSESS_PROVIDER", "BSESS_PROFILE"}
    assert found["BSESS_PROFILE"] == "bb"
    assert found["BSESS_CONNECT_URL"] == re.sub(r"[\r\n]", "", url)
    assert {name for name, _, _ in commands(ended.out)} == {"add-mask"}


@pytest.mark.parametrize("secret", ["Z2VoZWltNDcxMQ==", "onlysmallletters"])
def test_a_secret_is_masked_alone_too_whatever_it_looks_like(job, base, secret):
    url = f"wss://connect.usw2.browserbase.com/chromium?signingKey={secret}&x=1"
    base._secrets = lambda name: {"connectUrl": url, "seleniumRemoteUrl": url, "signingKey": secret}
    masks = annotations(job.ok("create", "-o", "github").out, "add-mask")
    assert "chromium" not in masks
    assert secret in masks


def test_where_no_step_can_be_told_nothing_is_made(job, base):
    for unset in ({"GITHUB_ENV": ""}, {"GITHUB_ENV": "", "BSESS_OUTPUT": "github"}):
        ended = job.run("create", *([] if "BSESS_OUTPUT" in unset else ["-o", "github"]), env=unset)
        (said,) = annotations(ended.out)
        assert ended.code == 2
        assert "GITHUB_ENV" in said
        assert "-o env" in said
    assert base.asked("POST") == []


@pytest.mark.parametrize("path", ["/", "/no/such/folder/env"])
def test_where_the_variables_cannot_be_written_nothing_is_made(job, base, path):
    ended = job.run("create", "-o", "github", env={"GITHUB_ENV": path})
    assert ended.code == 1
    assert "GITHUB_ENV" in annotations(ended.out)[0]
    assert base.asked("POST") == []


def test_what_no_step_could_be_told_of_is_closed_again(job, base):
    before = base.running()
    ended = job.run("create", "-o", "github", env={"GITHUB_ENV": "/dev/full"})
    (said,) = annotations(ended.out)
    assert ended.code == 1
    assert "GITHUB_ENV" in said
    assert "closed again" in said
    assert base.running() == before
    assert job.rows() == []


def test_where_standard_output_takes_nothing_the_error_is_on_standard_error(job, base):
    before = base.running()
    with Path("/dev/full").open("w") as full:
        ended = job.run("create", "-o", "github", stdout=full)
    assert ended.code == 1
    assert "standard output" in ended.err
    assert base.running() == before
    assert job.steps.read_text() == ""


@pytest.mark.parametrize("form", ["env", "github"])
def test_many_sessions_are_refused_before_one_is_made(job, base, form):
    ended = job.run("create", "--count", "2", "-o", form)
    assert ended.code == 2
    assert f"-o {form} takes one session" in ended.out + ended.err
    assert base.requests == []


# Annotations


def test_an_error_is_one_annotation_and_not_on_standard_error_too(job):
    ended = job.run("close", "5a1b0cc4-5f0a-4a2e-8f2e-3f1f2f1f0a11", "-o", "github")
    assert ended.code == 1
    ((name, properties, data),) = commands(ended.out)
    assert (name, properties) == ("error", {"title": "bsess close: not_found"})
    assert ended.out.startswith("::error title=bsess close%3A not_found::")
    assert data.startswith("5a1b0cc4-5f0a-4a2e-8f2e-3f1f2f1f0a11: ")
    assert "bsess list" in data
    assert "5a1b0cc4" not in ended.err


@pytest.mark.parametrize(
    ("arguments", "config", "code", "title"),
    [
        (["list", "-o", "github"], "broken", 2, "list: config"),
        (["sweep", "--yes", "-ogithub"], "zzz = 1", 2, "sweep: config_key"),
        (["close", "x y", "--output=github"], None, 2, "close: id_invalid"),
        (["list", "--nope", "-o", "github"], None, 2, "list: usage"),
        (["create", "-o", "github", "-p", "nope"], None, 2, "create: profile_unknown"),
        (["create", "-o", "github", "--ttl", "5"], None, 2, "create: usage"),
        (["sweep", *OLD, "-o", "github"], None, 2, "sweep: confirmation"),
    ],
)
def test_an_error_before_or_in_a_command_is_an_annotation_and_keeps_its_code(job, arguments, config, code, title):
    if config is not None:
        job.config.write_text(config)
    ended = job.run(*arguments)
    assert (ended.code, ended.err) == (code, "")
    ((name, properties, _),) = commands(ended.out)
    assert (name, properties["title"]) == ("error", f"bsess {title}")
    assert job.summary.read_text() == ""


def test_over_the_limit_there_is_an_error_and_what_would_end(job):
    ended = job.run("sweep", *OLD, "--yes", "--max-close", "0", "-o", "github")
    assert ended.code == 7
    ((name, properties, _),) = commands(ended.out)
    assert (name, properties["title"]) == ("error", "bsess sweep: max_close")
    assert ended.err.endswith("would end 1, spare 2\n")
    assert "one session would end" in job.summary.read_text()


def test_the_format_of_the_environment_counts_also_for_errors(job):
    ended = job.run("list", "--nope", env={"BSESS_OUTPUT": "github"})
    assert (ended.code, ended.err, len(annotations(ended.out))) == (2, "", 1)


@pytest.mark.parametrize("arguments", [["run", "--ttl", "5", "--", "true"], ["completion", "nope"]])
def test_what_has_no_format_keeps_its_errors_on_standard_error(job, arguments):
    ended = job.run(*arguments, env={"BSESS_OUTPUT": "github"})
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("bsess: ")


def test_a_title_cannot_bring_another_property():
    line = github.annotation("error", "list", "100%\r\n,:", code="a,file=b::c%0A")
    assert line == "::error title=bsess list%3A a%2Cfile=b%3A%3Ac%250A::100%25,:"
    assert commands(line) == [("error", {"title": "bsess list: a,file=b::c%0A"}, "100%,:")]


def test_a_typed_secret_is_in_no_annotation(job):
    ended = job.run("wss://x.example/?token=geheim4711", "-o", "github")
    assert ended.code == 2
    assert "geheim4711" not in ended.out + ended.err


def test_a_profile_that_cannot_be_listed_is_an_annotation_and_partial(job):
    with job.config.open("a") as file:
        file.write('[profiles.gone]\nprovider = "browserbase"\nurl = "http://127.0.0.1:9"\n')
    ended = job.run("list", "-o", "github", "--timeout", "1s", "--deadline", "3s")
    assert ended.code == 3
    assert "gone" in annotations(ended.out)[0]
    assert any("gone" in row[0] for table in Page(job.summary.read_text()).tables for row in table)


def test_a_session_that_does_not_end_is_an_annotation_and_in_the_table(job, base):
    base.misbehave["Sessions_update"] = 400
    ended = job.run("sweep", *OLD, "--yes", "-o", "github")
    assert ended.code == 1
    assert len(annotations(ended.out)) == 1
    assert [job.orphan, "bb", "failed"] in [row[:3] for row in Page(job.summary.read_text()).tables[0]]


def test_a_warning_is_an_annotation(job):
    (job.folder / "token").write_text(API_KEY)
    (job.folder / "token").chmod(0o644)
    text = job.config.read_text().replace("[profiles.bb]\n", f'[profiles.bb]\ntoken_file = "{job.folder}/token"\n')
    job.config.write_text(text)
    ended = job.ok("list", "-o", "github", env={"BROWSERBASE_API_KEY": ""})
    assert len(annotations(ended.out, "warning")) == 1
    assert "warning" not in ended.err


def test_a_spared_session_is_no_annotation(job):
    ended = job.ok("sweep", *OLD, "--yes", "-o", "github")
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("command", [["list"], ["sweep", *OLD, "--yes"], ["close", "aaaaaaaaaaaaaaaa"]])
def test_quiet_changes_no_annotation_and_no_summary(job, command):
    job.run("sweep", *OLD, "--yes", "-q")
    loud = job.run(*command, "-o", "github")
    said = job.summary.read_text()
    job.summary.write_text("")
    quiet = job.run(*command, "-o", "github", "-q")
    assert (quiet.out, quiet.err) == (loud.out, "")
    assert [row[0] for row in Page(said).tables[0]] == [row[0] for row in Page(job.summary.read_text()).tables[0]]


def test_never_automatic(job):
    ended = job.ok("sweep", *OLD, "--yes")
    assert "::" not in ended.out + ended.err
    assert job.summary.read_text() + job.steps.read_text() == ""


def test_a_signal_is_an_annotation(job, base):
    base.latency = 5
    process = job.start("create", "-o", "github")
    assert wait_for(lambda: job.state.exists() and (job.state / "ledger.sqlite3").exists() and job.rows(), 10)
    process.send_signal(signal.SIGTERM)
    base.latency = 0
    out, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert annotations(out) == ["stopped by SIGTERM"]
    assert (err, job.steps.read_text()) == ("", "")


# The summary


def test_a_sweep_is_summed_up(job):
    job.ok("sweep", *OLD, "--yes", "-o", "github")
    page = Page(job.summary.read_text())
    assert page.tags <= TAGS
    assert "one session: 1 closed; 2 spared" in page.text
    ended, spared = page.tables
    assert ended[1] == [job.orphan, "bb", "closed", "older than 1h00m"]
    assert {row[0] for row in spared[1:]} == {job.kept, job.foreign}
    assert all(row[3] for row in spared[1:])
    assert job.summary.read_text().index(job.orphan) < job.summary.read_text().index("<details>")


def test_a_dry_run_is_summed_up_as_one(job, base):
    job.ok("sweep", *OLD, "--dry-run", "-o", "github")
    page = Page(job.summary.read_text())
    assert "one session would end; 2 spared" in page.text
    assert page.tables[0][1][:3] == [job.orphan, "bb", "end"]
    assert len(base.running()) == 3


def test_list_create_and_close_are_summed_up_one_below_the_other(job):
    job.ok("list", "-o", "github")
    job.ok("create", "-o", "github")
    made = variables(job.steps.read_text())["BSESS_SESSION_ID"]
    job.ok("close", made, "--wait", "-o", "github")
    page = Page(job.summary.read_text())
    listed, created, closed = page.tables
    assert {row[0] for row in listed[1:]} == {job.orphan, job.kept, job.foreign}
    assert created[1][0] == made
    assert closed[1][:3] == [made, "bb", "closed"]
    assert re.findall("bsess (create|list|close)", page.text) == ["list", "create", "close"]


def test_of_nothing_the_summary_says_so(world):
    path = world.folder / "summary"
    for command in (["list"], ["close", "--all", "--yes"], ["sweep", "--yes"]):
        world.ok(*command, "-o", "github", env={"GITHUB_STEP_SUMMARY": str(path)})
    text = Page(path.read_text()).text
    assert "no sessions" in text
    assert text.count("nothing to end") == 2


@pytest.mark.parametrize("path", ["/", "/no/such/folder/summary", "/dev/full"])
def test_a_summary_that_cannot_be_written_is_a_warning_and_changes_nothing(job, base, path):
    ended = job.ok("sweep", *OLD, "--yes", "-o", "github", env={"GITHUB_STEP_SUMMARY": path})
    (said,) = annotations(ended.out, "warning")
    assert "GITHUB_STEP_SUMMARY" in said
    assert job.orphan not in base.running()
    job.ok("create", "-o", "github", env={"GITHUB_STEP_SUMMARY": path})
    assert variables(job.steps.read_text())["BSESS_SESSION_ID"] in base.running()


def test_without_a_summary_there_is_none_and_no_word_of_it(job):
    assert job.ok("list", "-o", "github", env={"GITHUB_STEP_SUMMARY": ""}).out == ""


def test_a_summary_that_would_be_too_long_for_github_is_cut_and_says_so(job, base):
    metadata = {"bsess_owner": "me", **{f"label{number}": "<" * 200 for number in range(10)}}
    for _ in range(200):
        base.put(metadata=metadata)
    for _ in range(2):
        job.ok("list", "-o", "github")
    assert 900_000 < job.summary.stat().st_size <= 1024 * 1024
    page = Page(job.summary.read_text())
    (first, cut) = (
        [table for table in page.tables if table[0][0] == "ID"][:2],
        re.findall(r"(\d+) more of 203", page.text),
    )
    assert cut
    assert len(first[0]) - 1 + int(cut[0]) == 203


def test_a_full_summary_is_a_warning(job):
    job.summary.write_text("x" * 1024 * 1024)
    (said,) = annotations(job.ok("list", "-o", "github").out, "warning")
    assert "full" in said
    assert job.summary.stat().st_size == 1024 * 1024


# What others wrote


@pytest.fixture
def loud(job, base):
    """A job whose account is full of what others wrote to be read as something else."""
    for number, text in enumerate((*HOSTILE, LOUD)):
        labels = {f"note{number}": text, text: "x"}
        base.put(metadata={"bsess_owner": "me", "bsess_run": text, **labels}, age=7200, ttl=21_600)
        base.put(metadata={"bsess_owner": text, "bsess_run": text, **labels}, age=7200, ttl=21_600)
        base.put(metadata={"bsess_owner": "me", "keep-until": text, **labels}, age=7200, ttl=21_600)
    return job


@pytest.mark.parametrize(
    "command", [["list"], ["sweep", *OLD, "--dry-run"], ["sweep", *OLD, "--yes"], ["close", "--all", "--yes"]]
)
def test_what_others_wrote_is_no_command_and_no_markup(loud, command):
    ended = loud.run(*command, "-o", "github", "-v")
    assert ended.code in (0, 1, 3), ended.out
    assert {name for name, _, _ in commands(ended.out)} <= {"error"}
    assert commands(ended.err) == []
    text = loud.summary.read_text()
    page = Page(text)
    assert page.tags <= TAGS
    assert commands(text) == []
    assert not set(ended.out + ended.err + text) & BIDI
    assert all(len(row) == len(table[0]) for table in page.tables for row in table)
    # Nothing for GitHub to make a link or a mention of, also once entities are read.
    assert not re.search(r"https?://|www\.|@|&#64;(?!<!-- -->)", text)


def test_what_others_wrote_is_read_as_they_wrote_it(loud):
    loud.ok("list", "-o", "github")
    listed = Page(loud.summary.read_text()).tables[0]
    cells = "\n".join(" ".join(row) for row in listed)
    for text in ("a|b\\|c\\", "<script>alert(1)</script>", "%0A::add-mask::x", "&lt; &#124;", "a@x.example @someone"):
        assert text in cells


@pytest.mark.parametrize("text", [*HOSTILE, LOUD])
def test_what_a_provider_answers_is_no_command(job, base, text):
    def fail(handler):
        base._fail(handler, 400, text)

    base.misbehave |= {"Sessions_update": fail, "Sessions_create": fail}
    for command in (["close", job.orphan], ["sweep", *OLD, "--yes"], ["create"]):
        ended = job.run(*command, "-o", "github")
        assert ended.code == 1
        assert [name for name, _, _ in commands(ended.out)] == ["error"]
        assert len(ended.lines) == 1
        assert "##[" not in ended.out + ended.err
        assert commands(ended.err) == []
    assert Page(job.summary.read_text()).tags <= TAGS


def test_a_percent_sign_stays_one(job, base):
    base.misbehave["Sessions_create"] = lambda handler: base._fail(handler, 400, "100%0A is 100%25")
    (said,) = annotations(job.run("create", "-o", "github").out)
    assert "100%0A is 100%25" in said


def test_a_status_of_others_is_no_markup(job, base):
    base.put(status="<b>|`x`", metadata={"bsess_owner": "me"})
    job.ok("list", "--status", "all", "-o", "github")
    page = Page(job.summary.read_text())
    assert page.tags <= TAGS
    assert "<b>|`x`" in [row[2] for row in page.tables[0]]
    assert all(len(row) == len(table[0]) for table in page.tables for row in table)


def test_a_document_of_others_is_the_same_and_no_command(job, base):
    def answer(names, query, body):
        return 200, [{"method": "##[add-mask]x", "pageId": 1, "sessionId": job.orphan}]

    base._Sessions_getLogs = answer
    ended = job.ok("logs", job.orphan, "-o", "github")
    assert commands(ended.out) == []
    assert json.loads(ended.lines[0])["method"] == "##[add-mask]x"
