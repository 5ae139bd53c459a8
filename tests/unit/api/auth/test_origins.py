"""Which requests of web pages are answered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from light_run.api.auth.origins import OriginPolicy
from light_run.config import readers
from tests.unit.conftest import MakeClient

OWN = "127.0.0.1:3000"
ALLOWED = OriginPolicy(origins=("https://app.example.com", "https://*.team.example", "http://localhost:*"))


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:3000", OWN),
        ("http://LOCALHOST:3000", "localhost:3000"),
        ("http://[::1]:3000", "[::1]:3000"),
        ("https://runs.example.com", "runs.example.com"),
        ("https://runs.example.com", "runs.example.com:443"),
        ("http://runs.example.com:80", "runs.example.com"),
        (None, OWN),
    ],
)
@pytest.mark.parametrize("site", [None, "same-origin", "same-site", "none"])
def test_the_server_s_own_pages(origin: str | None, host: str, site: str | None) -> None:
    assert not OriginPolicy().is_foreign(origin, host, site)


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://127.0.0.1:3001",
        "http://127.0.0.1",
        "https://127.0.0.1.evil.example:3000",
        "null",
        "",
        "http://127.0.0.1:3000,http://evil.example",
        "http://127.0.0.1:3000/",
        "http://user@127.0.0.1:3000",
        "127.0.0.1:3000",
        "x" * 5000,
    ],
)
def test_pages_of_others(origin: str) -> None:
    assert OriginPolicy().is_foreign(origin, OWN, None)
    assert not ALLOWED.allows_origin(origin)


def test_what_the_browser_says_of_the_site_counts() -> None:
    assert OriginPolicy().is_foreign(None, OWN, "cross-site")
    assert OriginPolicy().is_foreign("http://127.0.0.1:3000", OWN, "cross-site")
    # Behind a proxy that changes Host.
    assert not OriginPolicy().is_foreign("https://runs.example.com", OWN, "same-origin")


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example.com", True),
        ("https://APP.example.com", True),
        ("https://app.example.com:8443", False),
        ("http://app.example.com", False),
        ("https://app.example.com.evil.example", False),
        ("https://a.team.example", True),
        ("https://a.b.team.example", True),
        ("https://team.example", False),
        ("https://evil.example/.team.example", False),
        ("http://localhost:5173", True),
        ("null", False),
    ],
)
def test_patterns_of_origins(origin: str, allowed: bool) -> None:
    assert ALLOWED.allows_origin(origin) is allowed


def test_all_origins_are_all_but_null() -> None:
    assert OriginPolicy(origins=("*",)).allows_origin("https://any.example")
    assert not OriginPolicy(origins=("*",)).allows_origin("null")
    assert OriginPolicy(origins=("null",)).allows_origin("null")


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost", True),
        ("LocalHost.:3000", True),
        ("runs.localhost:3000", True),
        ("127.0.0.1:3000", True),
        ("127.8.9.1", True),
        ("192.168.1.7:3000", True),
        ("[::1]:3000", True),
        ("[fe80::1]", True),
        ("evil.example", False),
        ("evil.example:3000", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("user@localhost", False),
        ("", False),
        ("ci.team.example", True),
        ("light-run", True),
    ],
)
def test_hosts_of_a_server_without_a_token(host: str, known: bool) -> None:
    assert OriginPolicy(hosts=("*.team.example", "light-run")).knows_host(host) is known


@pytest.mark.parametrize(
    "value", ["https://a.example/path", "a.example", "https://", "ftp://a b@c", "https://u@a.example"]
)
def test_what_is_no_origin(value: str) -> None:
    with pytest.raises(ValueError, match="not an origin"):
        readers.origins(value)


@pytest.mark.parametrize("value", ["https://a.example", "a.example:80", "-a", "a/b"])
def test_what_is_no_host(value: str) -> None:
    with pytest.raises(ValueError, match="not a host name"):
        readers.hosts(value)


# --- on the application -----------------------------------------------------------------------------------


def test_a_foreign_page_runs_nothing(make_client: MakeClient) -> None:
    client = make_client()
    response = client.post(
        "/run",
        data=json.dumps({"image": "alpine", "files": {"a": "1"}}),
        headers={"Origin": "http://evil.example", "Content-Type": "text/plain"},
    )
    assert response.status_code == 403
    assert json.loads(response.data)["error"] == "origin_not_allowed"
    assert "LIGHT_RUN_ORIGINS" in json.loads(response.data)["message"]
    assert "Access-Control-Allow-Origin" not in response.headers
    assert json.loads(client.get("/runs").data) == []


@pytest.mark.parametrize("path", ["/health", "/runs", "/nowhere", "/docs"])
def test_every_route_is_guarded(make_client: MakeClient, path: str) -> None:
    client = make_client()
    assert client.get(path, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.get(path, headers={"Host": "evil.example"}).status_code == 421


def test_a_server_with_a_token_goes_by_any_name(make_client: MakeClient) -> None:
    response = make_client(token="t").get("/health", headers={"Host": "runs.example.com"})
    assert response.status_code == 200


def allowing(make_client: MakeClient, **options: Any) -> Any:
    return make_client(browsers=ALLOWED, **options)


def test_a_preflight_needs_no_token(make_client: MakeClient) -> None:
    headers = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST"}
    response = allowing(make_client, token="t").options("/run", headers=headers)
    assert (response.status_code, response.data) == (204, b"")
    assert response.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Credentials" not in response.headers


def test_answers_to_an_allowed_origin_can_be_read(make_client: MakeClient) -> None:
    client = allowing(make_client, token="t")
    for path, status in (("/health", 200), ("/runs", 401), ("/nowhere", 401)):
        response = client.get(path, headers={"Origin": "https://app.example.com"})
        assert response.status_code == status
        assert response.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
        assert "ETag" in response.headers["Access-Control-Expose-Headers"]
        assert "Origin" in response.headers["Vary"]


def test_a_preflight_of_another_origin(make_client: MakeClient) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    response = allowing(make_client).options("/run", headers=headers)
    assert response.status_code == 403
    assert "Access-Control-Allow-Origin" not in response.headers
    assert "Origin" in response.headers["Vary"]
