"""Files over HTTP: names, ranges, conditions."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.test import TestResponse

from light_run.api.responses import archive, download
from light_run.api.responses.errors import register
from light_run.artifacts.store import ArtifactStore, OpenFile

CONTENT = bytes(range(256)) * 4


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """A store with one run, ``r``, that left one file, ``f``."""
    store = ArtifactStore(tmp_path / "artifacts")
    store.folder("r").mkdir()
    (store.folder("r") / "f").write_bytes(CONTENT)
    return store


@pytest.fixture
def app(store: ArtifactStore) -> Flask:
    """An application that sends that file."""
    app = Flask(__name__)
    register(app)

    @app.get("/f")
    def send() -> Response:
        file = store.open("r", "f")
        assert isinstance(file, OpenFile)
        return download.response(file, None)

    return app


@pytest.fixture(params=["plain", "wrapped"])
def get(app: Flask, request: pytest.FixtureRequest) -> Any:
    """GET the file with some headers, from a server with and without a file wrapper of its own."""
    environ = {"wsgi.file_wrapper": FileWrapper} if request.param == "wrapped" else {}

    def get(method: str = "GET", **headers: str) -> TestResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return app.test_client().open(
            "/f", method=method, headers=named, environ_overrides=environ, buffered=True
        )

    return get


class FileWrapper:
    """What gunicorn does with a file, its fast path included: from the descriptor's position, so many bytes."""

    def __init__(self, filelike: io.RawIOBase, size: int) -> None:
        self.filelike = filelike

    def __iter__(self) -> Iterator[bytes]:
        descriptor = self.filelike.fileno()
        os.lseek(descriptor, 0, os.SEEK_CUR)
        yield os.read(descriptor, 1 << 20)

    def close(self) -> None:
        self.filelike.close()


def test_the_whole_file(get: Any) -> None:
    response = get()
    assert (response.status_code, response.data) == (200, CONTENT)
    assert response.headers["Content-Length"] == "1024"
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["Accept-Ranges"] == "bytes"


def test_head(get: Any) -> None:
    response = get("HEAD")
    assert (response.status_code, response.data) == (200, b"")
    assert response.headers["Content-Length"] == "1024"
    assert response.headers["ETag"] == get().headers["ETag"]


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("0-0", 0, 0),
        ("10-19", 10, 19),
        ("1000-", 1000, 1023),
        ("-5", 1019, 1023),
        ("0-9999", 0, 1023),
        ("-9999", 0, 1023),
    ],
)
def test_a_range(get: Any, asked: str, first: int, last: int) -> None:
    response = get(Range=f"bytes={asked}")
    assert response.status_code == 206
    assert response.headers["Content-Range"] == f"bytes {first}-{last}/1024"
    assert response.headers["Content-Length"] == str(last - first + 1)
    assert response.data[: last - first + 1] == CONTENT[first : last + 1]


@pytest.mark.parametrize("asked", ["bytes=1024-", "bytes=2000-3000"])
def test_a_range_beyond_the_end(get: Any, asked: str) -> None:
    response = get(Range=asked)
    assert response.status_code == 416
    assert response.headers["Content-Range"] == "bytes */1024"
    assert response.json["error"] == "range_not_satisfiable"


@pytest.mark.parametrize("asked", ["bytes=0-1,3-4", "lines=0-1", "bytes=x", "bytes=5-1", "bytes", ""])
def test_a_range_that_is_not_understood(get: Any, asked: str) -> None:
    assert get(Range=asked).status_code in {200, RequestedRangeNotSatisfiable.code}


def test_conditions(get: Any) -> None:
    etag = get().headers["ETag"]
    assert get(If_None_Match=etag).status_code == 304
    assert get(If_None_Match=f'"x", {etag}').status_code == 304
    assert get(If_None_Match="*").status_code == 304
    assert get(If_None_Match='"x"').status_code == 200
    assert get(If_Modified_Since=get().headers["Last-Modified"]).status_code == 304
    assert get(If_Range=etag, Range="bytes=0-1").status_code == 206
    assert get(If_Range='"x"', Range="bytes=0-1").status_code == 200
    unchanged = get(If_None_Match=etag)
    assert unchanged.data == b""
    assert unchanged.headers["ETag"] == etag
    assert "Content-Type" not in unchanged.headers


def test_an_empty_file(store: ArtifactStore, get: Any) -> None:
    (store.folder("r") / "f").write_bytes(b"")
    assert (get().status_code, get().data, get().headers["Content-Length"]) == (200, b"", "0")
    assert get(Range="bytes=0-").status_code == 416


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.txt", 'attachment; filename="a.txt"'),
        ('a"b\\c', r'attachment; filename="a\"b\\c"'),
        ("a b;c", 'attachment; filename="a b;c"'),
        ("ü.txt", "attachment; filename=\"_.txt\"; filename*=UTF-8''%C3%BC.txt"),
        ("a\r\nX: y", "attachment; filename=\"a__X: y\"; filename*=UTF-8''a%0D%0AX%3A%20y"),
        ("odd\udcff", "attachment; filename=\"odd_\"; filename*=UTF-8''odd%FF"),
    ],
)
def test_names(name: str, expected: str) -> None:
    assert download.disposition(name) == expected
    expected.encode("latin-1")


def test_a_file_that_shrinks_breaks_an_archive_off(store: ArtifactStore) -> None:
    (store.folder("r") / "f").write_bytes(bytes(1 << 20))
    pieces = archive.tar_gz(store, "r")
    next(pieces)
    (store.folder("r") / "f").write_bytes(b"")
    with pytest.raises(OSError, match="shorter"):
        list(pieces)
