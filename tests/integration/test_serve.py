"""``light-run serve``: settings, options, start-up errors, logs and the way it stops."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import requests

from tests.integration.conftest import StartServer
from tests.support.engine import containers_of
from tests.support.poll import eventually
from tests.support.processes import descriptors, session_of, status_kib, thread_count
from tests.support.removals import Removals, removals
from tests.support.server import (
    STOP_SECONDS,
    TOKEN,
    Server,
    free_port,
    log_events,
    run_cli,
    run_request,
    running_server,
    serve_command,
)

GUNICORN = [sys.executable, "-m", "gunicorn"]


# --- options and variables ------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(tmp_path: Path, option: str) -> None:
    done = run_cli(tmp_path, option)
    assert done.returncode == 0
    assert "serve" in done.stdout
    assert done.stderr == ""


def test_help_of_serve_names_every_option_of_the_contract(tmp_path: Path) -> None:
    done = run_cli(tmp_path, "serve", "--help")
    assert done.returncode == 0
    for option in ("--port", "--host", "--token", "--body-limit"):
        assert option in done.stdout


def test_version(tmp_path: Path) -> None:
    done = run_cli(tmp_path, "--version")
    assert done.returncode == 0
    assert re.search(r"\d+\.\d+\.\d+", done.stdout)


def test_an_unknown_command(tmp_path: Path) -> None:
    done = run_cli(tmp_path, "sevre")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_port_and_host_by_variable(tmp_path: Path) -> None:
    port = free_port()
    settings = {"LIGHT_RUN_PORT": str(port), "LIGHT_RUN_HOST": "127.0.0.1"}
    command = [sys.executable, "-m", "light_run", "serve"]
    with running_server(tmp_path, command=command, settings=settings, port=port) as server:
        assert server.run()["status"] == "succeeded"


@pytest.mark.parametrize(("most", "warned"), [(1500, False), (350, True)])
def test_as_many_files_may_be_open_as_the_machine_allows(tmp_path: Path, most: int, warned: bool) -> None:
    serve = " ".join(serve_command(port := free_port()))
    command = ["sh", "-c", f"ulimit -Sn 300; ulimit -Hn {most}; exec {serve}"]
    with running_server(tmp_path, command=command, port=port) as server:
        limits = Path(f"/proc/{server.processes()[-1]}/limits").read_text()
        assert re.search(rf"Max open files +{most} +{most}", limits)
    assert ("raise the limit" in server.stderr) is warned


def test_an_option_is_stronger_than_its_variable(start_server: StartServer) -> None:
    server = start_server(
        token="from-the-variable-123",
        settings={"LIGHT_RUN_PORT": "1", "LIGHT_RUN_BODY_LIMIT": "10"},
        options=["--token", "from-the-option-456", "--body-limit", "5000"],
    )
    assert server.request("GET", "/runs", token="from-the-variable-123").status_code == 401
    assert server.request("GET", "/runs", token="from-the-option-456").status_code == 200
    body = run_request(files={"a": "x" * 5000})
    assert server.request("POST", "/run", token="from-the-option-456", json=body).status_code == 413
    assert server.request("POST", "/run", token="from-the-option-456", json=run_request()).status_code == 200


def test_it_listens_on_loopback_alone_by_default(server: Server) -> None:
    # /proc/net/tcp: local address as little-endian hexadecimal, 0A is LISTEN.
    listening = [
        line.split()[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{server.port:04X}")
    ]
    assert listening == [f"0100007F:{server.port:04X}"]


def test_another_host(start_server: StartServer) -> None:
    port = free_port()
    server = start_server(port=port, options=["--host", "127.0.0.2"], url=f"http://127.0.0.2:{port}")
    assert server.get("/health").status_code == 200
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/health", timeout=10)


def test_open_and_beyond_loopback_is_said_louder(start_server: StartServer) -> None:
    quiet = start_server("quiet", token=None)
    loud = start_server("loud", token=None, options=["--host", "0.0.0.0"])

    def told(server: Server) -> list[tuple[str, str]]:
        return [
            (event["level"], event["event"])
            for event in log_events(server.stderr)
            if event["level"] != "info" and "token" in event["event"].lower()
        ]

    assert told(quiet)
    assert told(loud)
    assert told(quiet) != told(loud)


@pytest.mark.parametrize("value", ["lots", "-1", "1.5"])
def test_an_invalid_artifacts_cap_is_the_default_with_a_warning(
    start_server: StartServer, value: str
) -> None:
    server = start_server(settings={"LIGHT_RUN_MAX_ARTIFACTS_BYTES": value})
    assert any(
        event["level"] == "warning" and "LIGHT_RUN_MAX_ARTIFACTS_BYTES" in event["event"]
        for event in log_events(server.stderr)
    )
    state = server.run(entrypoint="echo x > out", extract=["out"])
    assert server.artifact(state["id"], "out").content == b"x\n"


def test_state_and_artifacts_have_their_default_place(tmp_path: Path) -> None:
    settings = {"LIGHT_RUN_STATE_DIR": "", "LIGHT_RUN_ARTIFACTS_DIR": ""}
    home = tmp_path / "home" / ".light-run"
    port = free_port()
    with running_server(tmp_path, settings=settings, port=port) as server:
        try:
            state = server.run(entrypoint="echo x > out", extract=["out"])
            assert (home / "artifacts" / state["id"] / "out").read_bytes() == b"x\n"
            assert home.stat().st_mode & 0o777 == 0o700
            assert server.stop() == 0
            assert containers_of((home / "server-id").read_text().strip()) == []
        finally:
            server.stopped = server.stopped or server.process.poll() is not None


def test_default_and_most_limits(start_server: StartServer) -> None:
    server = start_server(
        settings={
            "LIGHT_RUN_MEMORY": "128m",
            "LIGHT_RUN_MAX_MEMORY": "256m",
            "LIGHT_RUN_CPUS": "0.5",
            "LIGHT_RUN_MAX_CPUS": "1.5",
            "LIGHT_RUN_PIDS": "40",
            "LIGHT_RUN_MAX_PIDS": "80",
            "LIGHT_RUN_MAX_TIMEOUT": "5000",
        }
    )
    most = {"memory": "256m", "cpus": 1.5, "pids": 80}
    assert server.run(limits=most, timeout=5000)["status"] == "succeeded"
    for name, value in {"memory": "257m", "cpus": 1.6, "pids": 81}.items():
        response = server.post_run(limits={name: value})
        assert response.status_code == 400, name
        assert response.json()["details"][0]["path"] == ["limits", name]
    response = server.post_run(timeout=5001)
    assert response.json()["details"][0]["path"] == ["timeout"]
    limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
    assert server.run(entrypoint=limit)["logs"] == [str(128 * 1024 * 1024)]


def test_allowed_images_networks_and_runtimes(start_server: StartServer) -> None:
    server = start_server(
        settings={
            "LIGHT_RUN_IMAGES": "light-run-test/busy*,python:3.*",
            "LIGHT_RUN_NETWORKS": "none",
            "LIGHT_RUN_RUNTIMES": "runc",
        }
    )
    assert server.run()["status"] == "succeeded"
    assert server.run(runtime="runc")["status"] == "succeeded"
    for field, value in {
        "image": "light-run-test/nonroot:latest",
        "network": "bridge",
        "runtime": "runsc",
    }.items():
        response = server.post_run(**{field: value})
        assert response.status_code == 400, (field, response.text)
        assert response.json()["details"][0]["path"] == [field]


def test_a_queue_that_is_full(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_MAX_CONCURRENCY": "1", "LIGHT_RUN_MAX_QUEUE": "1"})
    running = server.start(entrypoint="sleep 60")
    queued = server.start()
    response = server.post_run(detached=True)
    assert (response.status_code, response.json()["error"]) == (503, "overloaded")
    assert int(response.headers["Retry-After"]) >= 1
    server.cancel(running)
    assert server.wait_done(queued)["status"] == "succeeded"
    assert server.run()["status"] == "succeeded"


@pytest.mark.parametrize("workspace", ["bind", "archive"])
def test_files_go_in_and_out_either_way(start_server: StartServer, workspace: str) -> None:
    server = start_server(settings={"LIGHT_RUN_WORKSPACE": workspace})
    state = server.run(
        files={"in.txt": "in\n", "d/e/f": {"content": "f\n", "mode": "0755"}},
        entrypoint="cat in.txt d/e/f; test -x d/e/f && echo executable; mkdir out; echo x > out/y; echo z > /tmp/z",
        extract=["out", "/tmp/z", "gone"],
    )
    assert state["logs"] == ["in", "f", "executable"], state
    assert [entry["status"] for entry in state["extracted"]] == ["ok", "ok", "missing"]
    assert server.artifact(state["id"], "y").content == b"x\n"
    assert server.artifact(state["id"], "z").content == b"z\n"
    for image in ("light-run-test/nonroot:latest", "light-run-test/workdir:latest"):
        again = server.run(image=image, entrypoint="cat main.txt; echo o > o", extract=["o"])
        assert (again["logs"], again["extracted"][0]["status"]) == (["hello"], "ok"), again


# --- start-up errors ------------------------------------------------------------------------------------


def assert_refused(stderr: str, code: int, *words: str) -> None:
    """Exit code 2, and one line on stderr that has every one of `words`."""
    assert code == 2, (code, stderr)
    lines = stderr.strip().splitlines()
    assert len(lines) == 1, stderr
    assert "Traceback" not in stderr
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize("value", ["0", "-1", "65536", "http", "3000.5", "99999999999", "\u0663\u0660"])
@pytest.mark.parametrize("way", ["option", "variable"])
def test_a_bad_port(tmp_path: Path, way: str, value: str) -> None:
    if way == "option":
        done = run_cli(tmp_path, "serve", f"--port={value}")
    else:
        done = run_cli(tmp_path, "serve", settings={"LIGHT_RUN_PORT": value})
    assert_refused(done.stderr, done.returncode, "port" if way == "option" else "LIGHT_RUN_PORT", value)


@pytest.mark.parametrize("value", ["0", "-1", "much", "1.5"])
@pytest.mark.parametrize("way", ["option", "variable"])
def test_a_bad_body_limit(tmp_path: Path, way: str, value: str) -> None:
    if way == "option":
        done = run_cli(tmp_path, "serve", f"--body-limit={value}")
    else:
        done = run_cli(tmp_path, "serve", settings={"LIGHT_RUN_BODY_LIMIT": value})
    assert_refused(
        done.stderr, done.returncode, "body-limit" if way == "option" else "LIGHT_RUN_BODY_LIMIT", value
    )


def test_a_port_in_use(tmp_path: Path, server: Server) -> None:
    done = run_cli(tmp_path, "serve", "--port", str(server.port), "--token", TOKEN)
    assert_refused(done.stderr, done.returncode, str(server.port), "in use")


def test_a_port_in_use_by_something_else(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = run_cli(tmp_path, "serve", "--port", str(port), "--token", TOKEN)
    assert_refused(done.stderr, done.returncode, str(port), "in use")


def test_a_host_that_is_not_this_machine(tmp_path: Path) -> None:
    done = run_cli(tmp_path, "serve", "--host", "192.0.2.1", "--port", str(free_port()), "--token", TOKEN)
    assert_refused(done.stderr, done.returncode, "192.0.2.1")


def test_a_state_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = {"LIGHT_RUN_STATE_DIR": str(tmp_path / "file" / "state"), "LIGHT_RUN_TOKEN": TOKEN}
    done = run_cli(tmp_path / "x", "serve", "--port", str(free_port()), settings=settings)
    assert_refused(done.stderr, done.returncode, str(tmp_path / "file"))


def test_an_engine_over_ssh(tmp_path: Path) -> None:
    settings = {"DOCKER_HOST": "ssh://root@192.0.2.1", "LIGHT_RUN_TOKEN": TOKEN}
    done = run_cli(tmp_path, "serve", "--port", str(free_port()), settings=settings)
    assert done.returncode == 2, done.stderr
    # From the worker, which imports docker-py: gunicorn adds lines of its own.
    (line,) = (each for each in done.stderr.splitlines() if each.startswith("light-run: "))
    assert all(word in line for word in ("DOCKER_HOST", "not supported", "ssh -nNT -L"))


# --- gunicorn by hand -----------------------------------------------------------------------------------


def test_gunicorn_with_the_factory(tmp_path: Path) -> None:
    port = free_port()
    command = [*GUNICORN, "--bind", f"127.0.0.1:{port}", "--threads", "8", "light_run:create_app()"]
    with running_server(tmp_path, command=command, port=port) as server:
        state = server.run(entrypoint="cat main.txt; echo x > out", extract=["out"])
        assert state["logs"] == ["hello"]
        assert server.get("/runs", token="").status_code == 401
        run_id = server.start(entrypoint="sleep 60")
        assert server.cancel(run_id).status_code == 204


@pytest.mark.parametrize("way", ["option", "variable"])
def test_two_workers_are_refused_with_a_reason(tmp_path: Path, way: str) -> None:
    port = free_port()
    settings = {"WEB_CONCURRENCY": "2"} if way == "variable" else {}
    options = ["-w", "2"] if way == "option" else []
    command = [*GUNICORN, "--bind", f"127.0.0.1:{port}", *options, "light_run:create_app()"]
    with (
        pytest.raises(AssertionError, match="the server exited with"),
        running_server(tmp_path, command=command, settings=settings, port=port),
    ):
        pass
    stderr = (tmp_path / "stderr").read_text()
    assert "cannot work with 2 workers" in stderr
    assert "one worker" in stderr


# --- the way it stops -----------------------------------------------------------------------------------


def at_work(server: Server) -> int:
    """How many runs have written that they are up."""
    running = server.get("/runs?status=running").json()
    return sum("up" in server.state(run["id"]).get("logs", ()) for run in running)


@contextmanager
def sync_request(server: Server, **fields: object) -> Iterator[None]:
    """A synchronous run that was sent; what becomes of its request is not looked at."""

    def send() -> None:
        with suppress(requests.RequestException):
            server.post_run(**fields)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextmanager
def sync_runs(server: Server, count: int) -> Iterator[None]:
    """So many synchronous runs, at work when this enters."""
    with ExitStack() as requests_sent:
        for _ in range(count):
            requests_sent.enter_context(sync_request(server, entrypoint="echo up; sleep 60"))
        eventually(lambda: at_work(server) >= count, "all synchronous runs are at work")
        yield


@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_leaves_no_container_of_a_synchronous_run(
    start_server: StartServer, stop_signal: signal.Signals
) -> None:
    server = start_server(settings={"LIGHT_RUN_GRACE": "0.5"})
    with sync_runs(server, 3):
        assert server.stop(stop_signal) == 0
    server.assert_nothing_left()
    assert "Traceback" not in server.stderr


def test_a_stop_withdraws_what_waits_and_the_same_key_runs_afterwards(start_server: StartServer) -> None:
    settings = {"LIGHT_RUN_MAX_CONCURRENCY": "1", "LIGHT_RUN_GRACE": "0.5"}
    server = start_server(settings=settings)
    asked = run_request(entrypoint="echo here")
    with sync_runs(server, 1), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.request, "POST", "/run", json=asked, headers={"Idempotency-Key": "once"})
        eventually(lambda: server.get("/runs?status=queued").json(), "it waits in the queue")
        assert server.stop() == 0
        refused = waiting.result()
    assert (refused.status_code, refused.json()["error"]) == (503, "overloaded")
    assert refused.headers["Retry-After"] == "5"
    server.assert_nothing_left()
    following = start_server(settings=settings)
    assert following.get("/runs?status=queued").json() == []
    again = following.request("POST", "/run", json=asked, headers={"Idempotency-Key": "once"})
    assert (again.status_code, again.json()["logs"]) == (200, ["here"])


def test_a_stop_lets_a_short_run_end(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_GRACE": "20"})
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.run, entrypoint="echo up; sleep 2; echo end")
        eventually(lambda: at_work(server), "it is at work")
        assert server.stop() == 0
        assert answer.result()["logs"] == ["up", "end"]
    server.assert_nothing_left()


def test_a_stop_while_an_image_is_pulled(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_GRACE": "0.5"})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        with sync_request(server, image=f"127.0.0.1:{silent.getsockname()[1]}/x:1"):
            connection, _ = silent.accept()
            with connection:
                assert server.stop() == 0
    server.assert_nothing_left()


def test_a_stop_while_a_step_is_built(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_GRACE": "0.5"})
    with sync_request(server, run=["sleep 60; echo a step nobody waits for"]):
        eventually(server.containers, "the step's container is there")
        assert server.stop() == 0
    server.assert_nothing_left()


@pytest.fixture
def way(tmp_path: Path) -> Iterator[Removals]:
    engine = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    with removals(tmp_path / "s", engine) as way:
        yield way


def test_a_stop_waits_for_a_removal_under_way(way: Removals, start_server: StartServer) -> None:
    server = start_server(settings={"DOCKER_HOST": way.address, "LIGHT_RUN_PARKED_MAX": "0"})
    server.run()
    eventually(lambda: not server.containers(), "nothing is left of another run")
    way.hold()
    asked = way.asked
    # It is answered before its container is removed.
    assert server.run()["status"] == "succeeded"
    eventually(lambda: way.asked > asked, "the removal has been asked for")
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: not listens(server), "the server is stopping")
    assert server.process.poll() is None
    assert containers_of(server.server_id)
    way.let()
    assert server.process.wait(STOP_SECONDS) == 0
    # At once, not in the end.
    assert not containers_of(server.server_id)


def test_a_stop_removes_what_the_engine_did_not_at_first(way: Removals, start_server: StartServer) -> None:
    server = start_server(settings={"DOCKER_HOST": way.address, "LIGHT_RUN_PARKED_MAX": "0"})
    server.run()
    eventually(lambda: not server.containers(), "nothing is left of another run")
    asked = way.asked
    way.cut(4)
    assert server.run()["status"] == "succeeded"
    eventually(lambda: way.asked > asked, "the removal has been asked for")
    assert server.stop() == 0
    assert not containers_of(server.server_id)
    assert not server.workspaces()


def listens(server: Server) -> bool:
    """Whether somebody accepts connections."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", server.port), timeout=5):
        return True
    return False


def test_two_signals_are_no_harm(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_GRACE": "0.5"})
    with sync_runs(server, 2):
        server.process.send_signal(signal.SIGTERM)
        assert server.stop(signal.SIGTERM) == 0
    server.assert_nothing_left()


def test_an_idle_server_stops_at_once(start_server: StartServer) -> None:
    server = start_server()
    assert server.stop(signal.SIGINT) == 0
    server.assert_nothing_left()


def test_what_a_killed_server_left_is_taken_up_by_the_next(start_server: StartServer) -> None:
    first = start_server("same")
    server_id = first.server_id
    run_id = first.start(entrypoint="echo up; sleep 60")
    first.wait_output(run_id, "up")
    first.kill()
    second = start_server("same")
    assert second.server_id == server_id
    state = second.state(run_id)
    assert state["status"] == "running"
    assert second.cancel(run_id).status_code == 204
    assert second.wait_done(run_id, within=20)["logs"] == ["up"]
    second.wait_clean()


def test_a_second_server_with_the_same_state_folder_is_refused(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    settings = {"LIGHT_RUN_STATE_DIR": str(server.state_dir), "LIGHT_RUN_TOKEN": TOKEN}
    done = run_cli(tmp_path / "second", "serve", "--port", str(free_port()), settings=settings)
    assert_refused(done.stderr, done.returncode, str(server.state_dir))
    assert server.run()["status"] == "succeeded"


# --- logs and leaks -------------------------------------------------------------------------------------

CANARIES = {
    "token": TOKEN,
    "env": "env-canary-51ab",
    "input": "input-canary-52ab",
    "stdin": "stdin-canary-56ab",
    "content": "content-canary-53ab",
    "secret": "secret-canary-54ab-0123456789",
    "name": "wrong-token-canary-55ab",
}


def test_no_secret_is_ever_logged(start_server: StartServer) -> None:
    server = start_server()
    fields = {
        "env": {"KEY": CANARIES["env"]},
        "input": {"value": CANARIES["input"]},
        "files": {"f": CANARIES["content"]},
        "callbackUrl": f"http://127.0.0.1:{free_port()}/",
        "callbackSecret": CANARIES["secret"],
    }
    server.run(**fields)
    server.wait_done(server.start(**fields))
    server.run(**fields, entrypoint="exit 1")
    server.run(**fields, entrypoint="sleep 60", timeout=200)
    server.run(**fields, image="127.0.0.1:1/none:1")
    server.run(**fields, run=["echo no; exit 1"])
    server.run(**fields, network="no-such-network-77")
    del fields["input"]
    server.run(**fields, stdin=CANARIES["stdin"])
    server.post_run(**fields, stdin=[CANARIES["stdin"]])
    # Faults of every kind, in every field that has a canary, and bodies that are no JSON.
    server.post_run(**fields, timeout=0)
    server.post_run(**{**fields, "env": {f"1{CANARIES['env']}": CANARIES["env"]}})
    server.post_run(**{**fields, "env": {"KEY": [CANARIES["env"]]}})
    server.post_run(**{**fields, "env": CANARIES["env"]})
    server.post_run(**{**fields, "files": {"../x": CANARIES["content"]}})
    server.post_run(**{**fields, "files": {"a": {"content": CANARIES["content"], "encoding": "base64"}}})
    server.post_run(**fields, stdin={"content": CANARIES["stdin"], "encoding": "base64"})
    server.post_run(**{**fields, "callbackSecret": "short"})
    server.post_run(**{**fields, "callbackSecret": CANARIES["secret"] * 20})
    for body in (
        CANARIES["content"],
        '{"env": {"KEY": "' + CANARIES["env"] + '"}, ',
        '["' + CANARIES["input"] + '"]',
    ):
        assert server.request("POST", "/run", data=body.encode()).status_code == 400
    server.request("GET", "/runs", token=CANARIES["name"])
    server.get("/nothing")
    assert server.stop() == 0
    written = server.stderr + server.stdout
    for kind, canary in CANARIES.items():
        assert canary not in written, f"the {kind} is in the log"
    for path in server.state_dir.rglob("*"):
        if path.is_file() and "log" in path.name:
            for canary in CANARIES.values():
                assert canary.encode() not in path.read_bytes()


def test_the_token_is_not_on_the_command_line_when_given_by_variable(server: Server) -> None:
    for pid in server.processes():
        assert TOKEN.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_the_log_is_json_lines(start_server: StartServer) -> None:
    server = start_server()
    run_id = server.run(entrypoint="exit 3")["id"]
    server.get("/nothing")
    assert server.stop() == 0
    lines = server.stderr.strip().splitlines()
    events = log_events(server.stderr)
    assert len(events) == len(lines), "not every line is JSON"
    for event in events:
        assert event["time"]
        assert event["level"] in ("debug", "info", "warning", "error", "critical")
        assert event["event"]
    assert any(event.get("status") == 404 for event in events), "the request line has the status"
    of_run = [event for event in events if run_id in json.dumps(event)]
    assert of_run, "the run's id is in its lines"


def test_nothing_goes_to_stdout(server: Server) -> None:
    server.run()
    assert server.stdout == ""


@pytest.mark.timeout(400)
def test_runs_leave_no_descriptor_and_no_thread(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_MAX_CONCURRENCY": "2", "LIGHT_RUN_THREADS": "4"})

    def work(rounds: int) -> None:
        for number in range(rounds):
            first = server.start(entrypoint="sleep 60")
            second = server.start(entrypoint="seq 1000; echo x > out", extract=["out", "/etc/passwd", "gone"])
            server.cancel(first)
            assert server.wait_done(first)["status"] == "cancelled"
            assert server.wait_done(second)["status"] == "succeeded"
            assert server.artifact(second, "out").content == b"x\n"
            assert server.get(f"/runs/{second}/artifacts?archive=zip").status_code == 200
            server.run(entrypoint="sleep 60", timeout=100)
            server.run(image="127.0.0.1:1/none:1")
            server.run(input=number, network=...)
            server.post_run(timeout=0)
        server.wait_clean()

    def held() -> tuple[int, int]:
        pids = server.processes()
        return sum(len(descriptors(pid)) for pid in pids), sum(thread_count(pid) for pid in pids)

    work(2)
    before = held()
    work(6)
    # Connections and threads that idle may come and go; what leaks grows with every round.
    eventually(
        lambda: held()[0] <= before[0] + 3 and held()[1] <= before[1] + 2,
        f"descriptors and threads are back at {before}, not {held()}",
        within=45,
    )


def test_an_idle_server_is_small(start_server: StartServer) -> None:
    server = start_server()
    sizes = {pid: status_kib(pid, "VmRSS") for pid in server.processes()}
    assert sum(sizes.values()) < 80 * 1024, sizes


def test_every_process_of_the_server_is_its_own(server: Server) -> None:
    assert server.process.pid in session_of(server.process.pid)
    assert os.getpid() not in server.processes()


def test_the_command_of_these_tests_is_the_documented_one() -> None:
    assert serve_command(3000)[1:] == ["-m", "light_run", "serve", "--port", "3000"]
