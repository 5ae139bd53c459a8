"""``GET /runs/ID/logs`` in front of a fake engine: formats, what may be asked for, and how many may follow."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse
from werkzeug.wrappers import Response

from light_run.api.requests.log_query import LogQuery
from light_run.api.responses import log_formats
from light_run.api.responses.slow_clients import is_gone
from light_run.api.routes.logs import COMMENT_EVERY, LogRoutes, pieces
from light_run.api.routes.places import OutputPlaces
from light_run.engine.output.frames import STDERR, STDOUT
from light_run.engine.output.lines import Cursor, OutputLine
from light_run.errors import Overloaded
from light_run.runs.logs.following import LogBatch
from light_run.runs.model import RunRecord
from light_run.runs.service import RunService
from tests.docs.normal import TIME
from tests.unit.api.routes.conftest import Write, end, start
from tests.unit.conftest import MakeClient
from tests.unit.fake_runner import FakeRunner

EVENTS = {"Accept": "text/event-stream"}
# What the run has written: stdout the even lines, stderr the odd ones; the last has no newline.
OUTPUT = [
    (STDOUT, b"zero\n"),
    (STDERR, b"one\n"),
    (STDOUT, b"two\n"),
    (STDERR, b"three\n"),
    (STDOUT, b"four"),
]


def follow(client: FlaskClient, run_id: str, query: str = "follow=true", **headers: str) -> TestResponse:
    """An answer that is still to be read; close it."""
    return client.get(f"/runs/{run_id}/logs?{query}", headers=headers)


def streamed(response: Response) -> Iterator[bytes]:
    """What comes of an answer, piece by piece."""
    assert response.status_code == 200
    return (piece for piece in response.iter_encoded() if piece)


def logs(client: FlaskClient, run_id: str, query: str = "", **headers: str) -> list[dict[str, Any]]:
    """The lines of an NDJSON answer."""
    with follow(client, run_id, query, **headers) as response:
        assert response.status_code == 200
        return [json.loads(line) for line in response.data.splitlines()]


def seqs(client: FlaskClient, run_id: str, query: str, **headers: str) -> list[int]:
    return [line["seq"] for line in logs(client, run_id, query, **headers)]


# --- formats ----------------------------------------------------------------------------------------------


def test_lines_are_json(client: FlaskClient, ended: str) -> None:
    found = logs(client, ended)
    assert all(list(line) == ["seq", "time", "stream", "text"] for line in found)
    assert all(re.fullmatch(TIME, line.pop("time")) for line in found)
    assert found == [
        {"seq": seq, "stream": stream, "text": text}
        for seq, (stream, text) in enumerate(
            zip(["stdout", "stderr"] * 3, ["zero", "one", "two", "three", "four"], strict=False)
        )
    ]


def test_what_would_end_a_line_elsewhere_is_escaped(
    client: FlaskClient, held: str, write: Write, runner: FakeRunner
) -> None:
    text = 'a\r"b\u2028\x85\x0b\x1c\0ü\U0001f600\ufffd'
    write((STDOUT, text.encode() + b"\n"))
    with follow(client, held, "") as response:
        assert len(response.data.decode().splitlines()) == 1
        assert json.loads(response.data)["text"] == text
    with follow(client, held, "format=text") as response:
        assert response.data.decode() == text + "\n"


def test_a_line_of_any_length_comes_in_slices(client: FlaskClient, held: str, write: Write) -> None:
    text = '"ü\U0001f600\0' * 60_000
    write((STDERR, b"short\n"), (STDOUT, text.encode() + b"\n"), (STDOUT, b"last\n"))
    expected = [(0, "stderr", "short"), (1, "stdout", text), (2, "stdout", "last")]
    found = logs(client, held)
    assert [(line["seq"], line["stream"], line["text"]) for line in found] == expected
    assert seqs(client, held, "since=0&stream=stdout") == [1, 2]
    with follow(client, held, "format=text&tail=2") as response:
        slices = list(streamed(response))
    assert b"".join(slices).decode() == f"{text}\nlast\n"
    assert max(map(len, slices)) <= 4 * log_formats.LONG
    with follow(client, held, "format=sse&follow=false") as response:
        events = response.data.decode().split("\n\n")
    assert [json.loads(event.partition("data: ")[2]) for event in events[:-1]] == found


def test_events(client: FlaskClient, ended: str) -> None:
    with follow(client, ended, "", **EVENTS) as response:
        *found, final, rest = response.data.decode().split("\n\n")
    assert rest == ""
    assert [event.split("\n")[0] for event in found] == [f"id: {seq}" for seq in range(5)]
    data = [json.loads(event.split("\n")[1].removeprefix("data: ")) for event in found]
    assert data == logs(client, ended)
    number, kind, state = final.split("\n")
    assert (number, kind) == ("id: 5", "event: end")
    expected = json.loads(client.get(f"/runs/{ended}").data)
    del expected["logs"]
    assert json.loads(state.removeprefix("data: ")) == expected


@pytest.mark.parametrize(
    ("query", "accept", "form"),
    [
        ("", "*/*", "application/x-ndjson"),
        ("", "application/json", "application/x-ndjson"),
        ("", "text/html,application/xhtml+xml,*/*;q=0.8", "application/x-ndjson"),
        ("", "text/plain", "text/plain; charset=utf-8"),
        ("", "text/event-stream", "text/event-stream; charset=utf-8"),
        ("format=text", "text/event-stream", "text/plain; charset=utf-8"),
        ("format=sse", "*/*", "text/event-stream; charset=utf-8"),
        ("format=ndjson", "text/plain", "application/x-ndjson"),
    ],
)
def test_types(client: FlaskClient, ended: str, query: str, accept: str, form: str) -> None:
    for method in ("GET", "HEAD"):
        with client.open(
            f"/runs/{ended}/logs?{query}", method=method, headers={"Accept": accept}
        ) as response:
            assert (response.status_code, response.content_type) == (200, form)
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["X-Accel-Buffering"] == "no"


# --- what is asked for ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("since=1", [2, 3, 4]),
        ("since=0&stream=stdout", [2, 4]),
        ("since=4", []),
        ("since=99", []),
        ("tail=2", [3, 4]),
        ("tail=0", []),
        ("tail=5", [0, 1, 2, 3, 4]),
        ("tail=99", [0, 1, 2, 3, 4]),
        ("tail=1&stream=stderr", [3]),
        ("tail=2&since=1", [3, 4]),
        ("tail=3&since=2", [3, 4]),
        ("stream=stderr", [1, 3]),
        ("stream=stdout&tail=2&follow=true", [2, 4]),
        ("follow=true&since=3", [4]),
        ("follow=false", [0, 1, 2, 3, 4]),
    ],
)
def test_parts(client: FlaskClient, ended: str, query: str, expected: list[int]) -> None:
    assert seqs(client, ended, query) == expected


@pytest.mark.parametrize(
    ("query", "path", "words"),
    [
        ("stream=both", "stream", "one of stdout, stderr"),
        ("since=-1", "since", "a whole number from 0 on"),
        ("since=1.5", "since", "a whole number from 0 on"),
        ("since=", "since", "a whole number from 0 on"),
        ("since=" + "9" * 16, "since", "a whole number from 0 on"),
        ("tail=all", "tail", "a whole number from 0 on"),
        ("tail=%D9%A3", "tail", "a whole number from 0 on"),
        ("follow=yes", "follow", "one of true, false"),
        ("format=xml", "format", "one of ndjson, text, sse"),
    ],
)
def test_what_cannot_be_asked_for(client: FlaskClient, ended: str, query: str, path: str, words: str) -> None:
    with follow(client, ended, query) as response:
        assert response.status_code == 400
        (fault,) = json.loads(response.data)["details"]
    assert (fault["path"], fault["code"]) == ([path], "invalid_value")
    assert fault["message"].startswith(f'{path} is "')
    assert words in fault["message"]


def test_all_faults_at_once(client: FlaskClient, ended: str) -> None:
    with follow(client, ended, "tail=x&since=y&stream=z", **{"Last-Event-ID": "end"}) as response:
        details = json.loads(response.data)["details"]
    assert [fault["path"] for fault in details] == [["stream"], ["since"], ["tail"], ["Last-Event-ID"]]


def test_a_run_that_is_not_there(client: FlaskClient) -> None:
    with follow(client, "00000000-0000-4000-8000-000000000000", "tail=x") as response:
        assert (response.status_code, json.loads(response.data)) == (404, {"error": "not_found"})


def test_who_comes_back_gets_the_rest(client: FlaskClient, ended: str) -> None:
    def back(last: str, query: str = "") -> TestResponse:
        return follow(client, ended, query, **EVENTS, **{"Last-Event-ID": last})

    for query in ("", "tail=1", "since=0"):
        with back("2", query) as response:
            assert re.findall(rb"^id: (\d+)", response.data, re.MULTILINE) == [b"3", b"4", b"5"]
    with back("4") as response:
        assert response.data.startswith(b"id: 5\nevent: end\n")
    # Who had the end, too, is told not to come back.
    with back("5") as response:
        assert (response.status_code, response.data) == (204, b"")
    with back("") as response:
        assert response.data.startswith(b"id: 0\n")
    assert seqs(client, ended, "", **{"Last-Event-ID": "3"}) == [4]


# --- following --------------------------------------------------------------------------------------------


def test_lines_come_as_they_are_written(
    client: FlaskClient, runner: FakeRunner, held: str, write: Write
) -> None:
    write((STDOUT, b"zero\none\n"))
    with follow(client, held, "follow=true&tail=1") as response:
        found = streamed(response)
        assert [json.loads(next(found))["text"]] == ["one"]
        write((STDOUT, b"two\nthr"))
        assert [json.loads(next(found))["text"]] == ["two"]
        end(client, runner, held)
        assert [json.loads(piece)["text"] for piece in found] == ["thr"]


def test_a_queued_run_is_waited_for(
    client: FlaskClient, runner: FakeRunner, service: RunService, tmp_path: Path
) -> None:
    runner.hold()
    *others, queued = (start(client) for _ in range(3))
    with follow(client, queued, "", **EVENTS) as response:
        found = streamed(response)
        for run_id in (*others, queued):
            end(client, runner, run_id)
        assert [piece[:19] for piece in found] == [b"id: 0\nevent: end\nda"]


def test_a_stream_of_a_run_that_is_deleted_has_no_end_event(
    client: FlaskClient, runner: FakeRunner, held: str, write: Write
) -> None:
    write((STDOUT, b"zero\n"))
    with follow(client, held, "", **EVENTS) as response:
        found = streamed(response)
        assert next(found).startswith(b"id: 0\n")
        end(client, runner, held)
        assert client.delete(f"/runs/{held}").status_code == 204
        assert list(found) == []


def test_followers_are_bounded(make_client: MakeClient, runner: FakeRunner) -> None:
    runner.hold()
    client = make_client(followers=1)
    run_id = start(client)
    with follow(client, run_id) as first:
        assert first.status_code == 200
        with follow(client, run_id) as second:
            assert (second.status_code, json.loads(second.data)["error"]) == (503, "overloaded")
            assert int(second.headers["Retry-After"]) > 0
        # These end by themselves.
        assert logs(client, run_id) == []
        with client.head(f"/runs/{run_id}/logs?follow=true") as head:
            assert head.status_code == 200
    for _ in range(3):
        with client.head(f"/runs/{run_id}/logs?follow=true"), follow(client, run_id) as again:
            assert again.status_code == 200
    with follow(client, run_id):
        end(client, runner, run_id)
        assert logs(client, run_id, "follow=true") == []
    assert follow(make_client(followers=0), start(make_client())).status_code == 503


def test_reading_is_bounded_as_well(make_client: MakeClient, runner: FakeRunner, service: RunService) -> None:
    run_id = start(client := make_client())
    routes = LogRoutes(service, OutputPlaces(followers=4, readers=1))
    with client.application.test_request_context(f"/runs/{run_id}/logs"):
        first = routes.logs(run_id)
        with pytest.raises(Overloaded, match="too many logs are read"):
            routes.logs(run_id)
        first.close()
        routes.logs(run_id).close()


# --- silence ----------------------------------------------------------------------------------------------


def asked(form: str) -> LogQuery:
    return LogQuery(form=form, follow=True)


def test_a_silent_stream_of_events_has_comments() -> None:
    now = 0.0

    def feed() -> Iterator[LogBatch | RunRecord | None]:
        nonlocal now
        for at, item in ((1.0, None), (14.9, None), (15.1, None), (16.0, None), (20.0, batch), (34.0, None)):
            now = at
            yield item
        now = 35.1
        yield None

    batch = LogBatch([OutputLine(0, 0, "stdout", "text")], Cursor(seq=1))
    found = [
        piece for piece in pieces(feed(), asked(log_formats.SSE), -1, lambda: False, lambda: now) if piece
    ]
    assert COMMENT_EVERY == 15.0
    assert [piece[:5] for piece in found] == [b": not", b"id: 0", b": not"]
    assert all(piece.endswith(b"\n\n") for piece in found)
    now = 0.0
    assert (
        len([piece for piece in pieces(feed(), asked(log_formats.NDJSON), -1, lambda: False) if piece]) == 1
    )


def test_a_client_that_has_gone_is_noticed() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(b"more than it was asked for")
        assert not is_gone(ours)
        theirs.close()
        assert is_gone(ours)
    assert not is_gone(None)
    assert list(pieces(iter([None, None]), asked(log_formats.NDJSON), -1, lambda: True)) == [b""]
