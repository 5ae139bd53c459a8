"""GET /health, and who may use the other routes."""

from __future__ import annotations

import pytest

from tests.integration.conftest import StartServer
from tests.support.server import TOKEN, Server, log_events, run_request

UNKNOWN = "00000000-0000-4000-8000-000000000000"

GUARDED = [
    ("POST", "/run"),
    ("GET", "/runs"),
    ("GET", f"/runs/{UNKNOWN}"),
    ("POST", f"/runs/{UNKNOWN}/cancel"),
    ("DELETE", f"/runs/{UNKNOWN}"),
    ("GET", f"/runs/{UNKNOWN}/artifacts"),
    ("GET", f"/runs/{UNKNOWN}/artifacts/a.txt"),
]

REFUSED = {
    "no header": None,
    "another token": "Bearer another",
    "a prefix of the token": f"Bearer {TOKEN[:-1]}",
    "the token and more": f"Bearer {TOKEN}x",
    "another scheme": f"Basic {TOKEN}",
    "the token alone": TOKEN,
    "an empty token": "Bearer ",
    "not ASCII": "Bearer t\u00f6ken".encode().decode("latin-1"),
}


def test_health_is_open_and_ok(server: Server) -> None:
    response = server.get("/health", token="")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("application/json")
    health = response.json()
    assert health["status"] == "ok"
    assert health["docker"] is True


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_every_other_route_needs_the_token(server: Server, method: str, path: str) -> None:
    response = server.request(method, path, token="")
    assert response.status_code == 401
    assert response.json()["error"] == "unauthorized"


@pytest.mark.parametrize("case", REFUSED)
def test_only_the_very_token_opens(server: Server, case: str) -> None:
    value = REFUSED[case]
    headers = {} if value is None else {"Authorization": value}
    response = server.request("GET", "/runs", token="", headers=headers)
    assert response.status_code == 401
    assert response.json()["error"] == "unauthorized"


def test_an_unauthorized_run_is_not_started(server: Server) -> None:
    before = [run["id"] for run in server.get("/runs").json()]
    assert server.request("POST", "/run", token="wrong", json=run_request()).status_code == 401
    assert [run["id"] for run in server.get("/runs").json()] == before


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_the_token_opens(server: Server, method: str, path: str) -> None:
    assert server.request(method, path).status_code != 401


def warnings_about_the_token(server: Server) -> list[str]:
    """Log events at warning or above that speak of the token."""
    events = log_events(server.stderr)
    return [str(event) for event in events if event["level"] != "info" and "token" in str(event).lower()]


def test_without_a_token_every_route_is_open_and_a_warning_says_so(start_server: StartServer) -> None:
    server = start_server(token=None)
    assert server.get("/runs").status_code == 200
    assert server.run()["status"] == "succeeded"
    assert warnings_about_the_token(server)


def test_with_a_token_there_is_no_such_warning(server: Server) -> None:
    assert not warnings_about_the_token(server)
