"""What one small call to the engine costs by light-run's own HTTP client and by others (docs/decisions.rst).

python scripts/bench_wire.py [CALLS]

h11 is measured where it is installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import socket
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import requests
from bench_support import SOCKET, UnixConnection
from docker.transport.unixconn import UnixHTTPAdapter

from light_run.engine.daemon.wire import HttpConnection

Call = Callable[[], bytes]

TARGET = "/version"
HEADERS = {"User-Agent": "bench"}
SECONDS = 60
ROUNDS = 5


def by_wire() -> Call:
    """Call by light-run's own client."""
    connection = HttpConnection(SOCKET, SECONDS)
    return lambda: connection.call("GET", TARGET, HEADERS, b"").body


def by_http_client() -> Call:
    """Call by the standard library."""
    connection = UnixConnection("engine", timeout=SECONDS)

    def call() -> bytes:
        connection.request("GET", TARGET, headers=HEADERS)
        with closing(connection.getresponse()) as response:
            return response.read()

    return call


def by_urllib3() -> Call:
    """Call by urllib3 on docker-py's connections."""
    pool: Any = UnixHTTPAdapter(f"http+unix://{SOCKET}", SECONDS).get_connection("http+unix://engine")

    def call() -> bytes:
        found: bytes = pool.urlopen("GET", TARGET, headers=HEADERS, timeout=SECONDS).data
        return found

    return call


def by_requests() -> Call:
    """Call by requests, as docker-py does."""
    session = requests.Session()
    session.mount("http+docker://", UnixHTTPAdapter(f"http+unix://{SOCKET}", SECONDS))
    return lambda: session.get(f"http+docker://localhost{TARGET}").content


def by_h11() -> Call:
    """Call by h11 on a socket."""
    h11 = importlib.import_module("h11")
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(SECONDS)
    connection.connect(SOCKET)
    state = h11.Connection(h11.CLIENT)
    headers = [("Host", "engine"), *HEADERS.items()]

    def call() -> bytes:
        asked = state.send(h11.Request(method="GET", target=TARGET, headers=headers))
        connection.sendall(asked + state.send(h11.EndOfMessage()))
        body = b""
        while not isinstance(event := state.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                state.receive_data(connection.recv(1 << 16))
            elif isinstance(event, h11.Data):
                body += event.data
        state.start_next_cycle()
        return body

    return call


def main() -> None:
    """Print the medians of rounds in which each client calls in turn."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    makers = [by_wire, by_http_client, by_urllib3, by_requests]
    if importlib.util.find_spec("h11"):
        makers.append(by_h11)
    calls = {make.__name__.removeprefix("by_"): make() for make in makers}
    assert len({call() for call in calls.values()}) == 1
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.process_time()
            for _ in range(count):
                call()
            spent[name].append((time.process_time() - start) / count * 1e6)
    for name, found in spent.items():
        print(f"{name:12} {statistics.median(found):6.0f} µs of processor time a call")


if __name__ == "__main__":
    main()
