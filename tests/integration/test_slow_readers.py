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
SIZE = 20_000_000
# Cut off in a line, which gets its newline in what is sent.
OUTPUT = 10_000_000
SETTINGS = {
    "LIGHT_RUN_THREADS": str(THREADS),
    "LIGHT_RUN_MAX_FOLLOWERS": "0",
    "LIGHT_RUN_SEND_TIMEOUT": "1",
    "LIGHT_RUN_PARKED_MAX": "0",
}


@dataclass(frozen=True)
class Much:
    """A server, and a run on it that left much of everything."""

    server: Server
    run_id: str


@pytest.fixture(scope="module")
def much(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Much]:
    """A server that waits a second for its clients."""
    with running_server(tmp_path_factory.mktemp("much"), settings=SETTINGS) as server:
        command = f"head -c {SIZE} /dev/urandom > big; yes yes yes yes yes yes yes | head -c {OUTPUT}"
        run_id = server.start(entrypoint=command, extract=["big"])
        assert server.wait_done(run_id)["status"] == "succeeded"
        yield Much(server, run_id)


@pytest.mark.parametrize("rest", ["/artifacts/big", "/artifacts?archive=zip", "", "/logs?format=text"])
def test_who_reads_nothing_is_dropped(much: Much, rest: str) -> None:
    server = much.server
    path = f"/runs/{much.run_id}{rest}"
    dropped = server.stderr.count("a client was dropped")
    with ExitStack() as stalled:
        connections = [stalled.enter_context(never_reading(server, path)) for _ in range(2 * THREADS)]
        # Behind all of them, in a queue for the same threads.
        assert server.get("/health").status_code == 200
        eventually(
            lambda: server.stderr.count("a client was dropped") == dropped + 2 * THREADS, "all are dropped"
        )
        assert all(was_reset(connection) for connection in connections)
    assert "Traceback" not in server.stderr


def test_who_reads_gets_everything(much: Much) -> None:
    server, run_id = much.server, much.run_id
    assert len(server.artifact(run_id, "big").content) == SIZE
    assert len(server.get(f"/runs/{run_id}/logs?format=text").content) == OUTPUT + 1
