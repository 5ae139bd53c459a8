"""Runs whose standard input is written while they are at work."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from light_run import RunSpec
from light_run.client import Client
from light_run.engine import Destinations
from light_run.errors import RunNotActive, StdinClosed
from tests.integration.conftest import StartServer
from tests.integration.engine.ways import ways
from tests.support.engine import BUSYBOX
from tests.support.poll import eventually
from tests.support.server import TOKEN, Server

MIB = 1024 * 1024


def write(server: Server, run_id: str, data: Any = b"", **query: str) -> requests.Response:
    """POST `data` to the run's stdin."""
    return server.request("POST", f"/runs/{run_id}/stdin", data=data, params=query)


@pytest.mark.parametrize("env", [{}, {"BASH_ENV": "never through a shell"}])
def test_lines_come_as_they_are_written(server: Server, env: dict[str, str]) -> None:
    run_id = server.start(
        entrypoint="while read -r line; do echo got $line; done; echo end", interactive=True, env=env
    )
    for line in ("one", "two"):
        assert write(server, run_id, f"{line}\n".encode()).status_code == 204
        server.wait_output(run_id, f"got {line}")
    assert write(server, run_id).status_code == 204
    assert write(server, run_id, b"three\n", close="true").status_code == 204
    again = write(server, run_id, b"four\n")
    assert again.json()["error"] in ("stdin_closed", "not_found_or_done")
    state = server.wait_done(run_id)
    assert (state["status"], state["logs"]) == ("succeeded", ["got one", "got two", "got three", "end"])
    gone = write(server, run_id)
    assert (gone.status_code, gone.json()["error"]) == (404, "not_found_or_done")


def test_after_the_end_of_the_input_there_is_no_more(server: Server) -> None:
    run_id = server.start(entrypoint="cat; echo end; sleep 60", interactive=True, input=[1])
    assert write(server, run_id, b" and more\n", close="true").status_code == 204
    server.wait_output(run_id, "end")
    assert server.state(run_id)["logs"] == ["[1] and more", "end"]
    for query in ({}, {"close": "true"}):
        late = write(server, run_id, b"x", **query)
        assert (late.status_code, late.json()["error"]) == (409, "stdin_closed")
    server.cancel(run_id)


def test_a_body_in_chunks(server: Server) -> None:
    run_id = server.start(entrypoint="cat", interactive=True)
    assert write(server, run_id, iter([b"one\n", b"two\n"]), close="true").status_code == 204
    assert server.wait_done(run_id)["logs"] == ["one", "two"]


def test_a_command_that_does_not_read_is_waited_for_and_one_that_never_does_ends_all_the_same(
    server: Server,
) -> None:
    run_id = server.start(entrypoint="until [ -e /tmp/go ]; do sleep 0.05; done; wc -c", interactive=True)
    with ThreadPoolExecutor() as threads:
        large = threads.submit(write, server, run_id, b"x" * 8 * MIB, close="true")
        eventually(lambda: server.state(run_id).get("phase") == "running", "it is at work")
        time.sleep(0.5)
        assert not large.done()
        assert server.cancel(run_id).status_code == 204
        refused = large.result(30)
    assert refused.json()["error"] in ("stdin_closed", "not_found_or_done")
    reading = server.start(entrypoint="sleep 0.5; wc -c", interactive=True)
    assert write(server, reading, b"x" * 8 * MIB, close="true").status_code == 204
    assert server.wait_done(reading)["logs"] == [str(8 * MIB)]


def test_what_is_written_before_the_start_is_there_at_the_start(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_MAX_CONCURRENCY": "1"})
    first = server.start(entrypoint="sleep 60")
    eventually(lambda: server.state(first)["status"] == "running", "the only slot is taken")
    run_id = server.start(entrypoint="cat", interactive=True)
    with ThreadPoolExecutor() as threads:
        early = threads.submit(write, server, run_id, b"early", close="true")
        time.sleep(0.5)
        assert not early.done()
        server.cancel(first)
        assert early.result(60).status_code == 204
    assert server.wait_done(run_id)["logs"] == ["early"]
    waiting = [server.start(entrypoint="sleep 60"), server.start(entrypoint="cat", interactive=True)]
    with ThreadPoolExecutor() as threads:
        early = threads.submit(write, server, waiting[1], b"never")
        time.sleep(0.2)
        for each in reversed(waiting):
            server.cancel(each)
        assert early.result(30).status_code == 404


def test_requests_that_cannot_be(server: Server) -> None:
    refused = server.post_run(entrypoint="cat", interactive=True)
    assert (refused.status_code, refused.json()["details"][0]["path"]) == (400, ["interactive"])
    run_id = server.start(entrypoint="sleep 60")
    assert (write(server, run_id, b"x").status_code, write(server, run_id).status_code) == (409, 409)
    assert write(server, run_id, close="maybe").json()["details"][0]["path"] == ["close"]
    assert write(server, "unknown").status_code == 404
    server.cancel(run_id)


def test_a_restart_ends_the_input_and_the_run_goes_on(start_server: StartServer) -> None:
    server = start_server()
    run_id = server.start(entrypoint="cat; echo end; sleep 2; echo on", interactive=True)
    assert write(server, run_id, b"before\n").status_code == 204
    server.kill()
    again = start_server()
    late = write(again, run_id, b"after\n")
    assert late.json()["error"] in ("stdin_closed", "not_found_or_done")
    state = again.wait_done(run_id)
    assert (state["status"], state["logs"]) == ("succeeded", ["before", "end", "on"])


def test_the_client(server: Server) -> None:
    with Client(server.url, TOKEN) as client:
        run = client.submit(BUSYBOX, "cat", interactive=True)
        client.write_stdin(run.id, b"by the client\n")
        client.write_stdin(run.id, close=True)
        assert client.wait(run.id).logs == ("by the client",)
        with pytest.raises(RunNotActive):
            client.write_stdin(run.id, b"late")
        other = client.submit(BUSYBOX, "sleep 60")
        with pytest.raises(StdinClosed):
            client.write_stdin(other.id, b"x")
        client.cancel(other.id)


def test_the_command_passes_on_what_is_piped_as_it_comes(server: Server) -> None:
    environ = {**os.environ, "LIGHT_RUN_TOKEN": TOKEN, "LIGHT_RUN_URL": server.url}
    command = [sys.executable, "-m", "light_run", "run", "-i", BUSYBOX, "--"]
    loop = "while read -r line; do echo got $line; done; exit 3"
    with subprocess.Popen(
        [*command, "sh", "-c", loop], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, bufsize=0
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in (b"one\n", b"two\n"):
            process.stdin.write(line)
            assert process.stdout.readline() == b"got " + line
        process.stdin.close()
        assert process.wait(60) == 3
    for flag in ("-d", "-n"):
        done = subprocess.run(
            [*command[:4], "-i", flag, BUSYBOX], capture_output=True, env=environ, check=False
        )
        assert (done.returncode, b"-i passes stdin on" in done.stderr) == (2, True)


def test_parked_and_cold_by_folder_and_by_archive(tmp_path: Path) -> None:
    with ways(tmp_path, [BUSYBOX]) as all_ways:
        for name, way in all_ways.items():
            spec = RunSpec(
                image=BUSYBOX, entrypoint="cat; exit 3", network="none", interactive=True, stdin=b"first\n"
            )
            if way.parked:
                way.wait_until_parked()
            handle = way.runner.start(spec, to=Destinations())
            handle.write_stdin(b"second\n")
            handle.close_stdin()
            result = handle.wait(60)
            assert result.parked is way.parked
            assert (result.exit_code, result.logs) == (3, ("first", "second")), name
            with pytest.raises(StdinClosed):
                handle.write_stdin(b"x")
