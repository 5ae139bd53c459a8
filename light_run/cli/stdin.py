"""Passes this process's stdin on to an interactive run."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING

from light_run.cli.server import connect, print_error, sentence
from light_run.errors import LightRunError, RunNotActive, StdinClosed

if TYPE_CHECKING:
    from light_run.client import Client

_PIECE = 1 << 16
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


def pass_on_stdin(url: str | None, run_id: str) -> None:
    """Send what is read from stdin to the run, in a thread that ends with stdin, with the run or with this process."""
    # A daemon: nothing can end a read from a terminal.
    threading.Thread(target=_pass_on, args=(url, run_id), name="stdin", daemon=True).start()


def _pass_on(url: str | None, run_id: str) -> None:
    # With a connection of its own, as that of the output is in use.
    try:
        with connect(url) as client:
            # Proxies have less patience than a queue is long.
            _await_start(client, run_id)
            # A terminal gives a line at a time, a pipe what there is.
            while data := os.read(sys.stdin.fileno(), _PIECE):
                client.write_stdin(run_id, data)
            client.write_stdin(run_id, close=True)
    except (StdinClosed, RunNotActive):
        # The command reads no more.
        return
    except (LightRunError, OSError) as error:
        print_error(f"stdin is not passed on any more: {sentence(error)}")


def _await_start(client: Client, run_id: str) -> None:
    pause = _FIRST_PAUSE
    while not (run := client.get(run_id)).ended and run.phase not in ("running", "paused"):
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
