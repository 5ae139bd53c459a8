"""``GET /runs/ID/output`` in front of a fake engine: exact bytes, parts of them, and bytes as they come."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from light_run.api.routes.logs import COMMENT_EVERY
from light_run.api.routes.output import FRAMED, sent
from light_run.engine.output.frames import STDERR, STDOUT
from light_run.engine.spec import RawPiece
from tests.unit.api.routes.conftest import Write, end
from tests.unit.conftest import MakeClient
from tests.unit.fake_runner import FakeRunner

# No text, a progress bar, and no newline at the end.
OUTPUT = [(STDOUT, b"\xff\xfe\0a\r10%"), (STDERR, b"err\n"), (STDOUT, b"\r100%")]
BOTH = b"\xff\xfe\0a\r10%err\n\r100%"


def get(client: FlaskClient, run_id: str, query: str = "", **headers: str) -> TestResponse:
    """The response; names of `headers` have ``_`` for ``-``."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.get(f"/runs/{run_id}/output?{query}", headers=headers)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", BOTH),
        ("stream=both", BOTH),
        ("follow=true", BOTH),
        ("stream=stdout", b"\xff\xfe\0a\r10%\r100%"),
        ("stream=stderr", b"err\n"),
        ("offset=4", BOTH[4:]),
        ("offset=9&stream=stdout", b"100%"),
        ("offset=99", b""),
    ],
)
def test_exact_bytes(client: FlaskClient, ended: str, query: str, expected: bytes) -> None:
    with get(client, ended, query) as response:
        assert (response.status_code, response.data) == (200, expected)
        assert response.content_type == "application/octet-stream"
        assert response.headers["Content-Length"] == str(len(expected))
        assert response.headers["Accept-Ranges"] == "bytes"
    with client.head(f"/runs/{ended}/output?{query}") as head:
        assert (head.headers["Content-Length"], head.data) == (str(len(expected)), b"")


@pytest.mark.parametrize(
    ("asked", "query", "expected"),
    [
        ("0-0", "", ("0-0/17", BOTH[:1])),
        ("3-9", "", ("3-9/17", BOTH[3:10])),
        ("-5", "", ("12-16/17", BOTH[-5:])),
        ("7-", "stream=stdout", ("7-12/13", b"%\r100%")),
        ("1-2", "stream=stderr&offset=1", ("1-2/3", b"r\n")),
        ("0-99", "", ("0-16/17", BOTH)),
    ],
)
def test_ranges(client: FlaskClient, ended: str, asked: str, query: str, expected: tuple[str, bytes]) -> None:
    with get(client, ended, query, Range=f"bytes={asked}") as response:
        assert response.status_code == 206
        assert (response.headers["Content-Range"], response.data) == (f"bytes {expected[0]}", expected[1])


def test_conditions(client: FlaskClient, ended: str) -> None:
    etag = get(client, ended).headers["ETag"]
    assert get(client, ended, If_None_Match=etag).status_code == 304
    assert get(client, ended, If_Range=etag, Range="bytes=0-1").status_code == 206
    assert get(client, ended, If_Range='"x"', Range="bytes=0-1").status_code == 200
    assert get(client, ended, Range="bytes=17-").status_code == 416
    # Each is another thing.
    assert etag != get(client, ended, "stream=stdout").headers["ETag"]
    assert etag != get(client, ended, Accept=FRAMED).headers["ETag"]


def test_frames_are_those_of_docker(client: FlaskClient, ended: str) -> None:
    with get(client, ended, "offset=2", Accept=FRAMED, Range="bytes=0-1") as response:
        assert (response.status_code, response.content_type) == (200, FRAMED)
        assert response.data == (
            b"\1\0\0\0\0\0\0\6\0a\r10%" + b"\2\0\0\0\0\0\0\4err\n" + b"\1\0\0\0\0\0\0\5\r100%"
        )


def test_a_run_that_has_not_ended(client: FlaskClient, held: str, write: Write) -> None:
    assert get(client, held).data == b""
    write(*OUTPUT)
    with get(client, held, Range="bytes=0-1") as response:
        assert (response.status_code, response.data) == (200, BOTH)
        assert {"ETag", "Accept-Ranges"}.isdisjoint(response.headers)
    with client.head(f"/runs/{held}/output?follow=true") as head:
        assert head.status_code == 200


@pytest.mark.parametrize("framed", [False, True])
def test_bytes_come_as_they_are_written(
    client: FlaskClient, runner: FakeRunner, held: str, write: Write, framed: bool
) -> None:
    head = {"Accept": FRAMED} if framed else {}
    frame = b"\1\0\0\0\0\0\0\3" if framed else b""
    write((STDOUT, b"\r0%"), (STDERR, b"not this"))
    with get(client, held, "follow=true&stream=stdout", **head) as response:
        found = (piece for piece in response.iter_encoded() if piece)
        assert next(found) == frame + b"\r0%"
        write((STDOUT, b"\r5%"))
        assert next(found) == frame + b"\r5%"
        end(client, runner, held)
        assert list(found) == []


def test_followers_are_bounded(make_client: MakeClient, held: str) -> None:
    client = make_client(followers=1)
    with get(client, held, "follow=true"):
        for path in ("output", "logs"):
            with client.get(f"/runs/{held}/{path}?follow=true") as second:
                assert (second.status_code, json.loads(second.data)["error"]) == (503, "overloaded")
        assert get(client, held).status_code == 200
    with get(client, held, "follow=true") as again:
        assert again.status_code == 200


def test_what_cannot_be_asked_for(client: FlaskClient, ended: str) -> None:
    with get(client, ended, "stream=stdin&follow=yes&offset=-1") as response:
        details = json.loads(response.data)["details"]
    assert [fault["path"] for fault in details] == [["follow"], ["stream"], ["offset"]]
    assert get(client, "00000000-0000-4000-8000-000000000000").status_code == 404


def test_a_silent_stream_of_frames_shows_that_it_stands() -> None:
    now = 0.0

    def feed() -> Iterator[list[RawPiece] | None]:
        nonlocal now
        for at in (1.0, COMMENT_EVERY + 0.1, COMMENT_EVERY + 1):
            now = at
            yield None

    frames = [piece for piece in sent(feed(), lambda: False, framed=True, clock=lambda: now) if piece]
    assert frames == [b"\1" + bytes(7)]
    assert not any(sent(feed(), lambda: False, framed=False, clock=lambda: now))
    assert list(sent(iter([None, None]), lambda: True, framed=True)) == [b""]
