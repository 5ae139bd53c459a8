"""The real server as a process, with no engine behind it: what it refuses, how it restarts and stops."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from light_run.config import tokens
from tests.support.poll import eventually
from tests.support.raw import raw_request
from tests.support.server import (
    Server,
    free_port,
    log_events,
    run_cli,
    running_server,
    serve_command,
    server_environment,
    wait_ready,
)

NO_ENGINE = {"DOCKER_HOST": "tcp://127.0.0.1:1", "LIGHT_RUN_GRACE": "0"}
GUNICORN = [sys.executable, "-m", "gunicorn", "light_run:create_app()", "--bind"]


@contextmanager
def serving(folder: Path, **arguments: object) -> Iterator[Server]:
    """A server without an engine, which must stop with exit code 0."""
    with running_server(folder, settings=NO_ENGINE, ready=503, **arguments) as server:  # type: ignore[arg-type]
        yield server
        if not server.stopped:
            assert server.stop() == 0, server.stderr


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without an engine, for tests that only ask."""
    with serving(tmp_path_factory.mktemp("shared")) as server:
        yield server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server without an engine, of the test's own."""
    with serving(tmp_path / "server") as server:
        yield server


@pytest.mark.parametrize(
    ("head", "status", "word"),
    [
        (b"X: " + b"y" * 10_000 + b"\r\n", 431, "headers_too_large"),
        (b"".join(b"X-%d: y\r\n" % number for number in range(200)), 431, "headers_too_large"),
        (b"Content-Length: abc\r\n", 400, "bad_request"),
        (b"Content-Length: 1\r\nContent-Length: 2\r\n", 400, "bad_request"),
        (b"Transfer-Encoding: odd\r\n", 501, "not_implemented"),
        (b"no colon\r\n", 400, "bad_request"),
    ],
)
def test_what_never_reaches_the_application_is_answered_in_json(
    shared: Server, head: bytes, status: int, word: str
) -> None:
    answer = raw_request(shared, "GET", b"/health", head=head)
    assert (answer.status, answer.body) == (status, f'{{"error": "{word}"}}'.encode())
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("target", [b"/" + b"a" * 9000, b"/\xff", b"relative", b""])
def test_odd_targets(shared: Server, target: bytes) -> None:
    answer = raw_request(shared, "GET", target)
    assert answer.status in {400, 404, 414}
    assert answer.body.startswith(b'{"error":')


@pytest.mark.parametrize("body", [b"zz\r\n{}\r\n0\r\n\r\n", b"2\r\n{}xx0\r\n\r\n"])
def test_broken_chunks(shared: Server, body: bytes) -> None:
    answer = raw_request(shared, "POST", b"/run", head=b"Transfer-Encoding: chunked\r\n", body=body)
    assert answer.status == 400
    assert b'"bad_request"' in answer.body


def test_a_run_without_an_engine(shared: Server) -> None:
    response = shared.post_run(timeout=1000)
    assert response.status_code in {200, 503}, response.text


def test_a_second_server_on_the_same_folder(shared: Server, tmp_path: Path) -> None:
    settings = {**NO_ENGINE, "LIGHT_RUN_STATE_DIR": str(shared.state_dir), "LIGHT_RUN_TOKEN": "t"}
    done = run_cli(tmp_path / "second", "serve", "--port", str(free_port()), settings=settings)
    assert done.returncode == 2
    assert "another light-run" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_journal_of_a_newer_version(tmp_path: Path) -> None:
    with serving(tmp_path / "first") as server:
        folder = server.state_dir
    with sqlite3.connect(folder / "journal.sqlite") as journal:
        journal.execute("PRAGMA user_version = 2000000000")
    journal.close()
    settings = {**NO_ENGINE, "LIGHT_RUN_STATE_DIR": str(folder), "LIGHT_RUN_TOKEN": "t"}
    done = run_cli(tmp_path / "second", "serve", "--port", str(free_port()), settings=settings)
    assert done.returncode == 2
    assert "light-run: " in done.stderr
    assert "Traceback" not in done.stderr


def restarted(server: Server, before: list[int]) -> bool:
    """Whether another worker answers."""
    try:
        answers = server.get("/health", timeout=5).status_code == 503
    except requests.RequestException:
        return False
    return answers and server.processes() != before and len(server.processes()) == len(before)


def wait_logged(server: Server, text: str) -> None:
    """Wait until the server has logged an event with `text` in it."""
    eventually(lambda: any(text in event["event"] for event in log_events(server.stderr)), text)


def test_no_signal_starts_or_ends_a_worker(server: Server) -> None:
    before = server.processes()
    for pid in before:
        os.kill(pid, signal.SIGHUP)
    for name in ("SIGTTIN", "SIGTTOU", "SIGUSR2"):
        server.process.send_signal(getattr(signal, name))
        # The master handles signals in the order in which they came: SIGHUP has been passed on by then.
        wait_logged(server, f"{name} is ignored")
    assert server.get("/health").status_code == 503
    assert server.processes() == before


def test_sighup_exchanges_the_worker_of_gunicorn_by_hand(tmp_path: Path) -> None:
    port = free_port()
    command = [*GUNICORN, f"127.0.0.1:{port}", "--threads", "8"]
    with serving(tmp_path, command=command, port=port) as server:
        before = server.processes()
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: restarted(server, before), "the next worker is at work")


def test_another_worker_of_gunicorn_by_hand_waits_for_the_first_to_go(tmp_path: Path) -> None:
    port = free_port()
    command = [*GUNICORN, f"127.0.0.1:{port}", "--threads", "8"]
    with serving(tmp_path, command=command, port=port) as server:
        before = server.processes()
        server.process.send_signal(signal.SIGTTIN)
        eventually(lambda: len(server.processes()) == len(before) + 1, "there is another worker")
        assert server.get("/health").status_code == 503
        server.process.send_signal(signal.SIGTTOU)
        eventually(lambda: restarted(server, before), "the younger one is at work")


def test_a_worker_whose_master_was_killed_goes_too(tmp_path: Path) -> None:
    port = free_port()
    environ = server_environment(tmp_path, "t", NO_ENGINE)
    with (tmp_path / "stderr").open("wb") as stderr:
        process = subprocess.Popen(serve_command(port), env=environ, stderr=stderr, start_new_session=True)
    server = Server(process, f"http://127.0.0.1:{port}", "t", tmp_path)
    try:
        wait_ready(server, 503)
    finally:
        process.kill()
        process.wait()
    eventually(lambda: not server.processes(), "nothing is left of the server")


@pytest.mark.parametrize(
    ("options", "words"),
    [(["-w", "2"], "one worker with many threads"), (["--preload"], "--preload")],
)
def test_gunicorn_by_hand_is_told_what_it_must_not_do(tmp_path: Path, options: list[str], words: str) -> None:
    command = [*GUNICORN, f"127.0.0.1:{free_port()}", *options]
    environ = server_environment(tmp_path, "t", NO_ENGINE)
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_gunicorn_with_one_thread_is_warned_and_stops(tmp_path: Path) -> None:
    port = free_port()
    with serving(tmp_path, command=[*GUNICORN, f"127.0.0.1:{port}"], port=port) as server:
        assert any("one thread" in event["event"] for event in log_events(server.stderr))


def test_idle_memory(shared: Server) -> None:
    rss = 0
    for pid in shared.processes():
        status = Path(f"/proc/{pid}/status").read_text()
        rss += int(status.partition("VmRSS:")[2].split()[0])
    assert rss < 80 * 1024


def test_named_tokens_of_a_server_at_work(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    first = tokens.create(path, "first")
    settings = {**NO_ENGINE, "LIGHT_RUN_TOKENS_FILE": str(path)}
    with running_server(tmp_path / "server", settings=settings, token=None, ready=503) as server:
        before = server.processes()
        assert server.get("/runs", token=first).json() == []
        assert server.get("/runs").status_code == 401
        second = tokens.create(path, "second")
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: server.get("/runs", token=second).status_code == 200, "it is known", within=10)
        assert server.processes() == before
        assert second not in server.stderr
        assert server.stop() == 0


def test_a_file_of_tokens_that_cannot_be_read_is_no_open_door(tmp_path: Path) -> None:
    settings = {**NO_ENGINE, "LIGHT_RUN_TOKENS_FILE": str(tmp_path / "none.json")}
    done = run_cli(tmp_path / "server", "serve", "--port", str(free_port()), settings=settings)
    assert done.returncode == 2
    assert "light-run token new" in done.stderr
    assert "Traceback" not in done.stderr
