"""Starting a holder: its order goes through a pipe, for arguments and environment are there for all to read."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a holder may need beyond the time that its session may take to start.
SLACK_SECONDS = 10.0


def launch(
    kind: str, name: str, order: Mapping[str, object], *, environment: Mapping[str, str], seconds: float
) -> dict[str, object] | None:
    """Start the holder of that kind for a session and return its answer; None where it died without one.

    `name` stands in its arguments; `seconds` is how long the session may take to start.
    """
    holder = subprocess.Popen(  # noqa: S603  our own interpreter and file
        [sys.executable, "-I", "-S", str(Path(__file__).parent / f"{kind}.py"), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(environment),
        cwd="/",
    )
    try:
        with holder:
            if holder.stdin is None or holder.stdout is None:  # pragma: no cover  both are pipes
                raise AssertionError
            holder.stdin.write(json.dumps(order).encode() + b"\n")
            holder.stdin.flush()
            answer = _read_answer(holder.stdout.fileno(), seconds + SLACK_SECONDS)
    except BrokenPipeError:  # closing the pipe tries once more to write what was left
        return None
    if not answer.endswith(b"\n"):
        return None
    found: dict[str, object] = json.loads(answer)
    return found


def _read_answer(handle: int, seconds: float) -> bytes:
    end = time.monotonic() + seconds
    data = b""
    while not data.endswith(b"\n"):
        ready, _, _ = select.select([handle], [], [], max(0.0, end - time.monotonic()))
        chunk = os.read(handle, 65536) if ready else b""
        if not chunk:
            break
        data += chunk
    return data
