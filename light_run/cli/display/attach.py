"""Attaches to a run: shows image progress and output, downloads its files, and returns its exit code."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from light_run.cli.display import tables
from light_run.cli.display.terminal import OutputWriter
from light_run.cli.server import FAILED, print_error

if TYPE_CHECKING:
    from light_run.client import Client, LogLine, OutputPiece, Run

TIMED_OUT = 124
CANCELLED = 130
OUT_OF_MEMORY = 137

_POLL_INTERVAL = 0.2
_FIRST_POLL_INTERVAL = 0.05
_PREPARING = frozenset({"pulling", "building"})


def exit_code(run: Run) -> int:
    """Return the exit code of this command for `run`, which has ended: usually the container's own."""
    if run.succeeded:
        return 0
    if run.reason == "timeout":
        return TIMED_OUT
    if run.status == "cancelled":
        return CANCELLED
    return run.exit_code or (OUT_OF_MEMORY if run.reason == "out_of_memory" else FAILED)


def report_end(run: Run) -> None:
    """Print to stderr the error of `run`, if it has one, and each path that could not be extracted."""
    if run.error:
        print_error(tables.printable(run.error))
    elif killed := run.usage.get("oomKills"):
        print_error(f"killed at the memory limit: {killed} of its processes, while the command went on")
    for entry in run.extracted:
        if entry.status != "ok":
            print_error(f"{tables.printable(entry.path)}: {tables.printable(entry.error or entry.status)}")


def write_line(writer: OutputWriter, line: LogLine) -> None:
    """Write a line of output."""
    writer.write(line.stream, line.text.encode("utf-8", "replace") + b"\n")


def write_output(pieces: Iterable[OutputPiece], *, raw: bool) -> None:
    """Write output as it comes, on a terminal filtered unless it is `raw`."""
    with contextlib.closing(OutputWriter(raw=raw)) as writer:
        for piece in pieces:
            writer.write(piece.stream, piece.data)


def follow(client: Client, run_id: str, *, raw: bool = False) -> Run:
    """Print the output of a run until it ends, and return its final state."""
    if sys.stderr.isatty():
        show_preparation(client, run_id)
    write_output(client.attach(run_id), raw=raw)
    return client.wait(run_id)


def show_preparation(client: Client, run_id: str) -> None:
    """Show a progress bar while the image of a run is pulled or built."""
    run, pause = client.get(run_id), _FIRST_POLL_INTERVAL
    # A run that has just left the queue has no phase yet.
    while not run.ended and (run.phase is None or run.phase in _PREPARING):
        if run.phase in _PREPARING:
            run = _show_phase(client, run)
        else:
            time.sleep(pause)
            pause = min(2 * pause, _POLL_INTERVAL)
            run = client.get(run_id)


def download(client: Client, run: Run, folder: Path) -> None:
    """Download all artifacts of `run` into `folder`."""
    total = sum(artifact.bytes for artifact in run.artifacts)
    with tables.bar("downloading", total) as bar:
        client.download_all(run.id, folder, progress=bar.update)


def _show_phase(client: Client, run: Run) -> Run:
    phase = run.phase
    with click.progressbar(length=1, label=phase, file=sys.stderr, show_eta=False) as bar:
        while run.phase == phase:
            # The total can grow while the image is pulled.
            bar.label, bar.length, bar.pos = _pull_progress(run)
            bar.finished = False
            bar.render_progress()
            time.sleep(_POLL_INTERVAL)
            run = client.get(run.id)
        bar.pos = bar.length or 1
        bar.render_progress()
    return run


def _pull_progress(run: Run) -> tuple[str, int, int]:
    found = run.progress if isinstance(run.progress, dict) else {}
    done = int(found.get("done", 0))
    if found.get("totalBytes"):
        what = f"{run.phase} {done}/{found.get('layers', '?')} layers"
        return what, int(found["totalBytes"]), min(int(found["currentBytes"]), int(found["totalBytes"]))
    return str(run.phase), int(found.get("steps") or found.get("layers") or 1), done
