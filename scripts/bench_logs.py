"""Live logs: how soon a line is there after it was written, and what a crowd of followers costs a run."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import selectors
import socket
import statistics
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from bench_support import MIB, Server, UnixConnection, ask, server, table

# Its clock is the host's, to the nanosecond.
IMAGE = "light-run-test/python:latest"
CROWD = 100
LINES = 200
# Everybody is there before the first line.
STAND_BY = 1.5
PACED = f"""
import time
time.sleep({STAND_BY})
for _ in range({LINES}):
    print(time.time_ns(), flush=True)
    time.sleep(0.02)
"""
BURST = f"""
import time
time.sleep({STAND_BY})
print("x\\n" * 100_000, flush=True)
"""
_STAMP = re.compile(rb"\b(\d{19})\b")
_HEADER = struct.Struct(">BxxxL")


def live_logs(turns: int) -> None:
    """Latencies of lines, then durations of runs that nobody and that many follow, in `turns` turns each."""
    with server(LIGHT_RUN_PARKED_MAX="0") as one:
        rows = [
            _latencies("bare engine, attached (floor)", _attached()),
            _latencies("1 follower", _followed(one, 1)),
            _latencies(f"one of {CROWD} followers", _followed(one, CROWD)),
        ]
        header = ("who reads", "median ms", "95 % ms", "most ms", "first line ms")
        table(f"From write in the container to receipt, {LINES} lines, one each 20 ms", header, rows)
        costs = [
            _costs(one, f"{LINES} lines, one each 20 ms", PACED, turns),
            _costs(one, "100 000 lines at once", BURST, turns),
        ]
        title = f"Durations of runs, medians of {turns}, interleaved; {STAND_BY:g} s of each it waits"
        columns = (
            "run",
            "nobody follows, ms",
            f"{CROWD} follow, ms",
            "x",
            "server CPU, ms",
            "last follower done, ms",
        )
        table(title, columns, costs)


def _latencies(name: str, found: list[float]) -> tuple[str, ...]:
    figures = sorted(found)
    shown = (statistics.median(figures), figures[-len(figures) // 20], figures[-1], found[0])
    return (name, *(f"{figure:.1f}" for figure in shown))


def _since_written(data: bytes) -> list[float]:
    now = time.time_ns()
    return [(now - int(stamp)) / 1e6 for stamp in _STAMP.findall(data)]


def _attached() -> list[float]:
    # What the engine itself takes: its stream of a container's output, read frame by frame.
    engine = UnixConnection("localhost")
    config = {"Image": IMAGE, "Entrypoint": ["python3", "-c", PACED], "HostConfig": {"NetworkMode": "none"}}
    container = json.loads(ask(engine, "POST", "/containers/create", config))["Id"]
    try:
        stream = UnixConnection("localhost")
        stream.request("POST", f"/containers/{container}/attach?stream=1&stdout=1")
        response = stream.getresponse()
        ask(engine, "POST", f"/containers/{container}/start")
        found: list[float] = []
        while head := response.read(_HEADER.size):
            found += _since_written(response.read(_HEADER.unpack(head)[1]))
        stream.close()
        return found
    finally:
        ask(engine, "DELETE", f"/containers/{container}?force=1")


def _followed(one: Server, followers: int) -> list[float]:
    found: list[float] = []
    run_id = _start(one, PACED)
    with _crowd(one, run_id, followers, lambda data: found.extend(_since_written(data))):
        _end(one, run_id)
    return found


def _costs(one: Server, name: str, script: str, turns: int) -> tuple[str, ...]:
    alone, followed, cpu, last = [], [], [], []
    for _ in range(turns):
        alone.append(_end(one, _start(one, script)))
        before, begun = one.cpu(), time.monotonic()
        run_id = _start(one, script)
        with _crowd(one, run_id, CROWD, lambda _: None):
            followed.append(_end(one, run_id))
        last.append((time.monotonic() - begun) * 1000)
        cpu.append((one.cpu() - before) * 1000)
    figures = [statistics.median(each) for each in (alone, followed, cpu, last)]
    return (
        name,
        f"{figures[0]:.0f}",
        f"{figures[1]:.0f}",
        f"{figures[1] / figures[0]:.2f}",
        f"{figures[2]:.0f}",
        f"{figures[3]:.0f}",
    )


def _start(one: Server, script: str) -> str:
    body = {
        "image": IMAGE,
        "files": {"write.py": script},
        "entrypoint": "python3 write.py",
        "network": "none",
        "detached": True,
    }
    connection = http.client.HTTPConnection("127.0.0.1", one.port)
    with contextlib.closing(connection):
        run_id: str = json.loads(ask(connection, "POST", "/run", body))["id"]
    return run_id


def _end(one: Server, run_id: str) -> float:
    # The time of its container, in milliseconds.
    connection = http.client.HTTPConnection("127.0.0.1", one.port)
    with contextlib.closing(connection):
        state = json.loads(ask(connection, "GET", f"/runs/{run_id}?wait=120"))
    if state["status"] != "succeeded":
        raise RuntimeError(f"the run did not succeed: {state}")
    spent: float = state["timings"]["runMs"]
    return spent


@contextmanager
def _crowd(one: Server, run_id: str, count: int, first_reads: Callable[[bytes], None]) -> Iterator[None]:
    # So many followers, all read by one thread; it ends when each of them has had everything.
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for number in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", one.port)))
            head = f"GET /runs/{run_id}/logs?follow=true HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
            client.sendall(head.encode())
            selector.register(client, selectors.EVENT_READ, first_reads if number == 0 else None)
        reader = threading.Thread(target=_read, args=(selector,))
        reader.start()
        try:
            yield
        finally:
            reader.join()


def _read(selector: selectors.BaseSelector) -> None:
    while selector.get_map():
        # The one that is measured first, as it would be served first by a process of its own.
        for key, _ in sorted(selector.select(), key=lambda each: each[0].data is None):
            client: socket.socket = key.fileobj  # type: ignore[assignment]
            data = client.recv(MIB)
            if not data:
                selector.unregister(client)
            elif key.data is not None:
                key.data(data)
