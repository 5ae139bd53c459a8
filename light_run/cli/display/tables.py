"""Formats tables, times and sizes: readable on a terminal, tab-separated otherwise."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any, Protocol

import click

_COLOURS = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan", "queued": "blue"}
_SHORT = 12


class Bar(Protocol):
    """A progress bar."""

    def update(self, n_steps: int, /) -> None:
        """Advance by `n_steps`."""


class _NoBar:
    def update(self, n_steps: int, /) -> None:
        """Do nothing."""


def on_terminal() -> bool:
    """Return True if stdout is a terminal."""
    return sys.stdout.isatty()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print `rows` in columns under `head`; if stdout is no terminal, tab-separated and without `head`."""
    if not on_terminal():
        for row in rows:
            click.echo("\t".join(printable(cell) for cell in row))
        return
    shown = [head, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in shown) for column in range(len(head))]
    for number, row in enumerate(shown):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        line = "  ".join(_coloured(cell) for cell in cells).rstrip() if number else "  ".join(cells).rstrip()
        click.echo(line if number else click.style(line, bold=True))


def _coloured(cell: str) -> str:
    colour = _COLOURS.get(cell.rstrip())
    return click.style(cell, fg=colour) if colour else cell


def printable(text: str) -> str:
    """Escape control characters and line breaks in `text`, which may come from a container."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def short(run_id: str) -> str:
    """Return the id to print: shortened on a terminal, the whole id otherwise."""
    return run_id[:_SHORT] if on_terminal() else run_id


def moment(time: datetime) -> str:
    """Format `time` as the server does: RFC 3339, UTC, milliseconds."""
    return time.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def age(time: datetime | None, now: datetime | None = None) -> str:
    """Format how long ago `time` was; if stdout is no terminal, format the time itself."""
    if time is None:
        return ""
    if not on_terminal():
        return moment(time)
    return f"{duration(((now or datetime.now(timezone.utc)) - time).total_seconds())} ago"


def duration(seconds: float) -> str:
    """Format seconds in the largest fitting unit: ``0.5 s``, ``3 min``, ``2 h``, ``4 d``."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds / size)} {unit}"
    return f"{max(seconds, 0):.1f} s" if seconds < 10 else f"{int(seconds)} s"


@contextmanager
def bar(label: str, length: int) -> Iterator[Bar]:
    """Yield a progress bar for `length` bytes on stderr; if stderr is no terminal, one that prints nothing."""
    if not sys.stderr.isatty() or not length:
        yield _NoBar()
        return
    found: Any = click.progressbar(
        length=length,
        label=label,
        file=sys.stderr,
        show_pos=False,
        item_show_func=lambda _: None,
        update_min_steps=max(1, length // 1000),
    )
    with found as made:
        yield made
        # click before 8.5 does not show the last few steps.
        made.update(length)
