"""What the README says is so: its commands, flags, codes, crontab, CI step, config and Python."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bsess import config
from bsess.errors import ExitCode
from bsess.providers import BUILT_IN
from worlds import ROOT

TEXT = (ROOT / "README.md").read_text()
BLOCKS = [(kind, text) for kind, text in re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)]
INLINE = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", TEXT, flags=re.DOTALL | re.MULTILINE))
COMMANDS = (
    "create",
    "list",
    "close",
    "sweep",
    "run",
    "adopt",
    "tag",
    "usage",
    "show",
    "live",
    "logs",
    "recording",
    "context",
    "bql",
    "history",
    "completion",
)


def block(kind):
    """Return the README's only block of that kind."""
    found = [text for name, text in BLOCKS if name == kind]
    assert len(found) == 1, f"{len(found)} blocks of {kind}"
    return found[0]


def written_commands():
    """Return the words of every `bsess …` that the README shows, in blocks and in sentences."""
    lines = [line[2:] for kind, text in BLOCKS if kind == "console" for line in text.splitlines() if line[:2] == "$ "]
    lines += [line.partition("run: ")[2] for line in block("yaml").splitlines() if "run: " in line]
    lines += [cron_line()[1]]
    lines += [code for code in INLINE if "bsess " in code]
    found = []
    for line in lines:
        words = shlex.split(line.replace('eval "$(', "").replace(')"', ""))
        while "bsess" in words:
            words = words[words.index("bsess") + 1 :]
            end = next((place for place, word in enumerate(words) if re.match(r"[|>]|2>", word)), len(words))
            if words[:end] and words[0] != "…":
                found.append(words[:end])
    return sorted({tuple(words): words for words in found}.values())


def cron_line():
    """Return the crontab's variables and its command."""
    lines = block("crontab").splitlines()
    variables = dict(line.split("=", 1) for line in lines if re.match(r"[A-Z_]+=", line))
    (entry,) = [line for line in lines if line[0] in "*0123456789"]
    return variables, entry.split(maxsplit=5)[5]


@pytest.fixture
def bare(world):
    """What cron gives, its `bsess` in a folder `bin`; what is made there is ended."""
    folder = world.folder / "bin"
    folder.mkdir()
    (folder / "bsess").symlink_to(world.program[0])
    home = world.folder / "home"
    (home / ".config" / "bsess").mkdir(parents=True)
    shutil.copy(world.config, home / ".config" / "bsess" / "config.toml")
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
    variables = cron_line()[0]
    assert "/usr/local/bin" in variables["PATH"].split(":")
    made = environment | variables | {"PATH": variables["PATH"].replace("/usr/local/bin", str(folder))}
    yield made
    subprocess.run([*world.program, "close", "--all", "--force", "--yes"], env=made, capture_output=True, check=False)


def in_shell(command, environment):
    return subprocess.run(
        ["/bin/sh", "-c", command],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_commands_are_found():
    written = written_commands()
    assert {words[0] for words in written} >= {"create", "list", "close", "sweep", "run", "history"}
    assert ["close", "--run", "--yes"] in written
    assert ["sweep", "--yes"] in written


@pytest.mark.parametrize("words", written_commands(), ids=" ".join)
def test_every_command_parses(world, words):
    end = words.index("--") if "--" in words else len(words)
    ended = world.run(*words[:end], "--help", *words[end:])
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.parametrize(
    "words", [words for words in written_commands() if words[0] in ("list", "history", "config")], ids=" ".join
)
def test_every_reading_command_runs(world, words):
    if words[:2] == ["config", "init"]:
        world.config.unlink()
    assert world.ok(*words).err == ""


def test_every_flag_exists(world):
    known = "".join(world.ok(command, "--help").out for command in COMMANDS)
    # What is systemd's is not ours to know.
    own = [code for code in INLINE if not code.startswith(("systemctl ", "loginctl "))]
    flags = {flag for code in own for flag in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", code)}
    assert len(flags) > 10
    for flag in flags - {"--help"}:
        assert re.search(rf"(?<![\w-]){flag}(?![\w-])", known), flag


def test_every_format_exists(world):
    named = TEXT.partition("## Formats\n")[2].partition(".\nData goes")[0]
    formats = [word.removeprefix("-o ") for word in re.findall(r"`([^`]+)`", named)]
    hint = world.run("list", "-o", "no-such-format").err
    assert sorted(formats) == sorted(re.search(r"one of (.*)", hint)[1].split(", "))


def test_the_exit_codes_are_those_of_the_program():
    table = TEXT.partition("| code | meaning |\n|---|---|\n")[2].partition("\n\n")[0]
    assert [int(row.split("|")[1]) for row in table.splitlines()] == sorted(ExitCode)


def test_the_ci_runs_what_the_readme_says():
    said = TEXT.partition("## Tests\n")[2].partition("```sh\n")[2].partition("\n```")[0]
    assert "\n" not in said
    assert f"exec {said}" in (ROOT / ".ci" / "run").read_text().splitlines()
    assert said.split()[0] == "bash"
    assert os.access(ROOT / said.split()[1], os.X_OK)


def test_the_first_command_is_there_and_shows_what_the_readme_shows():
    said = TEXT.partition("## Try it\n")[2].partition("```sh\n")[2].partition("\n```")[0]
    assert os.access(ROOT / said, os.X_OK)
    script = (ROOT / said).read_text()
    shown = TEXT.partition("```console\n")[2].partition("```")[0]
    for line in shown.splitlines():
        if line.startswith("$ "):
            assert "show " + " ".join(line.split()[1:3]) in script, line


def test_the_crontab_sweeps_in_crons_bare_environment(world, bare):
    _, command = cron_line()
    log = world.folder / "home" / "bsess-sweep.log"
    quiet = in_shell(command, bare)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    assert log.read_text().startswith("looked at 0 sessions of local (ledger ")
    with subprocess.Popen(["sleep", "60"]) as owner:
        made = subprocess.run(
            [*world.program, "create", "-q", "-o", "name", "--owner-pid", str(owner.pid)],
            env=bare,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        owner.kill()
    swept = in_shell(command, bare)
    assert (swept.returncode, swept.stdout, swept.stderr) == (0, "", "")
    assert log.read_text().splitlines()[0].split("\t")[:4] == [made, "local", "local", "closed"]
    wrong = in_shell(command, bare | {"BSESS_CONFIG": "/no/such/file"})
    assert "there is no /no/such/file" in wrong.stdout, "which cron mails"


def test_the_ci_step_ends_what_the_run_made_and_nothing_else(world, bare):
    (command,) = re.findall(r"run: (.*)", block("yaml"))
    assert "if: always()" in block("yaml")
    for run in ("7", "8"):
        made = world.run("create", "-q", "-o", "name", env=ci(bare, run))
        assert made.code == 0, made.err
    ended = in_shell(command, ci(bare, "7"))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [line.split("\t")[3] for line in ended.stdout.splitlines()] == ["closed"]
    assert world.run("list", "-o", "name", env=ci(bare, "8")).out == made.out


def ci(environment, run):
    """Return an environment of a GitHub Actions step; what a world adds is taken from it."""
    folder = Path(environment["HOME"])
    here = {
        "BSESS_STATE_DIR": str(folder / ".local/state/bsess"),
        "BSESS_CONFIG": str(folder / ".config/bsess/config.toml"),
    }
    return environment | here | {"CI": "true", "GITHUB_RUN_ID": run, "GITHUB_RUN_ATTEMPT": "1"}


def test_the_config_example_loads(world):
    world.config.write_text(block("toml"))
    shown = {line.split("\t")[0]: line.split("\t")[1] for line in world.ok("config", "show").lines}
    assert shown["owner"] == "crawl-team"
    loaded = config.load(world.env)
    assert {profile.provider for profile in loaded.profiles.values()} <= set(BUILT_IN)
    assert loaded.profile().ttl == 1800


def test_the_config_example_makes_a_session(world):
    world.config.write_text(block("toml"))
    made = world.create("--arg=--disable-background-networking", "--arg=--disable-component-update")
    assert (made["owner"], made["profile"], made["labels"]) == ("crawl-team", "work", {"team": "crawl"})
    world.ok("close", made["id"])


def test_the_python_example_runs(world):
    ended = subprocess.run(
        [sys.executable, "-c", block("python")],
        env=world.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    first, second, third = ended.stdout.splitlines()
    assert " ws://127.0.0.1:" in first
    assert (second, third) == ("already_closed", "[]")
    world.assert_nothing_left()


def test_the_systemd_units_can_be_read_and_their_command_runs(world):
    service, timer = (configparser.ConfigParser(delimiters="=", interpolation=None) for _ in range(2))
    texts = [text for kind, text in BLOCKS if kind == "ini"]
    service.read_string(texts[0])
    timer.read_string(texts[1])
    assert timer["Timer"]["OnCalendar"]
    assert timer["Timer"]["RandomizedDelaySec"] == "60"
    assert service["Service"]["Type"] == "oneshot"
    words = shlex.split(service["Service"]["ExecStart"].replace("%h", str(world.folder)))
    assert words[0].endswith("/.local/bin/bsess")
    name, _, value = service["Service"]["Environment"].partition("=")
    world.ok(*words[1:], env={name: value})
    assert (world.folder / "bsess.prom").exists()


def test_the_cron_job_of_kubernetes_sweeps(world):
    job = yaml.safe_load(block("yml"))
    assert (job["apiVersion"], job["kind"], job["spec"]["concurrencyPolicy"]) == ("batch/v1", "CronJob", "Forbid")
    assert re.fullmatch(r"(\S+ ){4}\S+", job["spec"]["schedule"])
    run = job["spec"]["jobTemplate"]["spec"]
    pod = run["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    words = container["command"]
    assert run["activeDeadlineSeconds"] > 60 * int(words[words.index("--deadline") + 1].removesuffix("m"))
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    given = {item["name"]: item.get("value") for item in container["env"]}
    # A volume belongs to root, whoever the pod is: a folder of our own is in it.
    assert given["BSESS_STATE_DIR"].rpartition("/")[0] == mounts["state"]
    assert words[0] == "bsess"
    ended = world.ok(*words[1:], env={"BSESS_OWNER": given["BSESS_OWNER"]})
    assert ended.err.startswith("looked at 0 sessions of local (ledger ")


def test_every_exit_code_of_a_sweep_is_said_to_page_or_not():
    table = TEXT.partition("| code | page somebody? |")[2].partition("\n\n")[0]
    said = [int(code) for codes in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE) for code in codes.split(",")]
    signals = {ExitCode.SIGHUP, ExitCode.SIGINT, ExitCode.SIGTERM}
    assert sorted(said) == sorted(set(ExitCode) - signals)
