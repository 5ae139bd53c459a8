"""What answers become: values, the exceptions of the tree, and a sentence for those of others."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import requests

from light_run import errors
from light_run.client import local_path, model, responses
from light_run.client.connection import Connection
from light_run.client.download import url_path
from light_run.client.following import events
from light_run.client.retries import Retries
from tests.docs import rst
from tests.docs.settings_files import MANUAL


def answer(status: int, body: Any = None, **headers: str) -> requests.Response:
    """An answer as requests gives it; `body` is JSON, or bytes as they are."""
    response = requests.Response()
    response.status_code, response.url = status, "http://server/runs/ID"
    response._content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response._content_consumed = True  # type: ignore[attr-defined]
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return response


NAMED: dict[str, type[errors.LightRunError]] = {
    "bad_request": errors.InvalidSpec,
    "invalid_path": errors.InvalidPath,
    "unauthorized": errors.Unauthorized,
    "forbidden": errors.Unauthorized,
    "not_found": errors.RunNotFound,
    "network_not_found": errors.NetworkNotFound,
    "network_exists": errors.NetworkExists,
    "network_conflict": errors.NetworkConflict,
    "network_in_use": errors.NetworkInUse,
    "not_started": errors.RunNotStarted,
    "stdin_closed": errors.StdinClosed,
    "not_found_or_done": errors.RunNotActive,
    "not_found_or_running": errors.RunActive,
    "artifact_not_found": errors.ArtifactNotFound,
    "idempotency_conflict": errors.IdempotencyConflict,
    "overloaded": errors.Overloaded,
    "engine_unavailable": errors.ServerUnavailable,
    "insufficient_storage": errors.InsufficientStorage,
}


@pytest.mark.parametrize(
    ("status", "word"), [(int(row[0]), row[1]) for row in rst.table(MANUAL, "errors-table")]
)
def test_every_error_of_the_readme(status: int, word: str) -> None:
    error = responses.failure(answer(status, {"error": word}))
    assert type(error) is NAMED.get(word, errors.Refused)
    assert str(error)
    said = responses.failure(answer(status, {"error": word, "message": "as the server says"}))
    assert "as the server says" in str(said)
    if isinstance(error, errors.Refused):
        assert (error.status, error.word) == (status, word)


def test_a_path_that_the_server_does_not_know_is_no_run() -> None:
    for url in ("http://server/run", "http://server/elsewhere/runs?limit=1", "http://server/info"):
        response = answer(404, {"error": "not_found"})
        response.url = url
        error = responses.failure(response)
        assert isinstance(error, errors.NoSuchRoute)
        assert url in str(error)


def test_faults_keep_their_places() -> None:
    details = [{"path": ["files", 0], "code": "c", "message": "m"}, {"path": [], "code": "d", "message": "n"}]
    error = responses.failure(answer(400, {"error": "bad_request", "details": details}))
    assert isinstance(error, errors.InvalidSpec)
    assert error.faults == (errors.Fault(("files", 0), "c", "m"), errors.Fault((), "d", "n"))


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"x"', b"\xff", b'{"error": 5, "details": 3}'])
def test_what_no_light_run_has_answered(body: bytes) -> None:
    assert isinstance(responses.failure(answer(502, body)), errors.ServerUnavailable)
    assert isinstance(responses.failure(answer(418, body)), errors.Refused)
    moved = responses.failure(answer(301, body, Location="https://server/run"))
    assert "https://server/run" in str(moved)


@pytest.mark.parametrize(("given", "seconds"), [("7", 7), ("", 0), ("-1", 0), ("soon", 0), ("9" * 30, 3600)])
def test_retry_after(given: str, seconds: int) -> None:
    assert responses.retry_after(answer(503, {}, Retry_After=given)) == seconds


def test_a_value_that_is_no_json() -> None:
    with pytest.raises(errors.Refused, match="not as a light-run server"):
        responses.value(answer(200, b"<html>"))


@pytest.mark.parametrize(
    "state", [None, [], {}, {"id": "a"}, {"id": "a", "status": "running", "startedAt": "now"}]
)
def test_states_that_are_none(state: Any) -> None:
    with pytest.raises(errors.ClientError):
        model.run(state)


def test_a_state_may_have_fields_that_are_unknown() -> None:
    run = model.run({"id": "a", "status": "queued", "startedAt": "2026-04-20T10:00:00.250Z", "new": [1]})
    assert run.started_at == datetime(2026, 4, 20, 10, 0, 0, 250_000, timezone.utc)
    assert (run.ended, run.succeeded, run.state["new"]) == (False, False, [1])


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        (b"", []),
        (b": nothing yet\n\n", []),
        (b"id: 0\ndata: a\n\nid: 1\nevent: end\ndata: b\n\n", [("", "a"), ("end", "b")]),
        (b"data:a\ndata: b\nother\n\ndata: cut off\n", [("", "a\nb")]),
    ],
)
def test_server_sent_events(sent: bytes, found: list[tuple[str, str]]) -> None:
    assert list(events(answer(200, sent))) == found


@pytest.mark.parametrize(
    "url", ["", "localhost:3000", "ftp://x", "http://", "http://x:99999", "http://x/?a=b"]
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(errors.SettingsError):
        Connection(url, None, timeout=1, retries=Retries())


@pytest.mark.parametrize("path", ["", "/a", "a//b", "..", "a/../b", "./a", "a/", "a\0b"])
def test_artifacts_without_a_place(tmp_path: Path, path: str) -> None:
    with pytest.raises(errors.InvalidPath):
        local_path(tmp_path, path)


@pytest.mark.parametrize("path", ["a", "a/b", "..a", "a\nb", "a\\b", "%2e%2e", "~", "C:x"])
def test_artifacts_with_one(tmp_path: Path, path: str) -> None:
    assert local_path(tmp_path, path) == tmp_path / path


def test_a_link_on_the_way_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "out").symlink_to("..")
    (tmp_path / "to" / "in").symlink_to("real")
    (tmp_path / "to" / "real").mkdir()
    with pytest.raises(errors.InvalidPath, match="link"):
        local_path(tmp_path / "to", "out/x")
    assert local_path(tmp_path / "to", "in/x").parent.resolve() == tmp_path / "to" / "real"


def test_names_in_a_url() -> None:
    assert url_path("a b/ü%FF?#") == "a%20b/%C3%BC%25FF%3F%23"
    with pytest.raises(errors.InvalidPath):
        url_path("a/../../cancel")


@pytest.mark.parametrize("name", ["%FF" * 100, "ä" * 200, "n" * 300])
def test_a_name_that_is_too_long_for_a_file_system_is_shortened(tmp_path: Path, name: str) -> None:
    paths = {local_path(tmp_path, f"{name}{end}") for end in ("", "a", "b")}
    assert len(paths) == 3
    for path in paths:
        path.touch()
