"""What a long command tells of itself while it runs."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess

import pytest

from bsess.output.progress import Progress
from fake_browserbase import API_KEY
from worlds import write_config


def test_it_tells_how_many_how_fast_and_how_long_still():
    now = [0.0]
    stream = io.StringIO()
    progress = Progress(stream, lambda: now[0])
    progress.expect(2048)
    for _ in range(512):
        now[0] += 1 / 64
        progress.step()
    assert progress.line() == "512 of 2048, 64/s, 24s left"
    assert " of 2048, " in stream.getvalue()
    progress.end()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_what_is_soon_over_is_not_told():
    stream = io.StringIO()
    progress = Progress(stream, lambda: 1.0)
    progress.expect(5)
    progress.step()
    progress.end()
    assert stream.getvalue() == ""


@pytest.fixture
def bb(world, base):
    """A world whose default profile is that project, and whose owner is `me`."""
    world.variables |= {"BROWSERBASE_API_KEY": API_KEY, "BSESS_OWNER": "me", "TERM": "xterm"}
    write_config(world, f'default = "bb"\n[profiles.bb]\nprovider = "browserbase"\nurl = "{base.url}"\n')
    return world


def told(bb, *arguments, **environment):
    """What standard error got, as a terminal."""
    main, side = pty.openpty()
    process = bb.start(*arguments, stderr=side, stdout=subprocess.DEVNULL, env=environment)
    os.close(side)
    seen = b""
    try:
        while chunk := os.read(main, 65536):
            seen += chunk
    except OSError:
        pass  # how Linux tells that the other side is closed
    assert process.wait(60) == 0
    os.close(main)
    return seen.decode()


@pytest.fixture
def many(bb, base):
    """The arguments that close 200 sessions, not all at once."""
    ids = bb.folder / "ids"
    ids.write_text("\n".join(base.put(metadata={"bsess_owner": "me"}) for _ in range(200)))
    base.latency = 0.01
    return ["close", "--file", str(ids)]


def test_a_terminal_sees_the_rate_and_the_time_left(bb, many):
    assert " of 200, " in told(bb, *many)


def test_under_ci_there_is_no_line_that_is_drawn_again(bb, many):
    assert "\x1b" not in told(bb, *many, CI="true")


def orphans(base, count):
    for _ in range(count):
        base.put(metadata={"bsess_owner": "me"}, age=7200, ttl=60)


SUMMARY = "looked at 10000 sessions of bb, local (ledger "


def test_a_sweep_of_10000_tells_a_terminal_how_far_it_is(bb, base):
    orphans(base, 10_000)
    lines = told(bb, "sweep", "--yes").split("\r\x1b[K")
    seen = [match for line in lines if (match := re.fullmatch(r"(\d+) of 10000, (\d+)/s, (.+) left", line))]
    assert len(seen) > 20
    assert [int(match[1]) for match in seen] == sorted(int(match[1]) for match in seen)
    assert lines[-1].startswith(SUMMARY)
    assert lines[-1].endswith("): 10000 closed\r\n")
    assert base.running() == []


def test_a_sweep_of_10000_is_one_line_elsewhere(bb, base):
    orphans(base, 10_000)
    swept = bb.ok("sweep", "--yes", timeout=300)
    assert len(swept.lines) == 10_000
    assert swept.err.startswith(SUMMARY)
    assert swept.err.endswith("): 10000 closed\n")
    assert swept.err.count("\n") == 1
    assert base.running() == []
