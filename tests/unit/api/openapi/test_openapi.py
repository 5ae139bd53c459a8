"""The document of itself: whole, right by its own specification, and readable."""

from __future__ import annotations

import configparser
import copy
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
import schemathesis
from flask.testing import FlaskClient

from light_run.api import Policy
from light_run.api.openapi import errors as failures
from light_run.api.openapi.description import describe
from light_run.api.requests import schema as schemas
from light_run.api.responses import errors
from light_run.engine import Limits
from light_run.errors import InvalidSpec
from light_run.server.http_worker import _REFUSALS
from tests.support.described import faults
from tests.support.server import REPOSITORY
from tests.unit.conftest import MakeClient

Json = dict[str, Any]
METHODS = {"get", "post", "delete"}


@pytest.fixture(scope="module")
def document() -> Json:
    """The document of a server that asks for tokens."""
    return describe(Policy(), body_limit=1234, secured=True)


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Path, method and operation of each."""
    for path, item in document["paths"].items():
        assert item.keys() <= METHODS
        yield from ((path, method, operation) for method, operation in item.items())


def examples(part: Any) -> Iterator[tuple[Json, Any]]:
    """Each example that has a schema beside it, with that schema."""
    if isinstance(part, dict):
        if "example" in part and "schema" in part:
            yield part["schema"], part["example"]
        if "examples" in part and "schema" in part:
            yield from ((part["schema"], each["value"]) for each in part["examples"].values())
        for below in part.values():
            yield from examples(below)
    elif isinstance(part, list):
        for below in part:
            yield from examples(below)


# --- the document ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("secured", [True, False])
def test_it_is_openapi(secured: bool) -> None:
    document = describe(Policy(), body_limit=1, secured=secured)
    schemathesis.openapi.from_dict(copy.deepcopy(document)).validate()
    assert document["openapi"].startswith("3.1.")
    assert next(iter(document)) == "openapi"


def test_every_route_is_in_it_and_no_other(client: FlaskClient, document: Json) -> None:
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule).replace("{rest}", "{path}"), method.lower())
        for rule in client.application.url_map.iter_rules()
        for method in rule.methods or ()
    }
    assert {(path, method) for path, method, _ in operations(document)} == {
        (path, method) for path, method in routes if method not in {"head", "options"}
    }


def test_every_operation_says_what_it_is(document: Json) -> None:
    found = [operation for _, _, operation in operations(document)]
    assert len({operation["operationId"] for operation in found}) == len(found)
    for operation in found:
        assert operation["summary"]
        succeeding = [answer for status, answer in operation["responses"].items() if status < "300"]
        assert succeeding
        shown = [media for answer in succeeding for media in answer.get("content", {}).items()]
        # Bytes and pages have no example worth reading.
        assert all("example" in media for kind, media in shown if kind == "application/json")


def test_every_field_and_parameter_is_explained(document: Json) -> None:
    for name in ("RunRequest", "Limits", "RunState"):
        for field, schema in document["components"]["schemas"][name]["properties"].items():
            assert schema.get("description"), f"{name}.{field}"
    for _, _, operation in operations(document):
        assert all(parameter["description"] for parameter in operation.get("parameters", ()))


def test_every_field_of_a_request_is_there(document: Json) -> None:
    described = document["components"]["schemas"]["RunRequest"]["properties"]
    assert list(described) == list(schemas.run_schema(Policy()).fields)


def test_every_example_is_right(document: Json) -> None:
    found = list(examples(document["paths"])) + list(examples(document["components"]["responses"]))
    assert len(found) > 20
    for schema, example in found:
        assert list(faults(schema, example)) == []


@pytest.mark.parametrize("name", ["waiting", "detached"])
def test_the_examples_are_requests(document: Json, name: str) -> None:
    media = document["paths"]["/run"]["post"]["requestBody"]["content"]["application/json"]
    body = media["examples"][name]["value"]
    loaded = schemas.load(schemas.run_schema(Policy()), json.dumps(body).encode())
    assert (loaded["image"], loaded.get("detached", False)) == (body["image"], name == "detached")


def test_every_error_word_is_in_it() -> None:
    words = {(status, word) for status, word in errors._WORDS.items()}
    words |= set(errors._ANSWERS.values()) | {(status, word) for _, status, _, word in _REFUSALS}
    # Nothing asks the engine while a request waits.
    words.discard((503, "engine_unavailable"))
    assert words <= {(status, word) for word, (status, _) in failures.WORDS.items()}


def test_bounds_are_those_of_the_server() -> None:
    policy = Policy(
        max_timeout=5000, timeout=4000, most=Limits(pids=7), limits=Limits(pids=3), runtimes=("runsc",)
    )
    document = describe(policy, body_limit=1234, secured=False)
    fields = document["components"]["schemas"]["RunRequest"]["properties"]
    assert (fields["timeout"]["maximum"], fields["timeout"]["default"]) == (5000, 4000)
    assert fields["runtime"]["enum"] == ["runsc"]
    pids = document["components"]["schemas"]["Limits"]["properties"]["pids"]
    assert (pids["maximum"], pids["default"]) == (7, 3)
    assert "1234 bytes" in document["paths"]["/run"]["post"]["description"]


def test_a_server_without_tokens_asks_for_none(document: Json) -> None:
    open_one = describe(Policy(), body_limit=1, secured=False)
    assert "securitySchemes" not in open_one["components"]
    assert all("security" not in operation for _, _, operation in operations(open_one))
    assert all("401" not in operation["responses"] for _, _, operation in operations(open_one))
    needing = [path for path, _, operation in operations(document) if operation["security"]]
    assert {path for path, _, _ in operations(document)} - set(needing) == {
        "/health",
        "/console/{filename}",
        "/docs",
        "/docs/{filename}",
    }


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("files", {"a": ""}, True),
        ("files", {}, False),
        ("files", {"a/../b": ""}, False),
        ("files", {"/a": ""}, False),
        ("files", {"./C:\\a": ""}, False),
        ("files", {"a/": ""}, False),
        ("files", {"": ""}, False),
        ("files", {"..a/b..": ""}, True),
        ("files", {"a" * 256: ""}, False),
        ("files", {"a": {"content": "YQ==", "encoding": "base64"}}, True),
        ("files", {"a": {"content": "YQ=", "encoding": "base64"}}, False),
        ("files", {"a": {"content": "?", "mode": "0755"}}, True),
        ("files", {"a": {"content": "", "mode": "789"}}, False),
        ("files", {"a": {"content": "", "other": 1}}, False),
        ("workdir", "/a b", True),
        ("workdir", "a", False),
        ("workdir", "/a/..", False),
        ("network", "host", False),
        ("network", "hosts", True),
        ("env", {"A_1": "x"}, True),
        ("env", {"1A": "x"}, False),
        ("env", {"A": "\0"}, False),
        ("extract", ["/a", "b"], True),
        ("extract", ["a\\..\\b"], False),
        ("callbackUrl", "HTTPS://host/x?y", True),
        ("callbackUrl", "ftp://host", False),
        ("limits", {"memory": "64m"}, True),
        ("limits", {"memory": "64x"}, False),
        ("limits", {"cpu": 1}, False),
        ("input", None, True),
        ("timeout", True, False),
        ("image", None, False),
    ],
)
def test_what_it_takes_is_what_is_taken(name: str, value: Any, right: bool) -> None:
    request = {"image": "alpine", "files": {"a": ""}, name: value}
    valid = not list(faults({"$ref": "#/components/schemas/RunRequest"}, request))
    assert valid is right
    try:
        schemas.load(schemas.run_schema(Policy()), json.dumps(request).encode())
    except InvalidSpec:
        assert not right
    else:
        assert right


# --- where it is ----------------------------------------------------------------------------------------


def test_the_document_is_served(client: FlaskClient) -> None:
    response = client.get("/openapi.json")
    assert response.content_type == "application/json"
    assert response.get_json() == describe(Policy(), body_limit=100_000, secured=False)


def test_a_browser_may_send_the_token_as_a_password(make_client: MakeClient) -> None:
    client, path = make_client(token="secret"), "/openapi.json"
    refused = client.get(path)
    assert refused.status_code == 401
    assert refused.headers.getlist("WWW-Authenticate") == [
        "Bearer",
        'Basic realm="light-run", charset="UTF-8"',
    ]
    assert client.get(path, auth=("anybody", "secret")).status_code == 200
    assert client.get(path, auth=("secret", "wrong")).status_code == 401
    assert client.get(path, headers={"Authorization": "Bearer secret"}).status_code == 200
    assert client.get(path, headers={"Authorization": "Basic ?"}).status_code == 401


def test_nowhere_else(make_client: MakeClient) -> None:
    response = make_client(token="secret").get("/runs", auth=("anybody", "secret"))
    assert response.status_code == 401
    assert response.headers.getlist("WWW-Authenticate") == ["Bearer"]


def test_it_costs_nothing_until_it_is_asked_for() -> None:
    script = "import sys, light_run.app; print([name for name in sys.modules if name.startswith('apispec')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_its_files_are_in_the_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    folder = REPOSITORY / "light_run"
    patterns = setup["options.package_data"]["light_run"].split()
    packed = {file for pattern in patterns for file in folder.glob(pattern)}
    files = {file for file in folder.rglob("*") if file.is_file() and file.suffix not in {".py", ".pyc"}}
    assert packed == files


# --- the page (tests/integration/test_docs_page.py has it in a browser) ----------------------------------


class Page(HTMLParser):
    """What a page loads and links to, and what of it is allowed to run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: dict[str, str] = {}
        self.links: list[str] = []
        self.nonces: list[str | None] = []
        self.styled: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what is of interest."""
        given = dict(attrs)
        if tag == "a":
            self.links.append(given["href"] or "")
        elif "src" in given or "href" in given:
            self.loaded[given.get("src") or given.get("href") or ""] = tag
        if tag in {"script", "style"} or given.get("rel") == "stylesheet":
            self.nonces.append(given.get("nonce"))
        if "style" in given or any(name.startswith("on") for name in given):
            self.styled.append(tag)


@pytest.fixture
def page(make_client: MakeClient) -> Page:
    """The page of a server that asks for tokens: itself, it needs none."""
    response = make_client(token="secret").get("/docs")
    assert response.content_type == "text/html; charset=utf-8"
    return Page(response.get_data(as_text=True))


def test_all_that_the_page_loads_is_the_server_s_own(page: Page, make_client: MakeClient) -> None:
    assert page.loaded == {
        "data:,": "link",
        "docs/swagger-ui.css": "link",
        "docs/theme.css": "link",
        "docs/docs.css": "link",
        "docs/swagger-ui-bundle.js": "script",
        "docs/docs.js": "script",
        "docs/load.js": "script",
    }
    client = make_client(token="secret")
    for name in (path.removeprefix("docs/") for path in page.loaded if path.startswith("docs/")):
        kind = "text/css" if name.endswith(".css") else "javascript"
        with client.get(f"/docs/{name}") as response:
            assert response.status_code == 200
            assert kind in response.content_type
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            etag = response.headers["ETag"]
        assert client.get(f"/docs/{name}", headers={"If-None-Match": etag}).status_code == 304
    assert page.links[-1] == "openapi.json"


def test_methods_that_it_does_not_know(make_client: MakeClient) -> None:
    client = make_client(token="secret")
    for path in ("/docs", "/docs/docs.css"):
        assert client.post(path).status_code == 405
    assert client.get("/docs/unknown").status_code == 404
    assert client.get("/docsunknown").status_code == 401


def test_it_links_to_the_console_where_there_is_one(make_client: MakeClient) -> None:
    with_console = Page(make_client(with_console=True).get("/docs").get_data(as_text=True))
    assert with_console.links == [*["./#/runs"] * 2, "./#/new", "./#/service", "docs", "openapi.json"]
    without = Page(make_client(with_console=False).get("/docs").get_data(as_text=True))
    assert without.links == ["openapi.json"]


@pytest.mark.parametrize("path", ["nothing", "", "../__init__.py", "%2e%2e/__init__.py", "/etc/passwd"])
def test_nothing_else_is_below_the_page(client: FlaskClient, path: str) -> None:
    response = client.get(f"/docs/{path}")
    assert (response.status_code, response.get_json()["error"]) == (404, "not_found")


def test_only_what_the_page_names_may_run(client: FlaskClient) -> None:
    seen = set()
    for _ in range(2):
        response = client.get("/docs")
        page = Page(response.get_data(as_text=True))
        assert page.styled == []
        nonces = set(page.nonces)
        (nonce,) = nonces
        assert nonce
        seen.add(nonce)
        policy = dict(each.split(" ", 1) for each in response.headers["Content-Security-Policy"].split("; "))
        assert policy == {
            "default-src": "'none'",
            "script-src": f"'nonce-{nonce}'",
            "style-src": f"'nonce-{nonce}'",
            "img-src": "data:",
            "connect-src": "'self'",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
        }
        assert response.headers["Cache-Control"] == "no-store"
    assert len(seen) == 2


def test_vendored_files_are_as_they_were_released() -> None:
    for package in json.loads((REPOSITORY / "light_run/api/vendored/vendored.json").read_text()):
        found = {
            file.name: hashlib.sha256(file.read_bytes()).hexdigest()
            for file in (REPOSITORY / package["folder"]).iterdir()
        }
        assert found == {path.rpartition("/")[2]: digest for path, digest in package["files"].items()}
        assert package["licence"]
        assert any("LICENSE" in name for name in found)
