"""What a client is told of a failure: what failed and why, without a path of this host or of the engine's."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable

# Where engines keep what is theirs, unless their configuration has it elsewhere.
_ENGINE_FOLDERS = (
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/run/docker",
    "/run/docker",
    "/run/containerd",
    "/run/containers",
    "/run/user",
)
_HIDDEN = "[a path of the host]"

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}
_MEMORY = {errno.ENOMEM, errno.EAGAIN}

# By the step of the run, as `Stopwatch` names them.
_STEPS = {
    "image": "its image was prepared",
    "start": "its files were written and its container was started",
    "run": "it ran",
    "extract": "its files were extracted",
}


def os_error_message(error: OSError, step: str | None) -> str:
    """Return a sentence about `error` of this process in `step` of a run, None for its beginning."""
    if error.errno in _DISK:
        what = "the server's disk failed"
    elif error.errno in _DESCRIPTORS:
        what = "the server has too many files open"
    elif error.errno in _MEMORY:
        what = "the server's host has no memory or no processes left"
    else:
        what = "the server could not do its part of the run"
    when = f" while {_STEPS[step]}" if step in _STEPS else ""
    # Not the error's own words, which have the path.
    why = os.strerror(error.errno) if error.errno else type(error).__name__
    return f"{what}{when}: {why}"


def hide_paths(text: str, folders: Iterable[str]) -> str:
    """Replace every path at or below one of `folders`, or of the folders that engines usually have, in `text`."""
    known = sorted({each.rstrip("/") for each in (*folders, *_ENGINE_FOLDERS)} - {""}, key=len, reverse=True)
    # As far as a path goes in the engine's sentences; what is called alike, such as /var/lib/dockerish, stays.
    pattern = rf"(?<![\w./-])(?:{'|'.join(map(re.escape, known))})(?![\w.-])(?:/[^\s\"'`,:;=()\[\]{{}}<>]*)?"
    return re.sub(pattern, _HIDDEN, text)
