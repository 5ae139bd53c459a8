"""Web pages, on the running server: what a browser sends, byte by byte."""

from __future__ import annotations

import json

import pytest

from tests.integration.conftest import StartServer
from tests.support.server import run_request

PAGE = {"Content-Type": "text/plain"}


@pytest.mark.parametrize(
    ("headers", "status", "word"),
    [
        ({"Origin": "http://evil.example"}, 403, "origin_not_allowed"),
        ({"Origin": "null"}, 403, "origin_not_allowed"),
        ({"Sec-Fetch-Site": "cross-site"}, 403, "origin_not_allowed"),
        ({"Host": "evil.example"}, 421, "misdirected_request"),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 421, "misdirected_request"),
    ],
)
def test_no_page_starts_a_container(
    start_server: StartServer, headers: dict[str, str], status: int, word: str
) -> None:
    server = start_server(token=None)
    body = json.dumps(run_request())
    response = server.request("POST", "/run", data=body, headers={**PAGE, **headers})
    assert (response.status_code, response.json()["error"]) == (status, word)
    assert server.get("/runs").json() == []


def test_an_allowed_page_and_the_server_s_own(start_server: StartServer) -> None:
    settings = {"LIGHT_RUN_ORIGINS": "https://*.example.com", "LIGHT_RUN_HOSTS": "light-run"}
    server = start_server(token=None, settings=settings)
    body = json.dumps(run_request(entrypoint="echo hello"))
    page = {**PAGE, "Origin": "https://app.example.com", "Sec-Fetch-Site": "cross-site"}
    response = server.request("POST", "/run", data=body, headers=page)
    assert (response.status_code, response.json()["logs"]) == (200, ["hello"])
    assert response.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    assert server.get("/health", headers={"Host": "light-run:3000"}).status_code == 200
    assert server.get("/health", headers={"Origin": server.url}).status_code == 200
    preflight = {**page, "Access-Control-Request-Method": "POST"}
    assert server.request("OPTIONS", "/run", headers=preflight).status_code == 204
