"""What /proc says about a server: its processes, their memory, descriptors and threads."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def session_of(leader: int) -> list[int]:
    """The live processes of the session that `leader` opened, zombies left out."""
    found = []
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # "pid (name) state ppid pgrp session ...": the name may hold blanks and parentheses.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        # Of a process that was killed, the first thread may be a zombie while another is still at the disk.
        if int(fields[3]) == leader and (fields[0] != "Z" or int(fields[17]) > 1):
            found.append(int(entry.name))
    return sorted(found)


def status_kib(pid: int, field: str) -> int:
    """A size in KiB from /proc/PID/status: VmRSS, VmHWM."""
    return _status(pid, field)


def parent(pid: int) -> int:
    """The process that this one belongs to."""
    return _status(pid, "PPid")


def _status(pid: int, field: str) -> int:
    for line in (PROC / str(pid) / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0])
    raise LookupError(field)


def forget_peak(pid: int) -> None:
    """Make VmHWM, the highest resident size so far, begin again at the present one."""
    (PROC / str(pid) / "clear_refs").write_text("5")


def descriptors(pid: int) -> list[str]:
    """What each open descriptor of the process points at."""
    found = []
    for entry in (PROC / str(pid) / "fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(entry.readlink()))
    return sorted(found)


def thread_count(pid: int) -> int:
    """How many threads the process has."""
    return len(list((PROC / str(pid) / "task").iterdir()))
