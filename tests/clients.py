"""A CDP client as users have one."""

from __future__ import annotations

from playwright.sync_api import Error

ATTEMPTS = 4
SECONDS = 40


def connect(playwright, url):
    """Connect Playwright to a browser.

    Once in some hundred runs its attach never ends although the browser answers (Playwright 1.65, Chromium 156, on a
    busy machine): then a new connection does it.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return playwright.chromium.connect_over_cdp(url, timeout=SECONDS * 1000)
        except Error:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError
