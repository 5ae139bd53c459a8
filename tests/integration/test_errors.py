"""Errors are JSON, whatever is wrong with the request."""

from __future__ import annotations

import json

import pytest
import requests

from tests.integration.conftest import StartServer
from tests.support.raw import raw_request
from tests.support.server import Server, run_request

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def assert_error(response: requests.Response, status: int, word: str) -> None:
    """`response` is `status` with a JSON object whose `error` is `word`."""
    assert response.status_code == status, (response.status_code, response.text[:300])
    assert response.headers["Content-Type"].startswith("application/json")
    assert response.json()["error"] == word


NOT_FOUND = [
    ("GET", "/"),
    ("GET", "/nothing"),
    ("POST", "/runs/x/nothing"),
    ("GET", "/health/more"),
    ("GET", "/static/x.css"),
    ("GET", f"/runs/{UNKNOWN}"),
    ("GET", "/runs/not-an-id"),
    ("GET", f"/runs/{UNKNOWN}/artifacts"),
    ("GET", f"/runs/{UNKNOWN}/artifacts/a.txt"),
]


@pytest.mark.parametrize(("method", "path"), NOT_FOUND)
def test_unknown_route_or_run(server: Server, method: str, path: str) -> None:
    assert_error(server.request(method, path), 404, "not_found")


def test_cancel_of_an_unknown_run(server: Server) -> None:
    assert_error(server.cancel(UNKNOWN), 404, "not_found_or_done")


def test_delete_of_an_unknown_run(server: Server) -> None:
    assert_error(server.request("DELETE", f"/runs/{UNKNOWN}"), 404, "not_found_or_running")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/run"),
        ("PUT", "/run"),
        ("POST", "/health"),
        ("DELETE", "/runs"),
        ("PATCH", f"/runs/{UNKNOWN}"),
        ("GET", f"/runs/{UNKNOWN}/cancel"),
        ("POST", f"/runs/{UNKNOWN}/artifacts"),
        ("PUT", f"/runs/{UNKNOWN}/artifacts/a.txt"),
    ],
)
def test_wrong_method(server: Server, method: str, path: str) -> None:
    response = server.request(method, path)
    assert response.status_code == 405
    assert response.headers["Content-Type"].startswith("application/json")
    assert response.json()["error"] == "method_not_allowed"
    assert response.headers["Allow"]


MALFORMED = {
    "empty": b"",
    "blank": b"  \n",
    "not JSON": b"hello",
    "cut short": b'{"image": "x", "files": {"a"',
    "two values": b"{} {}",
    "single quotes": b"{'image': 'x'}",
    "invalid UTF-8": b'{"image": "\xff\xfe"}',
    "overlong UTF-8": b'{"image": "\xc0\xae"}',
    "absurd nesting of arrays": b"[" * 100_000,
    "absurd nesting of objects": b'{"a":' * 100_000,
    "absurd nesting, closed": b"[" * 50_000 + b"]" * 50_000,
    "absurd nesting inside": b'{"image":"x","files":{"a":"b"},"input":'
    + b"[" * 50_000
    + b"]" * 50_000
    + b"}",
    "an array": b"[]",
    "a string": b'"x"',
    "a number": b"1",
    "null": b"null",
    "NaN": b'{"image":"x","files":{"a":"b"},"input":NaN}',
    "Infinity": b'{"image":"x","files":{"a":"b"},"timeout":Infinity}',
    "a number of a million digits": b'{"image":"x","files":{"a":"b"},"timeout":' + b"9" * 1_000_000 + b"}",
    "NUL": b"\0",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_body_that_is_no_request(server: Server, case: str) -> None:
    response = server.request(
        "POST", "/run", data=MALFORMED[case], headers={"Content-Type": "application/json"}
    )
    assert_error(response, 400, "bad_request")


CONTENT_TYPES = [
    None,
    "application/json",
    "application/json; charset=utf-8",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "text/plain",
    "application/octet-stream",
    "nonsense",
]


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_the_body_is_json_whatever_its_type_says(server: Server, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    response = server.request("POST", "/run", data=json.dumps(run_request()).encode(), headers=headers)
    assert response.status_code == 200, response.text
    assert response.json()["status"] == "succeeded"


def test_only_with_a_boundary_it_is_multipart(server: Server) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response = server.request("POST", "/run", data=json.dumps(run_request()).encode(), headers=headers)
    assert_error(response, 400, "bad_request")
    assert "multipart/form-data" in response.json()["message"]


def test_a_chunked_body(server: Server) -> None:
    body = json.dumps(run_request()).encode()
    response = server.request("POST", "/run", data=iter([body[:10], body[10:]]))
    assert response.status_code == 200, response.text


def test_all_faults_at_once(server: Server) -> None:
    body = {
        "image": "",
        "files": {"../x": "a", "/y": "b", "ok": 5},
        "timeout": "10",
        "env": {"1A": "x", "B": 1},
        "nonsense": True,
        "detached": "yes",
    }
    response = server.request("POST", "/run", json=body)
    assert_error(response, 400, "bad_request")
    details = response.json()["details"]
    paths = [tuple(fault["path"]) for fault in details]
    for path in [
        ("image",),
        ("files", "../x"),
        ("files", "/y"),
        ("files", "ok"),
        ("timeout",),
        ("env", "1A"),
        ("env", "B"),
        ("nonsense",),
        ("detached",),
    ]:
        assert path in paths, (path, details)
    assert len(paths) == 9, details
    for fault in details:
        assert set(fault) == {"path", "code", "message"}
        assert fault["code"]
        assert fault["message"]


def test_a_path_that_leaves_the_workdir_is_named(server: Server) -> None:
    response = server.request("POST", "/run", json=run_request(files={"../x": "a"}))
    (fault,) = response.json()["details"]
    assert fault["path"] == ["files", "../x"]
    assert fault["code"] == "invalid_path"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("entryPoint", "entrypoint"),
        ("timeOut", "timeout"),
        ("callbackURL", "callbackUrl"),
        ("file", "files"),
        ("netwrok", "network"),
        ("detach", "detached"),
    ],
)
def test_an_unknown_field_is_named_with_the_one_meant(server: Server, written: str, meant: str) -> None:
    response = server.request("POST", "/run", json=run_request(**{written: "x"}))
    assert_error(response, 400, "bad_request")
    (fault,) = response.json()["details"]
    assert fault["path"] == [written]
    assert written in fault["message"]
    assert meant in fault["message"]


def test_an_unknown_field_like_no_other(server: Server) -> None:
    response = server.request("POST", "/run", json=run_request(zzzzqqqq=1))
    (fault,) = response.json()["details"]
    assert fault["path"] == ["zzzzqqqq"]
    assert "zzzzqqqq" in fault["message"]


def test_payload_too_large(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_BODY_LIMIT": "2000"})
    fits = run_request(files={"a": "x" * 1000})
    large = run_request(files={"a": "x" * 2000})
    assert server.request("POST", "/run", json=fits).status_code == 200
    assert_error(server.request("POST", "/run", json=large), 413, "payload_too_large")
    chunks = [b'{"image": "', *[b"x" * 100 for _ in range(30)], b'"}']
    assert_error(server.request("POST", "/run", data=iter(chunks)), 413, "payload_too_large")
    assert server.run()["status"] == "succeeded"


def test_payload_too_large_at_the_default_limit(server: Server) -> None:
    limit = 10_485_760
    frame = len(json.dumps(run_request(files={"a": ""})))
    body = json.dumps(run_request(files={"a": "x" * (limit - frame)})).encode()
    assert len(body) == limit
    assert server.request("POST", "/run", data=body).status_code == 200
    assert_error(server.request("POST", "/run", data=body + b" "), 413, "payload_too_large")


def test_a_content_length_beyond_the_limit_is_refused_without_reading_on(server: Server) -> None:
    head = b"Content-Type: application/json\r\nContent-Length: 99999999999\r\n"
    answer = raw_request(server, "POST", b"/run", head=head)
    assert answer.status == 413
    assert json.loads(answer.body)["error"] == "payload_too_large"


@pytest.mark.parametrize(
    "target", [b"/runs/%ff", b"/%ff%fe", b"/runs/%00", b"/runs/a%2fb", b"/runs?status=%ff"]
)
def test_odd_targets_are_no_server_error(server: Server, target: bytes) -> None:
    answer = raw_request(server, "GET", target)
    assert answer.status in (400, 404)
    assert "error" in json.loads(answer.body)
