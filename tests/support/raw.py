"""HTTP over a plain socket, for what no client library would send."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from http.client import HTTPResponse

from tests.support.server import Server


@dataclass(frozen=True)
class RawAnswer:
    """The status, headers (lower-case names) and body of a response."""

    status: int
    headers: dict[str, str]
    body: bytes


def raw_request(
    server: Server, method: str, target: bytes, *, head: bytes = b"", body: bytes = b""
) -> RawAnswer:
    """Send `target` byte for byte in the request line, `head` as further header lines, and `body`."""
    authorization = f"Authorization: Bearer {server.token}\r\n".encode() if server.token else b""
    request = method.encode() + b" " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(request + authorization + head + b"\r\n" + body)
        with HTTPResponse(connection, method=method) as response:
            response.begin()
            content = response.read()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return RawAnswer(response.status, headers, content)
