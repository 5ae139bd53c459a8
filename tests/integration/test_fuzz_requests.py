"""What schemathesis does not think of, beyond UTF-8: an answer of the contract, never a server error."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.server import Server

FIELDS = [
    *("image", "files", "entrypoint", "run", "setup", "input", "timeout", "network", "workdir", "env"),
    *("extract", "detached", "callbackUrl", "callbackSecret", "limits", "runtime"),
]

# Lone surrogates included: JSON can spell them.
TEXT = st.text(st.characters(codec=None), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
PATHS = (
    st.sampled_from(["a", "a/b", "../a", "/a", "a\\..\\b", "C:\\a", "", "a\0", ".", "..", "x" * 300]) | TEXT
)
NEAR: dict[str, st.SearchStrategy[Any]] = {
    "files": st.dictionaries(
        PATHS,
        TEXT
        | st.fixed_dictionaries(
            {"content": TEXT}, optional={"encoding": TEXT | st.just("base64"), "mode": TEXT}
        ),
        max_size=4,
    ),
    "entrypoint": TEXT,
    "run": st.lists(TEXT, max_size=3),
    "timeout": st.integers() | st.sampled_from([1, 3_600_000, 10**400]),
    "network": st.sampled_from(["none", "host", "container:x", "bridge"]) | TEXT,
    "workdir": st.sampled_from(["/", "/app", "/a/../b", "app", "//"]) | TEXT,
    "env": st.dictionaries(TEXT | st.sampled_from(["A", "1A", "A=B"]), TEXT, max_size=3),
    "extract": st.lists(PATHS, max_size=4),
    "callbackUrl": st.sampled_from(["http://[", "http://[::1]:99999/", "//x", "http://a b/", "https://x:-1"])
    | TEXT,
    "limits": st.dictionaries(st.sampled_from(["memory", "cpus", "pids"]) | TEXT, SCALARS, max_size=3),
    "runtime": TEXT,
}
# Nothing ever runs: a registry that is not there, a name that no engine takes, or no name at all.
IMAGES = st.sampled_from(["127.0.0.1:1/x", "NOT AN IMAGE", "", "-", "a:b:c"]) | JSON.filter(
    lambda image: not isinstance(image, str)
)
BODIES = st.fixed_dictionaries(
    {"image": IMAGES},
    optional={name: NEAR.get(name, JSON) | JSON for name in FIELDS if name not in ("image", "detached")},
)

SETTINGS = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])


def assert_answer(server: Server, body: bytes) -> None:
    """POST `body`: faults, or a run that failed."""
    response = server.request("POST", "/run", data=body)
    assert response.status_code in (200, 400), (response.status_code, response.text, body)
    answer = response.json()
    if response.status_code == 400:
        assert answer["error"] == "bad_request"
        for fault in answer.get("details", []):
            assert set(fault) == {"path", "code", "message"}
    else:
        assert answer["status"] == "failed"


@SETTINGS
@given(body=BODIES)
def test_requests_that_are_nearly_right(server: Server, body: dict[str, Any]) -> None:
    assert_answer(server, json.dumps(body).encode())


@SETTINGS
@given(body=st.binary(max_size=200))
def test_any_bytes(server: Server, body: bytes) -> None:
    assert_answer(server, body)


@SETTINGS
@given(path=st.binary(min_size=1, max_size=30))
def test_any_artifact_path(server: Server, path: bytes) -> None:
    spelt = "".join(f"%{byte:02x}" for byte in path)
    run_id = "00000000-0000-4000-8000-000000000000"
    assert server.get(f"/runs/{run_id}/artifacts/{spelt}").status_code in (308, 400, 404)
