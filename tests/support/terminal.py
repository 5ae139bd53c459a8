"""Commands on a terminal of their own, and what they write there."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path


def on_terminal(
    command: Sequence[str],
    environ: Mapping[str, str],
    folder: Path,
    *,
    when: Mapping[bytes, Callable[[], object]] | None = None,
    within: float = 60.0,
) -> tuple[int, str]:
    """Run `command` with a terminal as stdin, stdout and stderr; its exit code, and all that it wrote.

    `when` has what to call once something has been written.
    """
    waiting = dict(when or {})
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            command, env={**environ, "TERM": "xterm"}, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs
        )
    finally:
        os.close(theirs)
    written = b""
    # The terminal says EIO once nobody has its other end any more.
    with suppress(OSError):
        while block := os.read(ours, 65536):
            written += block
            for each in [each for each in waiting if each in written]:
                waiting.pop(each)()
    os.close(ours)
    try:
        return process.wait(within), written.decode().replace("\r\n", "\n")
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        raise
