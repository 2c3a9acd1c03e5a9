"""What a long command tells of itself while it runs."""

from __future__ import annotations

import io
import os
import pty

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


def told(world, base, **environment):
    """What standard error got, as a terminal, of a close of many."""
    world.variables |= {"BROWSERBASE_API_KEY": API_KEY, "BSESS_OWNER": "me", "TERM": "xterm", **environment}
    write_config(world, f'default = "bb"\n[profiles.bb]\nprovider = "browserbase"\nurl = "{base.url}"\n')
    ids = world.folder / "ids"
    ids.write_text("\n".join(base.put(metadata={"bsess_owner": "me"}) for _ in range(200)))
    base.latency = 0.01
    main, side = pty.openpty()
    process = world.start("close", "--file", str(ids), stderr=side)
    os.close(side)
    seen = b""
    try:
        while chunk := os.read(main, 65536):
            seen += chunk
    except OSError:
        pass  # how Linux tells that the other side is closed
    process.communicate(timeout=60)
    os.close(main)
    assert process.returncode == 0
    return seen.decode()


def test_a_terminal_sees_the_rate_and_the_time_left(world, base):
    assert " of 200, " in told(world, base)


def test_under_ci_there_is_no_line_that_is_drawn_again(world, base):
    assert "\x1b" not in told(world, base, CI="true")
