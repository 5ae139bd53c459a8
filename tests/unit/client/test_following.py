"""A log that is followed over connections that break."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from light_run.client.connection import Connection
from light_run.client.following import Log
from light_run.client.retries import Retries

NOON = "2026-11-23T12:00:00.000Z"


class Breaking(Connection):
    """A server with a log that grows by a line with each request; requests that follow break as `breaks` says."""

    def __init__(self, breaks: int) -> None:
        super().__init__("http://127.0.0.1:1", None, timeout=1, retries=Retries(sleep=lambda _: None))
        self.lines = 3
        self.breaks = breaks

    @contextmanager
    def send(self, *_: Any, params: Any = None, **_options: Any) -> Iterator[requests.Response]:
        """The answer of a server."""
        follow = params["follow"] == "true"
        if follow and self.breaks:
            self.breaks -= 1
            self.lines += 1
            raise requests.ConnectionError("broken")
        self.lines += 1
        seqs = [seq for seq in range(self.lines) if seq > int(params.get("since", -1))]
        seqs = seqs[len(seqs) - min(len(seqs), int(params.get("tail", len(seqs)))) :]
        sent = "".join(
            f"data: {json.dumps({'seq': seq, 'time': NOON, 'stream': 'stdout', 'text': str(seq)})}\n\n"
            for seq in seqs
        )
        response = requests.Response()
        response.raw = io.BytesIO((sent + ("event: end\ndata: {}\n\n" if follow else "")).encode())
        yield response


@pytest.mark.parametrize("breaks", [0, 1, 3])
@pytest.mark.parametrize("tail", [0, 1, 2])
def test_what_is_written_around_a_break_is_not_lost(breaks: int, tail: int) -> None:
    connection = Breaking(breaks)
    found = [line.seq for line in Log(connection, "/runs/x/logs", tail=tail).lines(follow=True)]
    connection.close()
    # Four were there at the first look.
    assert found == list(range(4 - tail, 4 + breaks + 1))
