"""Tables with rich, on a terminal only: importing it costs 57 ms, and each row half a millisecond."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bsess.output.grid import Grid

# What stays in one piece, an id above all; everything else is folded where the terminal is too narrow.
_WHOLE = frozenset({"ID", "TIME", "EVENT", "STATUS", "AGE", "ENDS IN", "DECISION"})
_WHOLE_MAX = 40
# These too where they are short: a word broken in three is no word.
_WHOLE_IF_SHORT = frozenset({"PROFILE", "OWNER"})
_SHORT_MAX = 12
_GAP = 2
_STYLES = {
    "end": "red",
    "failed": "red",
    "stuck": "red",
    "unknown": "yellow",
    "closing": "yellow",
    "starting": "yellow",
    "running": "green",
    "closed": "green",
    "mine": "bold",
}


def show(grids: Sequence[Grid], stream: TextIO, *, colour: bool) -> None:
    """Print tables over the width that the terminal has; ids are folded where they must be, never cut."""
    console = _console(stream, colour=colour)
    for grid in grids:
        console.print(_table(grid, console.width))


def watch(
    look: Callable[[], tuple[Sequence[Grid], str]], stream: TextIO, *, colour: bool, pause: Callable[[], None]
) -> None:
    """Show what `look` returns again and again, until `pause` raises."""
    console = _console(stream, colour=colour)
    with Live(console=console, auto_refresh=False, screen=False) as live:
        while True:
            grids, line = look()
            live.update(Group(*(_table(grid, console.width) for grid in grids), Text(line, style="dim")), refresh=True)
            pause()


def _console(stream: TextIO, *, colour: bool) -> Console:
    return Console(
        file=stream,
        no_color=not colour,
        color_system="auto" if colour else None,
        force_terminal=True if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
    )


def _table(grid: Grid, room: int) -> Table:
    widths = [max(len(line[index]) for line in (grid.headers, *grid.rows)) for index in range(len(grid.headers))]
    fits = sum(widths) + _GAP * (len(widths) - 1) <= room
    table = Table(box=None, padding=(0, _GAP if fits else 1, 0, 0), pad_edge=False, header_style="bold")
    for header, width in zip(grid.headers, widths, strict=True):
        whole = (header in _WHOLE and width <= _WHOLE_MAX) or (header in _WHOLE_IF_SHORT and width <= _SHORT_MAX)
        table.add_column(header, overflow="fold", no_wrap=whole)
    for row in grid.rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    return table
