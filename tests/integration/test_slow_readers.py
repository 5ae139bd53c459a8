"""Clients that ask for much and read nothing: dropped after a while, and their threads are free again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.support.follow import never_reading, was_reset
from tests.support.poll import eventually
from tests.support.server import Server, running_server

THREADS = 4
# Long enough for whoever does read.
SECONDS = 4
SIZE = 20_000_000
# Cut off in a line, which gets its newline in what is sent.
OUTPUT = 10_000_000
SETTINGS = {
    "LIGHT_RUN_THREADS": str(THREADS),
    "LIGHT_RUN_MAX_FOLLOWERS": "0",
    "LIGHT_RUN_SEND_TIMEOUT": str(SECONDS),
    "LIGHT_RUN_PARKED_MAX": "0",
}


@dataclass(frozen=True)
class Much:
    """A server, and a run on it that left much of everything."""

    server: Server
    run_id: str


@pytest.fixture(scope="module")
def much(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Much]:
    """A server that waits a few seconds for its clients."""
    with running_server(tmp_path_factory.mktemp("much"), settings=SETTINGS) as server:
        command = f"head -c {SIZE} /dev/urandom > big; yes yes yes yes yes yes yes | head -c {OUTPUT}"
        run_id = server.start(entrypoint=command, extract=["big"])
        # Its own state has all of the output.
        eventually(lambda: server.get("/runs?limit=1").json()[0]["status"] == "succeeded", "it has ended")
        yield Much(server, run_id)


def test_who_reads_nothing_is_dropped(much: Much) -> None:
    server = much.server
    asked = ["/artifacts/big", "/artifacts?archive=zip", "", "/logs?format=text"] * 2
    assert len(asked) == 2 * THREADS
    with ExitStack() as stalled:
        connections = {
            stalled.enter_context(never_reading(server, f"/runs/{much.run_id}{rest}")): rest for rest in asked
        }
        # Behind all of them, in a queue for the same threads.
        assert server.get("/health").status_code == 200
        eventually(lambda: server.stderr.count("the client did not read") == len(asked), "all are dropped")
        assert [rest for connection, rest in connections.items() if not was_reset(connection)] == []
    assert "Traceback" not in server.stderr


def test_who_reads_gets_everything(much: Much) -> None:
    server, run_id = much.server, much.run_id
    assert len(server.artifact(run_id, "big").content) == SIZE
    assert len(server.get(f"/runs/{run_id}/logs?format=text").content) == OUTPUT + 1
