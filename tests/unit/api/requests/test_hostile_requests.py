"""Bodies made to hurt: each is answered, never with a 500, in bounded time and memory."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc

import pytest
from flask.testing import FlaskClient

from tests.unit.conftest import MakeClient

LIMIT = 2 * 1024 * 1024
# Of this body, on a slow and busy machine.
SECONDS = 20.0
# Of memory, for one byte of a body: what Python makes of the smallest entries there are.
FACTOR = 120


def filled(pattern: str) -> bytes:
    """A request as long as may be whose files are `pattern`, with a number for %d, again and again."""
    pieces, size, number = [], 0, 0
    while size < LIMIT - 200:
        pieces.append(pattern % number)
        size += len(pieces[-1]) + 1
        number += 1
    return b'{"image":"x","detached":true,"files":{' + ",".join(pieces).encode() + b"}}"


HOSTILE: dict[str, bytes] = {
    "entries": filled('"%x":""'),
    "faults": filled('"/%x":""'),
    "folders": filled('"%x/a/b/c/d/e/f":""'),
    "objects": filled('"%x":{}'),
    "nested paths": b'{"image":"x","files":{"' + b"a/" * 500_000 + b'a":""}}',
    "one key again and again": b'{"image":"x","files":{' + b",".join([b'"a":""'] * 200_000) + b"}}",
    "fields": b"{" + b",".join(b'"%x":0' % number for number in range(150_000)) + b"}",
    "env": b'{"image":"x","detached":true,"files":{"a":""},"env":{'
    + b",".join(b'"a%x":""' % number for number in range(120_000))
    + b"}}",
    "steps": b'{"image":"x","files":{"a":""},"run":[' + b",".join([b'"x"'] * 400_000) + b"]}",
    "input": b'{"image":"x","files":{"a":""},"detached":true,"input":['
    + b",".join([b"[]"] * 600_000)
    + b"]}",
    "deep arrays": b"[" * LIMIT,
    "deep objects": b'{"a":' * (LIMIT // 5),
    "deep input": b'{"image":"x","files":{"a":""},"input":' + b"[" * 500_000 + b"]" * 500_000 + b"}",
    # A fault, and as much as may be as deep as may be: to name its place must not cost each value's path.
    "deep and wide": b'{"a":1,"a":2,"input":' + b"[" * 800 + b",".join([b"0"] * 900_000) + b"]" * 800 + b"}",
    "a huge integer": b'{"image":"x","files":{"a":""},"timeout":' + b"9" * 1_000_000 + b"}",
    "a huge input": b'{"image":"x","files":{"a":""},"detached":true,"input":' + b"9" * 100_000 + b"}",
    "a huge exponent": b'{"image":"x","files":{"a":""},"timeout":1e999999999}',
    "not a number": b'{"image":"x","files":{"a":""},"timeout":NaN,"input":Infinity}',
    "huge limits": b'{"image":"x","files":{"a":""},"limits":{"memory":' + b"9" * 4000 + b',"cpus":1e400}}',
    "lone surrogates": b'{"image":"\\ud800","files":{"\\udfff":"\\ud800"},"env":{"A":"\\udc00"},"\\ud801":0}',
    "a lone surrogate as input": b'{"image":"x","files":{"a":""},"detached":true,"input":"\\ud800"}',
    "nulls": b'{"image":"a\\u0000b","files":{"\\u0000":"\\u0000"},"env":{"A":"\\u0000"},"workdir":"/\\u0000"}',
    "null bytes": b"\0" * LIMIT,
    "utf-16": json.dumps({"image": "x", "files": {"a": ""}}).encode("utf-16"),
    "blanks": b" " * LIMIT,
    "a long string": b'"' + b"\\ud83d" * 300_000 + b'"',
    "bad base64": b'{"image":"x","files":{"a":{"encoding":"base64","content":"' + b"=" * 1_000_000 + b'"}}}',
}


@pytest.fixture
def client(make_client: MakeClient) -> FlaskClient:
    """A client of an API that takes bodies of two mebibytes."""
    return make_client(body_limit=LIMIT)


@pytest.mark.parametrize("case", HOSTILE)
def test_time_is_bounded_and_no_500(client: FlaskClient, case: str) -> None:
    began = time.monotonic()
    response = client.post("/run", data=HOSTILE[case])
    assert time.monotonic() - began < SECONDS
    assert response.status_code in {202, 400, 413}, response.data[:500]
    answer = json.loads(response.data)
    assert response.status_code == 202 or answer["error"] in {"bad_request", "payload_too_large"}
    # A fault may be quoted, a flood of them is not sent back.
    assert len(response.data) < 64 * LIMIT


@pytest.mark.parametrize(
    "case", ["entries", "faults", "fields", "deep arrays", "deep and wide", "a long string"]
)
def test_memory_is_bounded(client: FlaskClient, case: str) -> None:
    assert threading.current_thread() is threading.main_thread()
    tracemalloc.start()
    try:
        client.post("/run", data=HOSTILE[case])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < FACTOR * LIMIT, f"{most / len(HOSTILE[case]):.0f} bytes for each"


@pytest.mark.parametrize(
    ("inner", "taken"),
    [
        (",".join(["{}"] * 3_000_000), False),
        ("0," * 999_000 + "0", True),
        ("0," * 1_100_000 + "0", False),
        # What stands in a string, escaped quotes among it, is no value.
        ('"' + '\\\\\\",[{' * 1_000_000 + '"', True),
    ],
)
def test_values_are_counted_before_they_are_built(make_client: MakeClient, inner: str, taken: bool) -> None:
    body = f'{{"image": "x", "files": {{"a": ""}}, "input": [{inner}], "detached": true}}'.encode()
    client = make_client(body_limit=len(body))
    tracemalloc.start()
    try:
        response = client.post("/run", data=body)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if taken:
        assert response.status_code == 202, response.data[:300]
    else:
        assert (response.status_code, b"more than 1000000 values" in response.data) == (400, True)
        assert most < 12 * len(body)


def test_files_are_counted(make_client: MakeClient) -> None:
    files = {f"f{number}": "" for number in range(100_001)}
    body = json.dumps({"image": "x", "files": files, "entrypoint": "true"}).encode()
    response = make_client(body_limit=len(body)).post("/run", data=body)
    assert response.status_code == 400
    assert response.json is not None
    (fault,) = response.json["details"]
    assert (fault["path"], fault["code"]) == (["files"], "too_long")
    assert "100001 files; the maximum is 100000" in fault["message"]
