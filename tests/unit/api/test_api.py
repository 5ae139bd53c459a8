"""Routes, errors, authorization and paging, without an engine."""

from __future__ import annotations

import io
import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from light_run.api.routes.runs import waiting_threads
from light_run.engine.output.frames import STDOUT
from light_run.engine.output.spool import LogWriter
from light_run.engine.spec import Firewall, Reason, RunArtifact, RunResult
from light_run.errors import EngineUnavailable, IdempotencyConflict, InsufficientStorage
from light_run.runs.service import RunService
from tests.support.poll import eventually
from tests.unit.conftest import MakeClient
from tests.unit.fake_runner import FakeRunner

UNKNOWN = "00000000-0000-4000-8000-000000000000"
REQUEST: dict[str, Any] = {"image": "alpine", "files": {"a": "1"}}


def read(response: TestResponse) -> Any:
    """The JSON of an answer."""
    return json.loads(response.data)


def post(client: FlaskClient, **fields: Any) -> TestResponse:
    """POST a valid request updated by `fields`."""
    return client.post("/run", data=json.dumps({**REQUEST, **fields}))


def start(client: FlaskClient, **fields: Any) -> str:
    """The id of a detached run."""
    response = post(client, detached=True, **fields)
    assert response.status_code == 202
    run_id: str = read(response)["id"]
    return run_id


def assert_error(response: TestResponse, status: int, word: str) -> None:
    """A JSON error and nothing but."""
    assert (response.status_code, read(response)["error"]) == (status, word)
    assert response.content_type == "application/json"
    assert read(response).keys() <= {"error", "message", "details"}


# --- health and authorization ---------------------------------------------------------------------------


def test_health(make_client: MakeClient, runner: FakeRunner) -> None:
    client = make_client(token="t")
    assert read(client.get("/health")) == {"status": "ok", "docker": True}
    runner.health_now.docker = False
    response = client.get("/health")
    assert (response.status_code, read(response)) == (503, {"status": "degraded", "docker": False})


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "t",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer tt",
        "Basic t",
        "bearer\u00a0t",
        "Bearer t t",
        "Bearer ü",
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/runs"), ("POST", "/run"), ("GET", "/none"), ("POST", "/health")]
)
def test_a_wrong_token(make_client: MakeClient, method: str, path: str, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    response = make_client(token="t").open(path, method=method, headers=headers)
    assert_error(response, 401, "unauthorized")
    assert read(response) == {"error": "unauthorized"}
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["Bearer t", "bearer t", "BEARER  t "])
def test_the_token(make_client: MakeClient, header: str) -> None:
    assert make_client(token="t").get("/runs", headers={"Authorization": header}).status_code == 200


def test_an_engine_that_cannot_limit_runs(make_client: MakeClient, runner: FakeRunner) -> None:
    client = make_client(token="t")
    runner.health_now.missing_limits = ("memory", "pids")
    response = client.get("/health")
    assert (response.status_code, read(response)["status"], read(response)["docker"]) == (
        503,
        "degraded",
        True,
    )
    assert "memory, pids" in read(response)["message"]
    info = read(client.get("/info", headers={"Authorization": "Bearer t"}))
    assert info["engine"]["missingLimits"] == ["memory", "pids"]


@pytest.mark.parametrize(
    ("state", "said"), [(Firewall.ACTIVE, False), (Firewall.NOT_NEEDED, False), (Firewall.ABSENT, True)]
)
def test_runs_that_reach_the_host(
    make_client: MakeClient, runner: FakeRunner, state: Firewall, *, said: bool
) -> None:
    client = make_client(token="t")
    runner.health_now.firewall = state
    response = client.get("/health")
    assert (response.status_code, read(response)["status"]) == (200, "ok")
    message = "runs on the default network reach this host's services and the metadata address"
    assert read(response).get("message", "").startswith(message) is said
    assert read(client.get("/info", headers={"Authorization": "Bearer t"}))["firewall"] == state.value


# --- errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "//runs", "/runs/", "/run/", "/runs/a/b", "/static/x", "/RUNS", "/%00"]
)
def test_unknown_routes(client: FlaskClient, path: str) -> None:
    # Of "//runs", the test client makes a host.
    assert_error(client.get(path, headers={"Host": "localhost"}), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/run", {"POST"}),
        ("DELETE", "/runs", {"GET", "HEAD"}),
        ("OPTIONS", "/runs", {"GET", "HEAD"}),
        ("PATCH", "/runs/x", {"GET", "HEAD", "DELETE"}),
        ("GET", "/runs/x/cancel", {"POST"}),
        ("BREW", "/health", {"GET", "HEAD"}),
    ],
)
def test_wrong_methods(client: FlaskClient, method: str, path: str, allowed: set[str]) -> None:
    response = client.open(path, method=method)
    assert_error(response, 405, "method_not_allowed")
    assert set(response.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "path", ["/runs/{}", "/runs/{}/artifacts", "/runs/{}/artifacts/a", "/runs/{}/artifacts?archive=zip"]
)
@pytest.mark.parametrize(
    "run_id", [UNKNOWN, "x", "..", "%2e%2e", "%00", "%ff", "\N{GRINNING FACE}", "x" * 5000]
)
def test_unknown_runs(client: FlaskClient, path: str, run_id: str) -> None:
    assert_error(client.get(path.format(run_id)), 404, "not_found")


def test_an_error_of_our_own_shows_no_trace(
    client: FlaskClient,
    service: RunService,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(run_id: str) -> None:
        raise RuntimeError("the inside")

    monkeypatch.setattr(service, "get", broken)
    response = client.get(f"/runs/{UNKNOWN}")
    assert (response.status_code, read(response)) == (500, {"error": "internal_error"})
    assert "the inside" in caplog.text


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [
        (InsufficientStorage("full"), 507, "insufficient_storage"),
        (IdempotencyConflict("other body"), 409, "idempotency_conflict"),
        (EngineUnavailable("gone"), 503, "engine_unavailable"),
    ],
)
def test_errors_of_the_service(
    make_client: MakeClient, service: RunService, error: Exception, status: int, word: str
) -> None:
    def refused(request: Any) -> None:
        raise error

    service.submit = refused  # type: ignore[method-assign,assignment]
    assert_error(post(make_client()), status, word)


# --- bodies ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_the_type_of_a_body_does_not_matter(client: FlaskClient, content_type: str | None) -> None:
    response = client.post("/run", data=json.dumps(REQUEST), content_type=content_type)
    assert response.status_code == 200


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 50_000, b"[]", b'{"image":NaN}'])
def test_bodies_that_are_no_request(client: FlaskClient, raw: bytes) -> None:
    response = client.post("/run", data=raw)
    assert_error(response, 400, "bad_request")
    assert read(response).get("message") or read(response)["details"]


def test_faults_are_details(client: FlaskClient) -> None:
    response = post(client, timeout="1", files={"../x": ""})
    assert_error(response, 400, "bad_request")
    details = {tuple(each["path"]): each for each in read(response)["details"]}
    assert details.keys() == {("timeout",), ("files", "../x")}
    assert details["files", "../x"]["code"] == "invalid_path"
    assert all(each.keys() == {"path", "code", "message"} for each in details.values())


def test_a_fault_may_quote_a_lone_surrogate(client: FlaskClient) -> None:
    response = client.post("/run", data=rb'{"image":"a","files":{"\ud800/../x":""}}')
    assert_error(response, 400, "bad_request")


def test_a_body_too_large(make_client: MakeClient) -> None:
    client = make_client(body_limit=100)
    assert_error(post(client, entrypoint="x" * 100), 413, "payload_too_large")
    assert post(client).status_code == 200


class Chunked(io.BytesIO):
    """A body of which nobody said how long it is."""


def test_a_body_too_large_without_a_length(make_client: MakeClient) -> None:
    response = make_client(body_limit=100).post(
        "/run", input_stream=Chunked(b" " * 200), environ_overrides={"wsgi.input_terminated": True}
    )
    assert_error(response, 413, "payload_too_large")


def test_a_body_shorter_than_its_length(client: FlaskClient) -> None:
    raw = json.dumps(REQUEST).encode()
    response = client.post("/run", input_stream=io.BytesIO(raw), environ_overrides={"CONTENT_LENGTH": "200"})
    assert_error(response, 400, "bad_request")


def test_a_body_that_breaks_off(client: FlaskClient) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise ConnectionResetError

    response = client.post(
        "/run", input_stream=Broken(), content_length=10, environ_overrides={"wsgi.input_terminated": True}
    )
    assert_error(response, 400, "bad_request")


# --- runs -----------------------------------------------------------------------------------------------


def test_a_sync_run(client: FlaskClient, runner: FakeRunner) -> None:
    response = post(client)
    assert response.status_code == 200
    assert read(response)["status"] == "succeeded"
    assert read(response)["logs"] == []
    assert response.content_length == len(response.data)
    assert "run;dur=3" in response.headers["Server-Timing"]


def test_a_failed_sync_run_is_200_as_well(client: FlaskClient, runner: FakeRunner) -> None:
    runner.default.result = RunResult(reason=Reason.PULL_FAILED, error="no route to the registry")
    response = post(client)
    assert (response.status_code, read(response)["status"]) == (200, "failed")
    assert read(response)["error"] == "no route to the registry"


def test_a_detached_run(client: FlaskClient, runner: FakeRunner) -> None:
    runner.hold()
    response = post(client, detached=True)
    run_id = read(response)["id"]
    assert response.status_code == 202
    assert read(response) == {"id": run_id, "status": "running", "url": f"/runs/{run_id}"}
    assert response.headers["Location"] == f"/runs/{run_id}"
    assert read(client.get(f"/runs/{run_id}"))["status"] == "running"
    runner.end(run_id)
    assert read(client.get(f"/runs/{run_id}?wait=30"))["status"] == "succeeded"


def test_logs_of_any_size_are_streamed(client: FlaskClient, service: RunService, tmp_path: Path) -> None:
    run_id = start(client)
    writer = LogWriter(tmp_path / "logs" / run_id, 10_000_000)
    for number in range(20_000):
        writer.write(STDOUT, memoryview(f"line {number} ü\n".encode()))
    writer.close()
    response = client.get(f"/runs/{run_id}")
    assert "Content-Length" not in response.headers
    assert read(response)["logs"] == [f"line {number} ü" for number in range(20_000)]
    assert "logs" not in read(client.get("/runs"))[0]


def test_cancel(client: FlaskClient, runner: FakeRunner) -> None:
    runner.hold()
    run_id = start(client)
    response = client.post(f"/runs/{run_id}/cancel")
    assert (response.status_code, response.data) == (204, b"")
    assert "Content-Type" not in response.headers
    assert read(client.get(f"/runs/{run_id}"))["status"] == "cancelled"
    assert_error(client.post(f"/runs/{run_id}/cancel"), 404, "not_found_or_done")
    assert_error(client.post(f"/runs/{UNKNOWN}/cancel"), 404, "not_found_or_done")


def test_delete(client: FlaskClient, runner: FakeRunner) -> None:
    runner.hold()
    run_id = start(client)
    assert_error(client.delete(f"/runs/{run_id}"), 404, "not_found_or_running")
    runner.end(run_id)
    client.get(f"/runs/{run_id}?wait=30")
    assert client.delete(f"/runs/{run_id}").status_code == 204
    assert_error(client.delete(f"/runs/{run_id}"), 404, "not_found_or_running")
    assert_error(client.get(f"/runs/{run_id}"), 404, "not_found")


def test_pages(client: FlaskClient) -> None:
    ids = [read(post(client))["id"] for _ in range(5)]
    url, seen = "/runs?limit=2&status=succeeded", []
    while url:
        response = client.get(url)
        seen += [run["id"] for run in read(response)]
        link = response.headers.get("Link")
        assert link is None or link.endswith('>; rel="next"')
        url = link.partition(">")[0][1:] if link else ""
    assert seen == ids[::-1]
    assert read(client.get("/runs?status=failed")) == []


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("limit=1.0", "limit"),
        ("limit=%D9%A3", "limit"),
        (f"limit={'9' * 5000}", "limit"),
        ("status=done", "status"),
        ("status=", "status"),
        (f"before={UNKNOWN}", "before"),
        ("before=%00", "before"),
    ],
)
def test_bad_queries(client: FlaskClient, query: str, name: str) -> None:
    response = client.get(f"/runs?{query}")
    assert_error(response, 400, "bad_request")
    assert [each["path"] for each in read(response)["details"]] == [[name]]


@pytest.mark.parametrize("wait", ["x", "-1", "nan", "inf", "1e9", "", "%D9%A3"])
def test_bad_waits(client: FlaskClient, wait: str) -> None:
    response = client.get(f"/runs/{read(post(client))['id']}?wait={wait}")
    assert_error(response, 400, "bad_request")


def test_a_wait_that_runs_out(client: FlaskClient, runner: FakeRunner) -> None:
    runner.hold()
    run_id = start(client)
    assert read(client.get(f"/runs/{run_id}?wait=0.05"))["status"] == "running"
    assert_error(client.get(f"/runs/{UNKNOWN}?wait=1"), 404, "not_found")


# --- bounds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("threads", "places"), [(64, 48), (8, 4), (4, 1), (1, 1), (17, 13)])
def test_sync_runs_get_a_part_of_the_threads(threads: int, places: int) -> None:
    assert waiting_threads(threads) == places


def test_beyond_that_they_are_turned_away_at_once(make_client: MakeClient, runner: FakeRunner) -> None:
    runner.hold()
    client = make_client(threads=1)
    thread = threading.Thread(target=post, args=(client,))
    thread.start()
    eventually(lambda: runner.began, "the first run is at work")
    response = post(client)
    assert_error(response, 503, "overloaded")
    assert int(response.headers["Retry-After"]) >= 1
    assert len(runner.began) == 1
    assert read(client.get(f"/runs/{runner.began[0]}?wait=60"))["status"] == "running", "no place, no wait"
    assert start(client), "a detached run needs no place"
    for run_id in list(runner.began):
        runner.end(run_id)
    thread.join()


def test_a_full_queue(client: FlaskClient, runner: FakeRunner) -> None:
    runner.hold()
    ids = [start(client) for _ in range(4)]
    assert [read(client.get(f"/runs/{run_id}"))["status"] for run_id in ids] == ["running"] * 2 + [
        "queued"
    ] * 2
    response = post(client, detached=True)
    assert_error(response, 503, "overloaded")
    assert "Retry-After" in response.headers


# --- artifacts ------------------------------------------------------------------------------------------


@pytest.fixture
def made(client: FlaskClient, runner: FakeRunner, tmp_path: Path) -> str:
    """A run that left ``a.txt``, ``d/e`` and a file whose name is no UTF-8."""
    runner.hold()
    run_id = start(client)
    folder = tmp_path / "artifacts" / run_id
    (folder / "d").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"hello")
    (folder / "d" / "e").write_bytes(b"")
    (folder / "odd\udcff").write_bytes(b"odd")
    artifacts = (
        RunArtifact("a.txt", 5, "file"),
        RunArtifact("d", 0, "directory"),
        RunArtifact("d/e", 0, "file"),
    )
    runner.end(run_id, RunResult(reason=Reason.EXIT, exit_code=0, artifacts=artifacts))
    client.get(f"/runs/{run_id}?wait=30")
    return run_id


def test_the_list_of_artifacts(client: FlaskClient, made: str) -> None:
    assert read(client.get(f"/runs/{made}/artifacts")) == [
        {"path": "a.txt", "bytes": 5, "type": "file"},
        {"path": "d", "bytes": 0, "type": "directory"},
        {"path": "d/e", "bytes": 0, "type": "file"},
    ]
    assert read(client.get(f"/runs/{start(client)}/artifacts")) == []


def test_an_artifact(client: FlaskClient, made: str) -> None:
    response = client.get(f"/runs/{made}/artifacts/a.txt", buffered=True)
    assert (response.status_code, response.data) == (200, b"hello")
    assert response.content_type == "application/octet-stream"
    assert response.headers["Content-Disposition"] == 'attachment; filename="a.txt"'
    # The test client cannot send %FF by itself: this is what a server makes of it.
    odd = {"PATH_INFO": f"/runs/{made}/artifacts/odd\xff"}
    assert client.get("/", environ_overrides=odd, buffered=True).data == b"odd"
    assert client.get(f"/runs/{made}/artifacts/odd%25FF", buffered=True).data == b"odd"


def test_a_folder(client: FlaskClient, made: str) -> None:
    for spelling in ("d", "d/", "d//", "./d"):
        response = client.get(f"/runs/{made}/artifacts/{spelling}")
        assert read(response) == [{"path": "e", "type": "file"}], spelling
    names = [each["path"] for each in read(client.get(f"/runs/{made}/artifacts/"))]
    assert {"a.txt", "d"} <= set(names)


@pytest.mark.parametrize("path", ["none", "a.txt/", "a.txt/x", "d/none", "n" * 300, "new%0Aline", "%ff"])
def test_artifacts_that_are_not_there(client: FlaskClient, made: str, path: str) -> None:
    assert_error(client.get(f"/runs/{made}/artifacts/{path}"), 404, "artifact_not_found")


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../..",
        "d/../../x",
        "%2e%2e/x",
        "..%2fx",
        "..%2Fx",
        "%2e%2e%2f%2e%2e%2fx",
        "..%5cx",
        "..\\x",
        "d%5c..%5cx",
        "a%00",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "%5cx",
        "C:%5cx",
        "%252e%252e/x",
        "..%0a/../x",
    ],
)
def test_paths_that_lead_outside(client: FlaskClient, made: str, path: str) -> None:
    assert_error(client.get(f"/runs/{made}/artifacts/{path}"), 400, "invalid_path")
    assert_error(client.get(f"/runs/{UNKNOWN}/artifacts/{path}"), 400, "invalid_path")


def test_an_unknown_kind_of_archive(client: FlaskClient, made: str) -> None:
    assert_error(client.get(f"/runs/{made}/artifacts?archive=rar"), 400, "bad_request")


def test_by_way_of_nginx(make_client: MakeClient, made: str) -> None:
    client = make_client(accel="/internal")
    response = client.get(f"/runs/{made}/artifacts/odd%25FF")
    assert response.headers["X-Accel-Redirect"] == f"/internal/{made}/odd%FF"
    assert response.headers["Content-Disposition"].startswith("attachment")
    assert response.data == b""


# --- the request log ------------------------------------------------------------------------------------


def test_a_request_is_logged_without_its_query(
    client: FlaskClient, made: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "light_run.request")
    client.get(f"/runs/{made}?wait=0&secret=canary", headers={"Authorization": "Bearer canary"}).close()
    record = caplog.records[-1]
    found = {name: getattr(record, name) for name in ("method", "path", "status", "run")}
    assert found == {"method": "GET", "path": f"/runs/{made}", "status": 200, "run": made}
    assert vars(record)["ms"] >= 0
    assert "canary" not in str(vars(record))


def test_a_download_is_logged_when_it_was_sent(
    client: FlaskClient, made: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "light_run.request")
    response = client.get(f"/runs/{made}/artifacts/a.txt")
    assert response.data == b"hello"
    response.close()
    assert [vars(record)["status"] for record in caplog.records] == [200]
