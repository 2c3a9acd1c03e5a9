"""What a start costs and shows: lean imports, help whose examples run, and a module structure that stays."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys

import pytest

import bsess
from fake_browserbase import API_KEY
from fake_browserless import TOKEN
from worlds import ROOT, write_config

SOURCE = ROOT / "src" / "bsess"
TELLING = ["live", "logs", "recording"]
COMMANDS = [
    *("create", "list", "close", "sweep", "run", "adopt", "tag", "usage", "show", "bql", "history", "completion"),
    *TELLING,
]
THERE = "5a1b0cc4-5f0a-4a2e-8f2e-3f1f2f1f0a11"
CONTEXT_COMMANDS = ["context create", "context show", "context delete"]
CONFIG_COMMANDS = ["config show", "config path", "config init", *CONTEXT_COMMANDS]
HEAVY = {"rich", "click", "pydantic", "asyncio", "httpx", "pygments", "websockets", "psycopg"}


def modules_after(world, *arguments):
    """Return the exit code and the modules loaded once the boundary has run these arguments in a fresh interpreter."""
    script = (
        "import io, sys\n"
        "from bsess import __main__, boundary\n"
        "out, sys.stdout = sys.stdout, io.StringIO()\n"
        "code = boundary.run(sys.argv[1:])\n"
        "print(code, *sorted(sys.modules), sep='\\n', file=out)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=world.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    code, *modules = process.stdout.splitlines()
    return int(code), set(modules)


@pytest.mark.parametrize("form", ["tsv", "json", "jsonl", "name"])
def test_a_close_imports_nothing_heavy(world, form):
    made = world.create()
    code, modules = modules_after(world, "close", made["id"], "-o", form)
    assert code == 0
    assert not HEAVY & modules
    assert "bsess.providers.local" in modules
    world.assert_nothing_left()


@pytest.mark.parametrize("arguments", [["list"], ["sweep", "--yes"], ["history"], ["list", "-h"], ["config", "show"]])
def test_off_a_terminal_nothing_heavy_is_imported(world, arguments):
    code, modules = modules_after(world, *arguments)
    assert code == 0
    assert not HEAVY & modules


@pytest.mark.parametrize("arguments", [["list"], ["close", "aaaaaaaaaaaaaaaa"]])
def test_a_thread_pool_is_imported_only_for_many(world, arguments):
    assert "concurrent.futures" not in modules_after(world, *arguments)[1]


def test_version_imports_no_command_line_at_all(world):
    script = "import sys; sys.argv = ['bsess', '--version']; import os; from bsess import __main__\n"
    script += "os._exit = lambda code: print(code, *sorted(sys.modules), sep='\\n')\n__main__.main()"
    process = subprocess.run(
        [sys.executable, "-c", script], env=world.env, capture_output=True, text=True, check=True, timeout=30
    )
    version, code, *modules = process.stdout.splitlines()
    assert (version, code) == (f"bsess {bsess.__version__}", "0")
    assert not {"typer", "json", "sqlite3", "tomllib", *HEAVY} & set(modules)


def test_version_is_one_line_of_name_and_number(world):
    ended = world.ok("--version")
    assert re.fullmatch(r"bsess [0-9]+\.[0-9]+\.[0-9]+\n", ended.out)
    assert ended.err == ""


def test_version_needs_no_config(world):
    world.config.write_text("broken")
    assert world.ok("--version").out == f"bsess {bsess.__version__}\n"


def test_without_a_command_the_help_is_printed_and_the_code_is_usage(world):
    ended = world.run()
    assert (ended.code, ended.err) == (2, "")
    assert ended.out == world.ok("--help").out
    assert ended.out.startswith("Usage: bsess ")


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("command", ["", "config", "context", *COMMANDS, *CONFIG_COMMANDS])
def test_help_is_everywhere_and_succeeds(world, command, flag):
    ended = world.ok(*command.split(), flag)
    assert ended.out.startswith(f"Usage: bsess {command}".rstrip())
    assert ended.err == ""


@pytest.mark.parametrize("command", [*COMMANDS, *CONFIG_COMMANDS])
def test_each_commands_help_begins_with_its_sentence_and_its_examples(world, command):
    lines = [line.strip() for line in world.ok(*command.split(), "-h").lines]
    assert lines.index("Examples:") < lines.index("Options:")


@pytest.mark.parametrize("command", [*COMMANDS, *CONFIG_COMMANDS])
def test_help_fits_80_columns(world, command):
    assert [line for line in world.ok(*command.split(), "-h").lines if len(line) > 80] == []


def test_help_needs_neither_config_nor_state_folder(world):
    world.config.write_text("broken")
    world.ok("create", "--help", env={"BSESS_STATE_DIR": "/dev/null/x"})


def test_the_commands_of_these_tests_are_all_there_are(world):
    listed = world.ok("-h").out.partition("Commands:\n")[2]
    assert set(re.findall(r"^  ([a-z]+) ", listed, re.MULTILINE)) == {*COMMANDS, "config", "context"}


def examples(world, command):
    """Return the lines under "Examples:" of a command's help."""
    lines = world.ok(*command.split(), "-h").out.partition("Examples:\n")[2].split("\n\n")[0].splitlines()
    return [line.strip() for line in lines]


@pytest.mark.parametrize("command", [*COMMANDS, *CONFIG_COMMANDS])
def test_each_example_in_the_help_runs(world, command, cloud, base):
    if command == "bql":
        world.variables["BROWSERLESS_TOKEN"] = TOKEN
        write_config(world, f'default = "work"\n[profiles.work]\nprovider = "browserless"\nurl = "{cloud.url}"\n')
        (world.folder / "login.graphql").write_text("mutation { goto(url: $user) { status } }")
    (world.folder / "scrape.py").write_text("import os\nassert os.environ['BSESS_CONNECT_URL']\n")
    for name in ("npm", "python"):
        stand_in = world.folder / name
        stand_in.write_text('#!/bin/sh\ntest -n "$BSESS_CONNECT_URL"\n')
        stand_in.chmod(0o755)
    (world.folder / "bsess").symlink_to(world.program[0])
    found = examples(world, command)
    assert found
    for line in found:
        example = line
        assert shlex.split(example)[0] == "bsess"
        if command == "config init":
            world.config.unlink()
        if command in (*TELLING, *CONTEXT_COMMANDS):
            world.variables["BROWSERBASE_API_KEY"] = API_KEY
            write_config(world, f'default = "bb"\n[profiles.bb]\nprovider = "browserbase"\nurl = "{base.url}"\n')
            base.contexts[THERE] = {"id": THERE}
            base.put(id=THERE, status="COMPLETED")
        if "abcdefghijklmnop" in example:
            flags = ["--stealth"] if command == "bql" else []
            example = example.replace("abcdefghijklmnop", world.create(*flags)["id"])
        elif command == "close":
            world.create("--label", "job=42")
        process = subprocess.run(
            ["bash", "-o", "pipefail", "-c", example],
            env={**world.env, "PATH": f"{world.folder}:{world.env['PATH']}"},
            cwd=world.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        # Local browsers carry no tag: what the example shows needs a provider that takes one.
        assert process.returncode == (2 if command == "tag" else 0), (example, process.stdout, process.stderr)
        if command == "close":
            world.assert_nothing_left(within=1)


def imports_of(path):
    """Return the names of the top-level modules that a file imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.partition(".")[0])
    return found


def importers_of(name):
    return {str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py") if name in imports_of(path)}


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("rich", "output/"),
        ("typer", "cli/ completion.py"),
        ("click", ""),
        ("httpx", "http/"),
        ("sqlite3", "ledger/sqlite.py completion.py"),
        ("psycopg", "ledger/postgres.py"),
        ("asyncio", ""),
        ("websockets", "cdp.py"),
    ],
)
def test_a_dependency_is_imported_in_its_one_place(module, allowed):
    places = tuple(allowed.split())
    assert {path for path in importers_of(module) if not path.startswith(places or ("-",))} == set()


@pytest.mark.parametrize("path", sorted((SOURCE / "commands").glob("*.py")), ids=lambda path: path.name)
def test_a_command_neither_prints_nor_knows_the_command_line(path):
    assert not {"typer", "rich", "click", "argparse"} & imports_of(path)
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not {"print", "input", "exit"} & calls


def test_only_the_boundary_and_thread_pools_catch_everything():
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler) and (
                node.type is None or (isinstance(node.type, ast.Name) and node.type.id == "Exception")
            ):
                found.add(str(path.relative_to(SOURCE)))
    assert found <= {"boundary.py"}


def test_no_module_of_the_package_is_relative_in_its_imports():
    relative = [
        path
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []
