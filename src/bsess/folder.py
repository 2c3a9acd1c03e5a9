"""The folder of one local session: what lies in it, and how it is deleted.

Imports next to nothing, for the detached holder uses it too.
"""

from __future__ import annotations

import os
import time

MARKER = "session.json"
# Written under this name and renamed, so that a marker is whole or not there.
NEW_MARKER = "session.json.new"
BROWSER = "browser.json"
LOG = "browser.log"
DATA = "data"
TEMPORARY = "t"
CRASHES = "crash"
PORT = "data/DevToolsActivePort"

# Chromium puts a socket at TMPDIR/org.chromium.Chromium.XXXXXX/SingletonSocket, and a socket's path has 107 bytes.
_SOCKET_FOLDER = "/org.chromium.Chromium."
TEMPORARY_MAX = 107 - len(_SOCKET_FOLDER + "XXXXXX/SingletonSocket")


def remove(path: str, *, seconds: float = 1.0) -> bool:
    """Delete a session's folder, its marker last, so that a half-deleted one is still known as ours.

    Dying processes may still write into it: tried again for `seconds`. Tells whether it is gone.
    """
    end = time.monotonic() + seconds
    _remove_socket_folder(path)
    while True:
        if _removed(path):
            return True
        if time.monotonic() >= end:
            return False
        time.sleep(0.01)


def _removed(path: str) -> bool:
    import shutil

    try:
        for name in sorted(os.listdir(path), key=lambda name: name == MARKER):
            entry = path + "/" + name
            if os.path.isdir(entry) and not os.path.islink(entry):
                shutil.rmtree(entry)
            else:
                os.unlink(entry)
        os.rmdir(path)
    except FileNotFoundError:
        return not os.path.lexists(path)
    except OSError:
        return False
    return True


def _remove_socket_folder(path: str) -> None:
    # Where the state folder's path is too long for a socket, Chromium's lies in the machine's temporary folder.
    try:
        target = os.readlink(f"{path}/{DATA}/SingletonSocket")
    except OSError:
        return
    parent = os.path.dirname(target)
    if _SOCKET_FOLDER not in parent or parent.startswith(path + "/"):
        return
    try:
        if os.lstat(parent).st_uid == os.geteuid():
            for name in ("SingletonSocket", "SingletonCookie"):
                if os.path.lexists(f"{parent}/{name}"):
                    os.unlink(f"{parent}/{name}")
            os.rmdir(parent)
    except OSError:
        return
