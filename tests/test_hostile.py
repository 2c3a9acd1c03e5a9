"""Broken machines, hostile input, closed streams: one line says what, one how to mend it, and nothing is left."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import stat
import subprocess
import time

import pytest

from worlds import ORDINARY_USER, Ended, write_config

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts a filesystem of its own")


def assert_fails(ended, code, *words):
    """Insist on an exit code, at most an error and its hint, no traceback, and words in what is said."""
    assert ended.code == code, ended
    lines = ended.err.splitlines()
    assert 1 <= len(lines) <= 2, ended.err
    assert lines[0].startswith("bsess: "), ended.err
    assert len(lines) == 1 or lines[1].startswith("hint: "), ended.err
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.err, ended.err


def program_file(world, text, mode=0o755):
    path = world.folder / "program"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@contextlib.contextmanager
def mounted(world, options):
    """Put a small filesystem of the world's user where the state folder is; yield a function that remounts it."""
    world.state.mkdir(mode=0o700)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"mode=700,uid={world.uid},{options}", "tmpfs", world.state], check=True
    )
    try:
        yield lambda how: subprocess.run(["mount", "-o", f"remount,{how}", world.state], check=True)
    finally:
        subprocess.run(["umount", "--lazy", world.state], check=True)


def fill(world):
    with contextlib.suppress(OSError), (world.state / "ballast").open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


def in_shell(world, script, **settings):
    """Run a script in which "$@" is bsess."""
    process = subprocess.run(
        ["bash", "-c", script, "bash", *world.program],
        env=world.env,
        cwd=world.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **settings,
    )
    return Ended(process.returncode, process.stdout, process.stderr)


# The browser


def test_no_browser_on_this_machine_names_what_was_looked_for_and_how_to_install_one(any_world):
    empty = any_world.folder / "empty"
    empty.mkdir()
    # setpriv is found where the ordinary user's world starts from: here only bsess' own environment counts.
    env = {"PATH": str(empty), "HOME": str(empty)}
    program = any_world.program
    if program[0] == "setpriv":
        any_world.program = [shutil.which("setpriv"), *program[1:]]
    assert_fails(any_world.run("create", env=env), 1, "chromium", "google-chrome", "install chromium", "--executable")
    assert not any_world.folders()


@pytest.mark.parametrize("path", ["/nowhere/chromium", "no-such-program", "/etc/passwd", "/tmp", "", "a\x1bb"])
def test_an_executable_that_cannot_be_run_is_a_usage_error(world, path):
    assert_fails(world.run("create", "--executable", path), 2, "--executable")


def test_an_executable_of_the_environment_that_cannot_be_run_is_a_usage_error(world):
    assert_fails(world.run("create", env={"BSESS_EXECUTABLE": "/nowhere/chromium"}), 2, "/nowhere/chromium")


@pytest.mark.parametrize("path", ["/bin/true", "/bin/false"])
def test_a_program_that_is_no_browser_fails_and_leaves_nothing(any_world, path):
    assert_fails(any_world.run("create", "--executable", path), 1, path)
    any_world.assert_nothing_left()
    assert any_world.rows() == []


def test_what_a_failing_browser_says_is_in_the_error(any_world):
    path = program_file(any_world, "#!/bin/sh\necho first\necho 'no space on the moon' >&2\nexit 3\n")
    assert_fails(any_world.run("create", "--executable", path), 1, "no space on the moon")
    any_world.assert_nothing_left()


def test_what_a_failing_browser_says_never_steers_the_terminal(world):
    path = program_file(world, "#!/bin/sh\nprintf 'bad \\033[31mred\\342\\200\\256\\n' >&2\nexit 3\n")
    ended = world.run("create", "--executable", path)
    assert_fails(ended, 1, "bad [31mred")
    assert "\x1b" not in ended.err
    assert "\u202e" not in ended.err


def test_a_script_without_an_interpreter_line_is_no_browser(world):
    path = program_file(world, "\x7fgarbage\0")
    assert_fails(world.run("create", "--executable", path), 1, "Exec format error")
    world.assert_nothing_left()


def test_a_browser_that_hangs_at_its_start_is_given_up_after_the_timeout_and_ended(any_world):
    path = program_file(any_world, "#!/bin/sh\nsleep 300 & exec sleep 300\n")
    began = time.monotonic()
    ended = any_world.run("create", "--executable", path, "--timeout", "1s")
    assert time.monotonic() - began < 6
    assert_fails(ended, 1, "in time", "--timeout")
    any_world.assert_nothing_left()


# The state folder


@AS_ROOT
def test_a_read_only_state_folder_fails_in_a_line(any_world):
    with mounted(any_world, "size=1m") as remount:
        remount("ro")
        assert_fails(any_world.run("create"), 1, str(any_world.state), "Read-only")


@AS_ROOT
@pytest.mark.parametrize("command", [["create"], ["sweep", "--yes"], ["close", "--all", "--yes"]])
def test_a_ledger_that_became_read_only_fails_in_a_line(world, command):
    with mounted(world, "size=4m") as remount:
        world.ok("list")
        remount("ro")
        ended = world.run(*command)
        assert ended.code in (0, 1)
        if command == ["create"]:
            assert_fails(ended, 1, str(world.state))
        assert "Traceback" not in ended.err
        assert "bug" not in ended.err


def test_an_unwritable_parent_of_the_state_folder_fails_in_a_line(ordinary_world):
    ordinary_world.folder.chmod(0o500)
    try:
        assert_fails(ordinary_world.run("create"), 1, str(ordinary_world.state))
    finally:
        ordinary_world.folder.chmod(0o700)


@AS_ROOT
@pytest.mark.parametrize("command", ["create", "list", "history"])
def test_a_full_disk_fails_in_a_line(any_world, command):
    with mounted(any_world, "size=64k"):
        fill(any_world)
        assert_fails(any_world.run(command), 1, "full", "make room")


@AS_ROOT
@pytest.mark.parametrize("inodes", [6, 7, 8, 9, 10])
def test_a_disk_that_becomes_full_while_a_browser_is_made_fails_and_leaves_nothing(world, inodes):
    # root, lock, ledger, -wal, -shm: what is left does not suffice for the folders of a browser.
    with mounted(world, f"size=8m,nr_inodes={inodes}"):
        assert_fails(world.run("create"), 1)
        world.assert_nothing_left()


@AS_ROOT
def test_a_disk_that_is_full_does_not_keep_a_session_from_being_closed(world):
    with mounted(world, "size=256m"):
        made = world.create()
        fill(world)
        ended = world.run("close", made["id"], "-o", "json")
        assert [row["outcome"] for row in ended.outcomes] == ["closed"]
        assert ended.code == 0, ended.err
        world.assert_nothing_left()


def test_a_state_folder_that_is_a_symlink_is_refused(any_world):
    target = any_world.folder / "elsewhere"
    target.mkdir(mode=0o700)
    os.chown(target, any_world.uid, -1)
    any_world.state.symlink_to(target)
    assert_fails(any_world.run("create"), 1, "symlink", "BSESS_STATE_DIR")
    assert list(target.iterdir()) == []


@AS_ROOT
def test_another_users_state_folder_is_refused(any_world):
    any_world.state.mkdir(mode=0o755)
    os.chown(any_world.state, 0 if any_world.uid else 12345, -1)
    assert_fails(any_world.run("create"), 1, "another user's")
    assert list(any_world.state.iterdir()) == []


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o777])
def test_a_state_folder_in_use_that_is_open_to_others_is_refused_with_the_command_that_mends_it(world, mode):
    world.state.mkdir()
    (world.state / "something").touch()
    world.state.chmod(mode)
    assert_fails(world.run("create"), 1, f"chmod 700 {world.state}")
    assert stat.S_IMODE(world.state.stat().st_mode) == mode


def test_an_empty_state_folder_that_is_open_to_others_is_tightened(world):
    world.state.mkdir()
    world.state.chmod(0o755)
    world.ok("list")
    assert stat.S_IMODE(world.state.stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", ["file", "fifo", "dangling"])
def test_a_state_folder_that_is_no_folder_is_refused(world, kind):
    if kind == "file":
        world.state.write_text("precious")
    elif kind == "fifo":
        os.mkfifo(world.state)
    else:
        world.state.symlink_to(world.folder / "nothing")
    assert_fails(world.run("list"), 1, str(world.state))
    assert kind != "file" or world.state.read_text() == "precious"


def test_a_parent_of_the_state_folder_that_is_a_file_is_refused(world):
    (world.folder / "file").touch()
    assert_fails(world.run("list", env={"BSESS_STATE_DIR": str(world.folder / "file" / "s")}), 1, "BSESS_STATE_DIR")


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_a_network_filesystem_is_recognised_by_its_mount(tmp_path, kind):
    from bsess.ledger import sqlite

    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 0:999 / /elsewhere rw - ext4 /dev/sda1 rw\n"
        f"29 1 {os.major(device)}:{os.minor(device)} / /a\\040b rw,relatime shared:1 - {kind} server:/x rw\n"
    )
    assert sqlite.filesystem(tmp_path, mounts) == kind
    assert kind in sqlite._NETWORK


def test_a_state_folder_on_a_network_filesystem_is_refused(tmp_path, monkeypatch):
    from bsess.errors import LedgerError
    from bsess.ledger import sqlite

    monkeypatch.setattr(sqlite, "filesystem", lambda folder: "nfs4")
    with pytest.raises(LedgerError, match="nfs4") as caught:
        sqlite.SqliteLedger(tmp_path / "s")
    assert "BSESS_STATE_DIR" in caught.value.hint
    assert not list((tmp_path / "s").iterdir())


def test_mounts_that_cannot_be_read_do_not_matter(tmp_path):
    from bsess.ledger import sqlite

    (tmp_path / "empty").touch()
    assert sqlite.filesystem(tmp_path, tmp_path / "empty") is None
    assert sqlite.filesystem(tmp_path, tmp_path / "none") is None


# The config file


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('defualt = "x"', ["defualt", "default"]),
        ("zzz = 1", ["zzz", "owner"]),
        ('[profiles.local]\nprovider = "local"\ntll = "5m"', ["profiles.local.tll", "profiles.local.ttl"]),
        ("[sweep]\nmax_clos = 5", ["sweep.max_clos", "sweep.max_close"]),
        ("default = 5", ["default", "a whole number", "a string"]),
        ("owner = true", ["owner", "true or false"]),
        ("profiles = 3", ["profiles", "a table"]),
        ("sweep = []", ["sweep", "a table"]),
        ("[profiles]\nlocal = 'x'", ["profiles.local", "a table"]),
        ('[profiles.local]\nprovider = "local"\nargs = "x"', ["profiles.local.args", "a list of strings"]),
        ('[profiles.local]\nprovider = "local"\nargs = [1]', ["profiles.local.args", "a list of strings"]),
        ('[profiles.local]\nprovider = "local"\nheaded = 1', ["profiles.local.headed", "true or false"]),
        ('[profiles.local]\nprovider = "local"\nttl = 5', ["profiles.local.ttl", "a string"]),
        ('[profiles.local]\nprovider = "local"\nttl = "5"', ["profiles.local.ttl", "90s"]),
        ('[profiles.local]\nprovider = "local"\nlabels = { a = 1 }', ["profiles.local.labels.a", "a string"]),
        ('[profiles.local]\nprovider = "local"\nlabels = { "a b" = "1" }', ["profiles.local.labels", "a b"]),
        ('[profiles.local]\nttl = "5m"', ["profiles.local", "provider"]),
        ('[profiles."a/b"]\nprovider = "local"', ["a/b"]),
        ("[sweep]\nmax_close = true", ["sweep.max_close", "a whole number"]),
        ("[sweep]\nmin_age = 60", ["sweep.min_age", "a string"]),
        ('[sweep]\nmin_age = "60"', ["sweep.min_age", "90s"]),
        ('[sweep]\nprotect = ["keep"]', ["sweep.protect", "label:KEY"]),
        ('default = "wrok"\n[profiles.work]\nprovider = "local"', ["wrok", "work"]),
        ("owner = '  '", ["owner"]),
        ('owner = "a\\u0007b"', ["owner"]),
        ("this is no toml", ["config.toml"]),
        ('a = "\\u202E', ["config.toml"]),
    ],
)
def test_a_config_that_cannot_be_is_refused_naming_file_and_key(world, text, words):
    world.config.write_text(text)
    assert_fails(world.run("create", "--executable", "/bin/false"), 2, *words)


@pytest.mark.parametrize("text", [b"\xff\xfe\x00", b'owner = "\xe9"', b"\0" * 100])
def test_a_config_of_other_bytes_than_text_is_refused(world, text):
    world.config.write_bytes(text)
    assert_fails(world.run("list"), 2, str(world.config))


def test_a_folder_in_place_of_the_config_is_refused(world):
    world.config.unlink()
    world.config.mkdir()
    assert_fails(world.run("list"), 2, str(world.config))


def test_an_unreadable_config_is_refused_and_not_taken_for_none(ordinary_world):
    ordinary_world.config.chmod(0)
    assert_fails(ordinary_world.run("list"), 2, str(ordinary_world.config), "Permission denied")


@pytest.mark.parametrize("flag", ["-p", "--profile"])
def test_an_unknown_profile_names_the_nearest(world, flag):
    assert_fails(world.run("create", flag, "lcoal"), 2, "lcoal", "local")


def test_an_unknown_provider_names_the_nearest(world):
    write_config(world, '[profiles.x]\nprovider = "lokal"\n')
    assert_fails(world.run("create", "-p", "x"), 2, "profile x", "lokal", "local")


def test_the_default_profile_of_the_environment_that_is_missing_is_refused_with_its_source(world):
    assert_fails(world.run("create", env={"BSESS_PROFILE": "lcoal"}), 2, "BSESS_PROFILE", "local")


# Ids


@pytest.fixture
def tempting_state(world):
    """Things in and beside the state folder that no close may touch."""
    world.ok("list")
    local = world.state / "local"
    local.mkdir(mode=0o700)
    precious = world.folder / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    (local / "aaaaaaaaaaaaaaaa").symlink_to(precious)
    (local / "bbbbbbbbbbbbbbbb").mkdir()
    (local / "bbbbbbbbbbbbbbbb" / "file").write_text("not ours")
    (local / "note").write_text("precious")

    def snapshot():
        return sorted(str(path) for path in world.folder.rglob("*") if not path.name.startswith(("ledger", "sweep")))

    before = snapshot()
    yield
    assert snapshot() == before
    assert (precious / "file").read_text() == "precious"


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a\tb", "a\nb", "a\x1bb", "a\x7fb", "a\u202eb", "a\u2028b", "\u00a0", "x" * 10_000]
)
def test_an_id_that_no_provider_could_have_made_is_a_usage_error(world, tempting_state, name):
    ended = world.run("close", "--", name)
    assert_fails(ended, 2)
    assert len(ended.err) < 500
    assert not {"\x1b", "\u202e", "\u2028"} & set(ended.err)


@pytest.mark.parametrize(
    "name",
    [
        "../",
        "..",
        ".",
        "/",
        "/etc",
        "../precious",
        "local/..",
        "local/../..",
        "aaaaaaaaaaaaaaaa",
        "note",
        "~",
        "*",
        "%2e",
    ],
)
def test_an_id_that_is_a_path_is_not_found_and_deletes_nothing(world, tempting_state, name):
    assert_fails(world.run("close", "--force", name), 1, name.removeprefix("local/"))


@pytest.mark.parametrize("name", ["-rf", "--all", "-", "--force"])
def test_an_id_with_leading_dashes_is_an_id_after_two_dashes(world, tempting_state, name):
    ended = world.run("close", "-o", "json", "--", name)
    if name == "-":
        assert (ended.code, ended.outcomes) == (0, [])
    else:
        assert (ended.code, [row["outcome"] for row in ended.outcomes]) == (1, ["not_found"])


def test_a_folder_without_our_mark_is_left_alone(world, tempting_state):
    assert_fails(world.run("close", "--force", "bbbbbbbbbbbbbbbb"), 1, "bbbbbbbbbbbbbbbb", "mark")


def test_a_sweep_leaves_alone_what_does_not_bear_our_mark(world, tempting_state):
    world.ok("sweep", "--yes", "--older-than", "1s")


@pytest.mark.parametrize(
    "garbage", [b"\x00\x01\x02", b"a b\n", b"\x1b[31m\n", bytes(range(256)), b"\xff\xfe\n", b"x" * 10_000]
)
def test_garbage_on_standard_input_is_a_usage_error_and_ends_nothing(world, tempting_state, garbage):
    with world.start("close", "-", stdin=subprocess.PIPE, text=False) as process:
        _, err = process.communicate(b"aaaaaaaaaaaaaaaa\n" + garbage, timeout=30)
    assert_fails(Ended(process.returncode, "", err.decode()), 2)


def test_nothing_on_standard_input_is_nothing_to_do(world):
    assert world.ok("close", "-", stdin="").out == ""
    assert world.ok("close", "-", stdin="\n \r\n\n").out == ""


def test_windows_line_ends_on_standard_input_are_no_part_of_an_id(world):
    ended = world.run("close", "-", "-o", "json", stdin="aaaaaaaaaaaaaaaa\r\nbbbbbbbbbbbbbbbb\r\n")
    assert [row["id"] for row in ended.outcomes] == ["aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"]


# Streams


def test_a_create_with_standard_output_closed_ends_its_session_again(any_world):
    assert_fails(in_shell(any_world, '"$@" create -q -o url >&-'), 1, "standard output")
    any_world.assert_nothing_left(within=2)
    assert any_world.rows() == []


def test_a_create_whose_output_is_a_full_disk_ends_its_session_again(any_world):
    assert_fails(in_shell(any_world, '"$@" create -q -o url >/dev/full'), 1, "No space left")
    any_world.assert_nothing_left(within=2)
    assert any_world.rows() == []


def test_a_create_whose_reader_is_gone_ends_its_session_again(world):
    read, write = os.pipe()
    os.close(read)
    world.run("create", "-o", "url", stdout=write)
    os.close(write)
    world.assert_nothing_left(within=2)
    assert world.rows() == []


@pytest.mark.parametrize(
    "command", ["list -o json", "history -o json", "config show", "config path", "completion bash"]
)
@pytest.mark.parametrize("target", [">&-", ">/dev/full"])
def test_output_that_goes_nowhere_is_a_failure_in_a_line(world, command, target):
    assert_fails(in_shell(world, f'"$@" {command} {target}'), 1)


@pytest.mark.parametrize("command", ["--help", "list -h"])
def test_help_onto_a_full_disk_is_no_bug(world, command):
    assert_fails(in_shell(world, f'"$@" {command} >/dev/full'), 1)


def test_a_failure_keeps_its_code_where_its_document_goes_nowhere(world):
    assert_fails(in_shell(world, '"$@" list -o json --nope >/dev/full'), 2, "--nope")


@pytest.mark.parametrize("target", [">&-", ">/dev/full"])
def test_a_stream_of_made_sessions_that_goes_nowhere_leaves_none(world, target):
    assert_fails(in_shell(world, f'"$@" create -q -o jsonl --count 2 {target}'), 1, "standard output")
    world.assert_nothing_left(within=2)
    assert world.rows() == []


@pytest.mark.parametrize("target", [">&-", ">/dev/full", "| exec 2>&-"])
@pytest.mark.parametrize("workers", [1, 16])
def test_a_stream_of_outcomes_that_goes_nowhere_keeps_no_session_alive(world, target, workers):
    world.ok("create", "-q", "--count", "3")
    in_shell(world, f'"$@" close --all --yes --force --workers {workers} -o jsonl {target}')
    world.assert_nothing_left(within=2)
    assert world.rows() == []


@pytest.mark.parametrize("target", [">&-", ">/dev/full"])
def test_version_to_nowhere_fails_quietly(world, target):
    ended = in_shell(world, f'"$@" --version {target}')
    assert ended.code == 1
    assert "Traceback" not in ended.err


def test_a_closed_standard_input_is_no_id(world):
    assert_fails(in_shell(world, '"$@" close - <&-'), 1, "standard input")


@pytest.mark.parametrize("command", ["list", "history", "sweep --yes", "config path"])
def test_a_closed_standard_input_does_not_matter_to_what_reads_nothing(world, command):
    assert in_shell(world, f'"$@" {command} <&-').code == 0


@pytest.mark.parametrize(("command", "code"), [("list", 0), ("close a_b_c_d", 1), ("list -o nope", 2), ("nope", 2)])
def test_a_closed_standard_error_changes_no_code(world, command, code):
    assert in_shell(world, f'"$@" {command} 2>&-').code == code


def test_with_all_streams_closed_a_session_is_still_ended_and_the_ledger_sound(world):
    made = world.create()
    in_shell(world, f'"$@" close {made["id"]} <&- >&- 2>&-')
    world.assert_nothing_left(within=2)
    assert world.rows() == []
    assert (world.state / "ledger.sqlite3").read_bytes().startswith(b"SQLite format 3\0")


def test_with_all_streams_closed_a_create_leaves_nothing(world):
    assert in_shell(world, '"$@" create <&- >&- 2>&-').code == 1
    world.assert_nothing_left(within=2)


def test_a_reader_that_leaves_early_is_no_failure(world):
    from bsess.ledger.sqlite import SqliteLedger
    from bsess.model import Event

    ledger = SqliteLedger(world.state)
    ledger.record([Event(time.time(), "closed", "close", "x" * 16, "local", "local", "me") for _ in range(5000)])
    ledger.close()
    for form in ("jsonl", "tsv", "json"):
        ended = in_shell(world, f'"$@" history --since 1h -o {form} | head -1; exit "${{PIPESTATUS[0]}}"')
        assert (ended.code, ended.err, len(ended.lines)) == (0, "", 1)


@pytest.mark.parametrize(
    "variables",
    [{"TERM": "dumb"}, {"NO_COLOR": "1"}, {"TERM": "xterm-256color"}, {"CI": "1"}, {"LANG": "C", "LC_ALL": "C"}],
)
def test_off_a_terminal_no_variable_brings_colour(world, variables):
    ended = world.ok("config", "show", env=variables)
    assert "\x1b" not in ended.out + ended.err


def test_no_color_wins_over_force_color(world):
    out = world.ok("config", "show", "-o", "table", env={"NO_COLOR": "1", "FORCE_COLOR": "1"}).out
    assert not re.search(r"\x1b\[[0-9;]*(3|4|9)[0-7]", out)


def test_force_color_brings_colour_to_a_table_off_a_terminal(world):
    assert "\x1b[" in world.ok("config", "show", "-o", "table", env={"FORCE_COLOR": "1"}).out


@pytest.mark.parametrize("form", ["tsv", "json", "jsonl"])
def test_force_color_never_reaches_what_programs_read(world, form):
    assert "\x1b" not in world.ok("config", "show", "-o", form, env={"FORCE_COLOR": "1"}).out


def test_an_ascii_locale_does_not_keep_other_letters_from_being_told(world):
    assert "owner\tzoë\t" in world.ok("config", "show", env={"LANG": "C", "LC_ALL": "C", "BSESS_OWNER": "zoë"}).out


def test_an_output_encoding_without_a_letter_is_no_bug(world):
    ended = world.run("config", "show", env={"PYTHONIOENCODING": "ascii", "BSESS_OWNER": "zoë"})
    assert ended.code == 0, ended.err


# Flags


@pytest.mark.parametrize(
    "value", ["5", "-5s", "1w", "0s", "99999999d", "nan", "inf", "", "1h30m", "1_0s", "1e3s", "\u0665m"]
)
def test_a_ttl_that_is_none_is_a_usage_error(world, value):
    assert_fails(world.run("create", "--executable", "/bin/false", f"--ttl={value}"), 2)


@pytest.mark.parametrize("flag", ["--ttl", "--timeout", "--deadline"])
def test_a_bare_number_is_refused_with_the_units_named(world, flag):
    assert_fails(world.run("create", flag, "5"), 2, flag, "90s", "15m", "2h", "1d")


@pytest.mark.parametrize(
    "flags", [["close", "--all", "--older-than", "x"], ["sweep", "--min-age", "5"], ["list", "--older-than", "-1s"]]
)
def test_a_bad_age_is_a_usage_error(world, flags):
    assert_fails(world.run(*flags), 2, "not a duration")


@pytest.mark.parametrize("flag", ["--timeout", "--deadline"])
def test_no_time_at_all_is_a_usage_error(world, flag):
    assert_fails(world.run("create", "--executable", "/bin/false", flag, "0s"), 2, flag)


@pytest.mark.parametrize(
    "label", ["", "=x", "a b=1", "a\x1b=1", "a=\x1b", "a=b\nc", "a=\u202e", "k" * 64, "a=" + "v" * 201, "a,b=1"]
)
def test_a_bad_label_is_a_usage_error(world, label):
    ended = world.run("create", "--executable", "/bin/false", "--label", label)
    assert_fails(ended, 2, "--label")
    assert "\x1b" not in ended.err


@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5", "", "1001", "9" * 30])
def test_a_bad_count_is_a_usage_error(world, value):
    assert_fails(world.run("create", "--executable", "/bin/false", f"--count={value}"), 2, "--count")


@pytest.mark.parametrize("value", ["0", "-1", "65", "x", ""])
def test_a_bad_number_of_workers_is_a_usage_error(world, value):
    assert_fails(world.run("create", "--executable", "/bin/false", f"--workers={value}"), 2, "--workers")


@pytest.mark.parametrize("value", ["lang=de", "-x", "", " --x", "http://example.com"])
def test_an_argument_that_is_no_switch_is_a_usage_error(world, value):
    assert_fails(world.run("create", f"--arg={value}"), 2, "--arg")


@pytest.mark.parametrize(
    "value",
    [
        "--user-data-dir=/tmp/x",
        "--user-data-dir",
        "--remote-allow-origins=*",
        "--remote-debugging-port=9222",
        "--remote-debugging-address=0.0.0.0",
        "--remote-debugging-pipe",
    ],
)
def test_an_argument_that_bsess_sets_itself_is_a_usage_error(world, value):
    assert_fails(world.run("create", f"--arg={value}"), 2, value.partition("=")[0])


def test_an_argument_of_the_config_that_bsess_sets_itself_is_a_usage_error(world):
    world.config.write_text('[profiles.local]\nprovider = "local"\nargs = ["--remote-allow-origins=*"]\n')
    assert_fails(world.run("create"), 2, "--remote-allow-origins")


@pytest.mark.parametrize("pid", ["0", "-1", "999999999", "x", "1" * 30])
def test_an_owner_process_that_is_none_is_a_usage_error(world, pid):
    assert_fails(world.run("create", "--executable", "/bin/false", f"--owner-pid={pid}"), 2, "--owner-pid")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["lst"], "list"),
        (["craete"], "create"),
        (["config", "shwo"], "show"),
        (["list", "--mne"], "--mine"),
        (["create", "--lable", "a=b"], "--label"),
        (["close", "--al"], "--all"),
        (["sweep", "--dryrun"], "--dry-run"),
    ],
)
def test_a_typo_gets_did_you_mean(world, arguments, meant):
    ended = world.run(*arguments)
    assert_fails(ended, 2, meant)
    assert "did you mean" in ended.err.lower()


@pytest.mark.parametrize(
    "arguments", [["sweep", "--dry"], ["list", "--orph"], ["close", "--forc", "x"], ["cre"], ["lis"], ["config", "sho"]]
)
def test_abbreviations_are_refused(world, arguments):
    assert_fails(world.run(*arguments), 2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "extra"],
        ["close"],
        ["create", "--ttl"],
        ["close", "--all", "x"],
        ["list", "--mine", "--foreign"],
        ["adopt"],
    ],
)
def test_a_command_line_that_cannot_be_is_a_usage_error(world, arguments):
    assert_fails(world.run(*arguments), 2)


def test_an_unknown_option_with_control_characters_reaches_the_terminal_without_them(world):
    ended = world.run("list", "--\x1b[31mred\u202e")
    assert_fails(ended, 2)
    assert not {"\x1b", "\u202e"} & set(ended.err)


def test_undecodable_arguments_are_a_usage_error(world):
    with world.start("close", b"\xff\xfe", text=False) as process:
        _, err = process.communicate(timeout=30)
    assert_fails(Ended(process.returncode, "", err.decode()), 2)


# The environment


@pytest.mark.parametrize("owner", ["a\x1bb", "a\nb", "x" * 101, " ", "a\u202eb"])
def test_an_owner_that_is_none_is_a_usage_error(world, owner):
    ended = world.run("list", env={"BSESS_OWNER": owner})
    assert_fails(ended, 2, "BSESS_OWNER")
    assert "\u202e" not in ended.err


def test_an_undecodable_owner_is_a_usage_error(world):
    env = {os.fsencode(key): os.fsencode(value) for key, value in world.env.items()} | {b"BSESS_OWNER": b"\xff\xfe"}
    process = subprocess.run([*world.program, "list"], env=env, capture_output=True, text=True, check=False, timeout=30)
    assert_fails(Ended(process.returncode, process.stdout, process.stderr), 2, "BSESS_OWNER")


def test_without_home_the_folders_are_the_users_own(world):
    variables = {key: value for key, value in world.env.items() if key == "PATH"}
    process = subprocess.run(
        [*world.program, "config", "path"], env=variables, capture_output=True, text=True, check=True, timeout=30
    )
    assert process.stdout.startswith(pwd.getpwuid(os.geteuid()).pw_dir)
    assert process.stdout.strip().endswith("/bsess/config.toml")


@AS_ROOT
def test_a_user_whose_home_does_not_exist_fails_in_a_line(ordinary_program):
    program, _ = ordinary_program
    variables = {"PATH": "/usr/bin:/bin"}
    process = subprocess.run([*program, "list"], env=variables, capture_output=True, text=True, check=False, timeout=30)
    assert_fails(Ended(process.returncode, process.stdout, process.stderr), 1, "BSESS_STATE_DIR")
    assert ORDINARY_USER == "nobody"


def test_a_relative_state_folder_is_beneath_the_working_folder(world):
    made = world.create(env={"BSESS_STATE_DIR": "s"})
    assert world.folders() == [made["id"]]
    other = world.folder / "home"
    assert world.ok("close", made["id"], "-o", "json", cwd=other).outcomes[0]["outcome"] == "closed"
    world.assert_nothing_left()


def test_a_working_folder_that_is_gone_does_not_matter(world):
    gone = world.folder / "gone"
    gone.mkdir()
    ended = in_shell(world, f'cd {gone} && rmdir {gone} && "$@" list')
    assert (ended.code, ended.err) == (0, "")


def test_a_very_long_state_path_works(world):
    write_config(world)
    deep = world.folder / ("d" * 60) / ("e" * 60)
    env = {"BSESS_STATE_DIR": str(deep)}
    made = world.create(env=env)
    ended = world.run("close", made["id"], "-o", "json", env=env)
    assert ended.outcomes[0]["outcome"] == "closed"
    assert not list((deep / "local").iterdir())
