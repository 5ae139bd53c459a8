"""Looking after a run: its image on the way, its output as it comes, its files, its exit code."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from light_run.cli import tables
from light_run.cli.server import FAILED, complain

if TYPE_CHECKING:
    from light_run.client import Client, LogLine, Run

TIMED_OUT = 124
CANCELLED = 130
OUT_OF_MEMORY = 137

_LOOK = 0.2
_GLANCE = 0.05
_PREPARING = frozenset({"pulling", "building"})


def exit_code(run: Run) -> int:
    """The exit code that stands for a run that has ended: the container's own, where that says enough."""
    if run.succeeded:
        return 0
    if run.reason == "timeout":
        return TIMED_OUT
    if run.status == "cancelled":
        return CANCELLED
    return run.exit_code or (OUT_OF_MEMORY if run.reason == "out_of_memory" else FAILED)


def say_end(run: Run) -> None:
    """Say on stderr why a run ended, where it did not simply exit, and what could not be extracted."""
    if run.error:
        complain(tables.printable(run.error))
    elif killed := run.usage.get("oomKills"):
        complain(f"killed at the memory limit: {killed} of its processes, while the command went on")
    for entry in run.extracted:
        if entry.status != "ok":
            complain(f"{tables.printable(entry.path)}: {tables.printable(entry.error or entry.status)}")


def say(line: LogLine) -> None:
    """Write a line of output to where it belongs, at once."""
    stream = (sys.stderr if line.stream == "stderr" else sys.stdout).buffer
    stream.write(line.text.encode("utf-8", "replace") + b"\n")
    stream.flush()


def follow(client: Client, run_id: str) -> Run:
    """Show all of a run to its end."""
    if sys.stderr.isatty():
        show_preparation(client, run_id)
    for line in client.logs(run_id, follow=True):
        say(line)
    return client.wait(run_id)


def show_preparation(client: Client, run_id: str) -> None:
    """Show a bar for as long as a run's image is pulled or built."""
    run, pause = client.get(run_id), _GLANCE
    # A run that has just left the queue has no phase yet.
    while not run.ended and (run.phase is None or run.phase in _PREPARING):
        if run.phase in _PREPARING:
            run = _show_phase(client, run)
        else:
            time.sleep(pause)
            pause = min(2 * pause, _LOOK)
            run = client.get(run_id)


def download(client: Client, run: Run, folder: Path) -> None:
    """Fetch all that a run left into `folder`."""
    total = sum(artifact.bytes for artifact in run.artifacts)
    with tables.bar("downloading", total) as bar:
        client.download_all(run.id, folder, progress=bar.update)


def _show_phase(client: Client, run: Run) -> Run:
    phase = run.phase
    with click.progressbar(length=1, label=phase, file=sys.stderr, show_eta=False) as bar:
        while run.phase == phase:
            # The engine learns how much there is while it comes.
            bar.label, bar.length, bar.pos = _how_far(run)
            bar.finished = False
            bar.render_progress()
            time.sleep(_LOOK)
            run = client.get(run.id)
        bar.pos = bar.length or 1
        bar.render_progress()
    return run


def _how_far(run: Run) -> tuple[str, int, int]:
    found = run.progress if isinstance(run.progress, dict) else {}
    done = int(found.get("done", 0))
    if found.get("totalBytes"):
        what = f"{run.phase} {done}/{found.get('layers', '?')} layers"
        return what, int(found["totalBytes"]), min(int(found["currentBytes"]), int(found["totalBytes"]))
    return str(run.phase), int(found.get("steps") or found.get("layers") or 1), done
