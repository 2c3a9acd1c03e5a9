"""Create, list, close and sweep remote browser sessions, and never leak one."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["Client", "__version__"]

TYPE_CHECKING = False  # importing typing for it would cost the holder 13 ms and a megabyte
if TYPE_CHECKING:
    from bsess.client import Client


def __getattr__(name: str) -> object:
    # The command line and the detached holder import this package too, and need none of it.
    if name == "Client":
        from bsess.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
