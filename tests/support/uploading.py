"""Uploads of any size that are not held in memory, and the memory that they cost the server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from tests.support.engine import BUSYBOX
from tests.support.multipart import BOUNDARY, TYPE, part, request_part
from tests.support.server import RunState, Server

MIB = 1024 * 1024

T = TypeVar("T")


def upload(server: Server, size: int) -> RunState:
    """The final state of a run that counts the bytes of its one file, of `size` bytes, sent piece by piece."""
    pieces = _Pieces(size)
    response = server.request("POST", "/run", data=pieces, headers={"Content-Type": TYPE})
    assert response.status_code == 200, response.text
    state: RunState = response.json()
    return state


def run_folders(server: Server) -> list[str]:
    """Workspaces that no parked container has."""
    return [name for name in server.workspaces() if not name.startswith("parked-")]


def peak_rise(server: Server, do: Callable[[], T]) -> tuple[int, T]:
    """By how many bytes the most memory that the server's processes ever had rose while `do`, and its result."""
    # What they hold now, as if they had never had more.
    for pid in server.processes():
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = _peaks(server)
    result = do()
    after = _peaks(server)
    return sum(after[pid] - before[pid] for pid in before if pid in after), result


def _peaks(server: Server) -> dict[int, int]:
    found = {}
    for pid in server.processes():
        match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        found[pid] = int(match[1]) * 1024 if match else 0
    return found


class _Pieces:
    # Has a length, so that requests sends one, and is read from its begin to its end.
    def __init__(self, size: int) -> None:
        request = request_part(image=BUSYBOX, network="none", entrypoint="wc -c < large")
        self._head = request + part("file", "", "large")[:-2]
        self._tail = f"\r\n--{BOUNDARY}--\r\n".encode()
        self._size = size

    def __len__(self) -> int:
        return len(self._head) + self._size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        piece = bytes(range(256)) * 1024
        for start in range(0, self._size, len(piece)):
            yield piece[: self._size - start]
        yield self._tail
