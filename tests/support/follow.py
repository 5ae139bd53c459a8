"""Followers of a run's log: over HTTP, line by line, as the lines come."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import requests
import urllib3

from tests.support.server import Server

EVENTS = {"Accept": "text/event-stream"}


@dataclass(frozen=True)
class Event:
    """A server-sent event: its id, its kind (empty for a line) and its data."""

    id: int
    kind: str
    data: dict[str, Any]


@contextmanager
def following(
    server: Server, run_id: str, query: str = "follow=true", **headers: str
) -> Iterator[requests.Response]:
    """Return a response with the log of a run: 200, and not read yet."""
    with server.get(f"/runs/{run_id}/logs?{query}", headers=headers, stream=True) as response:
        assert response.status_code == 200, response.text
        yield response


def arriving(response: requests.Response) -> Iterator[bytes]:
    """Yield the complete lines of a response as they arrive, until the connection ends in any way."""
    rest = b""
    with suppress(urllib3.exceptions.HTTPError):
        for chunk in response.raw.read_chunked():
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines


def objects(response: requests.Response) -> Iterator[dict[str, Any]]:
    """Yield the objects of an NDJSON response as they arrive."""
    for line in arriving(response):
        yield json.loads(line)


def events(response: requests.Response) -> Iterator[Event]:
    """Yield the complete events of a response as they arrive, without comments."""
    fields: dict[str, str] = {}
    for line in arriving(response):
        if line:
            name, _, value = line.decode().partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield Event(int(fields["id"]), fields.get("event", ""), json.loads(fields["data"]))
            fields = {}


def never_reading(server: Server, path: str) -> socket.socket:
    """Return a connection that has requested `path` and reads nothing of the response. The caller closes it."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", server.port))
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n\r\n"
    connection.sendall(head.encode())
    return connection


def was_reset(connection: socket.socket) -> bool:
    """Read from `connection`; return True if the server closed it in the middle of the response."""
    try:
        while connection.recv(1 << 20):
            pass
    except ConnectionResetError:
        return True
    return False
