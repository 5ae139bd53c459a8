"""The clock is put back by days under a server at work; not the machine's own, which is everybody's."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from tests.integration.conftest import StartServer
from tests.support.receiver import Answer, Receiver
from tests.support.server import Server, free_port, run_request

TIMEOUT = 5.0


def ended_by_its_timeout(server: Server, run_id: str) -> None:
    """Fail unless the run was killed by its own timeout, and after it began."""
    state = server.wait_done(run_id, within=60)
    assert (state["status"], state["reason"], state["logs"]) == ("failed", "timeout", ["up"]), state
    assert state["finishedAt"] >= state["startedAt"]
    assert TIMEOUT * 1000 <= state["durationMs"] < 60_000, state


def test_a_clock_that_is_put_back(start_server: StartServer, receiver: Receiver, tmp_path: Path) -> None:
    offset, port = tmp_path / "offset", free_port()

    def put(days: int) -> None:
        # At once: the server looks whenever it wants to know the time.
        (tmp_path / "next").write_text(f"{days * 86_400}")
        os.replace(tmp_path / "next", offset)

    put(0)
    command = [sys.executable, "-m", "tests.support.put_back", str(offset), "serve", "--port", str(port)]
    settings = {"LIGHT_RUN_CALLBACK_PAUSE": "0.2"}
    server = start_server(command=command, port=port, settings=settings)
    long = {"entrypoint": "echo up; sleep 600", "timeout": int(TIMEOUT * 1000)}
    before = server.start(**long)
    server.wait_output(before, "up")
    put(-2)
    assert time.strftime("%d %b %Y", time.gmtime()) not in server.get("/health").headers["Date"]

    # Calls, waits, retries and keys go by the steady clock, and the list by the order of acceptance.
    receiver.answer = lambda request, number: Answer(500 if number < 2 else 204)
    key = {"Idempotency-Key": "once"}
    after = server.run(entrypoint="echo after", callbackUrl=f"{receiver.url}/after")
    receiver.wait(3)
    assert after["finishedAt"] >= after["startedAt"]
    assert after["startedAt"] < server.state(before)["startedAt"]
    ended_by_its_timeout(server, before)
    again = [
        server.request("POST", "/run", json=run_request(**long, detached=True), headers=key) for _ in range(2)
    ]
    (last,) = {answer.json()["id"] for answer in again}
    ids = [last, after["id"], before]
    assert [each["id"] for each in server.get("/runs").json()] == ids

    # A server that finds a run from the future gives it its own time, and no more.
    server.wait_output(last, "up")
    put(-4)
    server.kill()
    server = start_server(command=command, port=port, settings=settings)
    assert [each["id"] for each in server.get("/runs").json()] == ids
    ended_by_its_timeout(server, last)
    server.wait_clean()
