"""TAB in real shells: what it offers, and that nothing it is given is ever run."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import sqlite3
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

COMPLETIONS = Path(__file__).parent.parent / "completions"
FILES = {"bash": "bsess.bash", "zsh": "_bsess", "fish": "bsess.fish", "powershell": "bsess.ps1"}
FORMATS = ["table", "json", "jsonl", "tsv", "name", "url", "env", "github"]
DUMP = "\x18\x04"
KILL_LINE = "\x15"
# What a terminal is told beside the text: colours, movements, titles, the bell.
CONTROL = re.compile(r"\x1b\[[0-9;?=>]*[A-Za-z]|\x1b\][^\x07]*\x07|\x1b[=>]|[\x07\r]")


class Terminal:
    """An interactive shell on a pseudo-terminal, its completion set up, with a key that tells the line as it stands."""

    def __init__(self, argv, env, folder, setup):
        self.dump = folder / "line"
        self.output = ""
        self.handle, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 200, 200, 0, 0))
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *argv], stdin=slave, stdout=slave, stderr=slave, env=env, cwd=folder / "home"
        )
        os.close(slave)
        self.send(setup + "; echo REA''DY\n")
        # Only behind the prompt does the terminal hand over each key as it is.
        self.wait(lambda: self.output.partition("READY\n")[2].endswith("> "))

    def send(self, text):
        os.write(self.handle, text.encode())

    def wait(self, condition, seconds=30):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"the shell shows: {self.output!r}"
            if select.select([self.handle], [], [], 0.05)[0]:
                self.output += CONTROL.sub("", os.read(self.handle, 65536).decode(errors="replace"))

    def complete(self, line):
        """Type a line and TAB; return the line as it then stands and what was shown beneath."""
        self.dump.unlink(missing_ok=True)
        self.output = ""
        self.send(line + "\t" + DUMP)
        self.wait(lambda: self.dump.exists() and self.dump.read_text().endswith("\n"))
        buffer = self.dump.read_text().removesuffix("\n")
        self.send(KILL_LINE)
        return buffer, self.output

    def end(self):
        self.process.kill()
        self.process.wait()
        os.close(self.handle)


INPUTRC = """\
set show-all-if-ambiguous on
set page-completions off
set completion-query-items 0
set enable-bracketed-paste off
"""


class Bash:
    name = "bash"

    def __init__(self, world):
        settings = world.folder / "inputrc"
        settings.write_text(INPUTRC)
        dump = f"""dump() {{ printf '%s\\n' "$READLINE_LINE" >{world.folder}/line; }}; bind -x '"\\C-x\\C-d": dump'"""
        setup = f"source {COMPLETIONS}/bsess.bash; {dump}"
        env = {**environment(world), "INPUTRC": str(settings)}
        self.terminal = Terminal(["bash", "--norc", "--noprofile", "-i"], env, world.folder, setup)

    def offered(self, line):
        buffer, shown = self.terminal.complete(line)
        return _candidates(line, buffer, shown)

    def end(self):
        self.terminal.end()


# What zsh paints is redrawn in place; the candidates are read where they pass, each once.
LISTEN = """\
compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\\ * ]]; then
        builtin compadd "$@"
        return
    fi
    local -a offered
    builtin compadd -O offered "$@"
    (( $#offered )) && print -rl -- $offered >>$OFFERED
    builtin compadd "$@"
}
dump() { print -r -- $BUFFER >$DUMP }
zle -N dump
bindkey '^X^D' dump
bindkey '^U' kill-whole-line
"""


class Zsh:
    name = "zsh"
    load = f"autoload -Uz compinit; compinit -D -u; source {COMPLETIONS}/_bsess"

    def __init__(self, world):
        self.listening = world.folder / "listen.zsh"
        self.listening.write_text(LISTEN)
        self.seen = world.folder / "offered"
        env = {**environment(world), "OFFERED": str(self.seen), "DUMP": str(world.folder / "line")}
        setup = f"{self.load}; source {self.listening}"
        self.terminal = Terminal(["zsh", "-f", "-i"], env, world.folder, setup)

    def offered(self, line):
        self.seen.write_text("")
        buffer, _ = self.terminal.complete(line)
        offered = self.seen.read_text().splitlines()
        assert len(offered) != 1 or buffer.split()[-1] == offered[0]
        return offered

    def end(self):
        self.terminal.end()


class ZshFromFpath(Zsh):
    name = "zsh, from fpath"
    load = f"fpath=({COMPLETIONS} $fpath); autoload -Uz compinit; compinit -D -u"


class Fish:
    name = "fish"

    def __init__(self, world):
        self.world = world

    def offered(self, line):
        script = "source $argv[1]; complete -C $argv[2]"
        ended = subprocess.run(
            ["fish", "--no-config", "-c", script, str(COMPLETIONS / "bsess.fish"), line],
            env=environment(self.world),
            cwd=self.world.folder / "home",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        return [line.partition("\t")[0] for line in ended.stdout.splitlines()]

    def end(self):
        pass


def environment(world):
    folder = Path(sys.executable).parent
    return {
        **world.env,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "TERM": "xterm",
        "PS1": "> ",
        "HISTFILE": "/dev/null",
    }


def _candidates(line, buffer, shown):
    """Read the screen: what was completed in the line itself, or the list beneath it."""
    word = line.rpartition(" ")[2]
    completed = buffer[len(line) - len(word) :].strip()
    if buffer != line and buffer.endswith(" "):
        return [completed]
    rows = [row for row in shown.splitlines()[1:] if row.strip() and not row.startswith("> ")]
    return [name for row in rows for name in (row.split("  -- ")[:1] if "  -- " in row else row.split())]


SHELLS = {kind.name: kind for kind in (Bash, Zsh, ZshFromFpath, Fish)}


@pytest.fixture(params=SHELLS)
def shell(request, world):
    kind = SHELLS[request.param]
    program = request.param.partition(",")[0]
    assert shutil.which(program), f"{program} is missing"
    made = kind(world)
    yield made
    made.end()


@pytest.fixture
def ledger(world):
    """A function that puts rows with these ids into the world's ledger."""
    world.ok("history")

    def put(*ids):
        row = "(?, 1, 'local', 'local:', '0', 'local', ?, 'open', 'me', '{}', 1, 1)"
        columns = "key, version, provider, base_url, account, profile, id, state, owner, labels, created_at, changed_at"
        connection = sqlite3.connect(world.state / "ledger.sqlite3")
        with connection:
            connection.executemany(
                f"INSERT INTO session ({columns}) VALUES {row}", [(f"key{n}", name) for n, name in enumerate(ids)]
            )
        connection.close()

    return put


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_what_the_program_prints(world, name):
    assert (COMPLETIONS / FILES[name]).read_text() == world.ok("completion", name).out


def test_a_unique_command_is_completed(shell):
    assert shell.offered("bsess cl") == ["close"]


def test_all_commands_are_offered(shell):
    offered = shell.offered("bsess ")
    assert {"create", "list", "close", "sweep", "run", "history", "config"} <= set(offered)


def test_the_commands_of_a_group_are_offered(shell):
    assert sorted(shell.offered("bsess config ")) == ["init", "path", "show"]


def test_a_unique_option_is_completed(shell):
    assert shell.offered("bsess create --ow") == ["--owner-pid"]


def test_options_are_offered(shell):
    assert {"--label", "--older-than", "--wait", "--wait-timeout"} <= set(shell.offered("bsess close --"))


def test_formats_are_offered(shell):
    assert sorted(shell.offered("bsess list -o ")) == sorted(FORMATS)
    assert shell.offered("bsess list --output ts") == ["tsv"]


def test_the_id_of_a_live_session_is_completed(shell, world):
    made = world.create()
    assert shell.offered(f"bsess close {made['id'][:6]}") == [made["id"]]
    world.ok("close", made["id"])
    assert shell.offered(f"bsess close {made['id'][:6]}") == []


def test_ids_are_offered_wherever_ids_go(shell, ledger):
    ledger("good-one", "good-two")
    assert sorted(shell.offered("bsess close --force goo")) == ["good-one", "good-two"]


def test_profiles_are_offered(shell, world):
    with world.config.open("a") as file:
        file.write('[profiles.second]\nprovider = "local"\n')
    assert sorted(shell.offered("bsess create -p ")) == ["local", "second"]


def test_a_hostile_id_or_profile_is_never_offered_and_never_run(shell, world, ledger):
    mark = world.folder / "home" / "run"
    hostile = [
        "a$(touch run)",
        "a\\$(touch run)",
        "a`touch run`",
        "a\\`touch run\\`",
        "a';touch run;'",
        'a";touch run;"',
        'a"$(touch run)"',
        "a;touch run",
        "a\ntouch run\n",
        "a${(e):-$(touch run)}",
        "a(e:touch run:)",
        "a b",
        "a*",
        "a~",
        "a\x1b[31m",
        "--force",
    ]
    ledger(*hostile, "a-good-one")
    profiles = "".join(f'[profiles.{_toml(name)}]\nprovider = "local"\n' for name in hostile[:2])
    with world.config.open("a") as file:
        file.write(profiles + '[profiles.a-good-one]\nprovider = "local"\n')
    for line in ("bsess close a", "bsess create -p a"):
        assert shell.offered(line) == ["a-good-one"], line
    for name in hostile[:7]:
        for quote in ("", "'", '"'):
            shell.offered(f"bsess close {quote}{name[:4]}")
    assert not mark.exists()


def test_what_the_user_has_typed_is_never_run(shell, world):
    mark = world.folder / "home" / "run"
    for typed in ("'$(touch run)", "\\$\\(touch\\ run\\)", "'`touch run`' "):
        shell.offered(f"bsess close {typed}")
    assert not mark.exists()


@pytest.mark.parametrize("broken", ["config", "ledger", "folder"])
def test_what_is_broken_is_silent(shell, world, broken):
    if broken == "config":
        world.config.write_text("[[[ no toml")
        lines = ["bsess create -p ", "bsess list -o json -p "]
    elif broken == "ledger":
        world.state.mkdir(mode=0o700)
        (world.state / "ledger.sqlite3").write_text("no ledger")
        lines = ["bsess close ", "bsess close -o json abc"]
    else:
        world.state.write_text("no folder")
        lines = ["bsess close "]
    for line in lines:
        assert shell.offered(line) == []


def test_an_unknown_option_is_silent(shell):
    assert shell.offered("bsess create --no-such-option x") == []


def test_a_lone_version_flag_is_not_answered_with_the_version(world):
    assert "bsess" not in world.run("--version", env={"_BSESS_COMPLETE": "fish"}).out


def _toml(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
