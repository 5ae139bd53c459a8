"""The HTTP side: polling beside busy runs, a crowd of clients, downloads beside nginx's own."""

from __future__ import annotations

import collections
import http.client
import itertools
import json
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench_support import IMAGE, MIB, Server, ask, free_port, server, table, timed

UPLOAD = 500_000_000
BUSY = "while :; do echo tick; sleep 0.05; done"
PROBES = 200
CROWD = 300
SIZE = 1024 * MIB


def upload(one: Server) -> tuple[float, float]:
    """MiB by which the most memory of `one` rises while it takes a file of 500 MB, and MiB a second."""
    boundary = "bench"
    request = {"image": IMAGE, "entrypoint": "true", "network": "none"}
    named = (("request", json.dumps(request).encode(), ""), ("file", b"", '; filename="large"'))
    heads = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content
        for name, content, more in named
    ]
    tail = f"\r\n--{boundary}--\r\n".encode()

    def send(size: int) -> float:
        head, piece = b"\r\n".join(heads), bytes(MIB)
        pieces = (piece[: size - start] for start in range(0, size, MIB))
        connection = http.client.HTTPConnection("127.0.0.1", one.port)
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head) + size + len(tail)),
        }
        begun = time.monotonic()
        connection.request("POST", "/run", itertools.chain([head], pieces, [tail]), headers)
        sent = time.monotonic() - begun
        answer = connection.getresponse()
        state = json.loads(answer.read())
        if answer.status != 200 or state["status"] != "succeeded":
            raise RuntimeError(f"the upload did not succeed: {state}")
        return sent

    send(MIB)
    before = one.peak(anew=True)
    taken = send(UPLOAD)
    return one.peak() - before, UPLOAD / MIB / taken


def polling(finished: int) -> None:
    """Status and lists with 8 runs at work and `finished` runs behind them; memory a finished run."""
    with server(LIGHT_RUN_MAX_CONCURRENCY="9", LIGHT_RUN_PARKED_MAX="0") as one:
        connection = http.client.HTTPConnection("127.0.0.1", one.port)
        before = one.rss()
        # An image that cannot exist costs the engine nothing: these runs are over at once.
        _post_many(one, {"image": "no/such image", "files": {"a": ""}, "detached": True}, finished)
        after = one.rss()
        busy = [
            json.loads(ask(connection, "POST", "/run", _request(BUSY, detached=True)))["id"] for _ in range(8)
        ]
        while any(json.loads(ask(connection, "GET", f"/runs/{run}")).get("logs") == [] for run in busy):
            time.sleep(0.2)
        rows: list[tuple[str, ...]] = []
        for path in (f"/runs/{busy[0]}", "/runs?limit=100", "/health"):
            samples = [timed(lambda p=path: ask(connection, "GET", p)) for _ in range(PROBES)]  # type: ignore[misc]
            samples.sort()
            rows.append(
                (
                    "GET " + path.replace(busy[0], "ID"),
                    f"{statistics.median(samples):.1f}",
                    f"{samples[-PROBES // 20]:.1f}",
                )
            )
        table(
            f"Polling with 8 runs at work and {finished} finished ones in the store",
            ("request", "median ms", "95 % ms"),
            rows,
        )
        print(f"\nMemory a finished run: {(after - before) * 1024 / finished:.1f} KiB.")
        for run in busy:
            ask(connection, "POST", f"/runs/{run}/cancel")


def _request(command: str, **more: object) -> dict[str, object]:
    return {"image": IMAGE, "files": {"a": ""}, "entrypoint": command, "network": "none", **more}


def _post_many(one: Server, body: dict[str, object], count: int) -> None:
    # By a few clients, each waiting for room in the queue where there is none.
    left = collections.deque(range(count))

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", one.port)
        while left:
            try:
                left.pop()
                ask(connection, "POST", "/run", body)
            except IndexError:
                return
            except RuntimeError:
                left.append(0)
                time.sleep(0.2)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    connection = http.client.HTTPConnection("127.0.0.1", one.port)
    while ask(connection, "GET", "/runs?status=queued&limit=1") != b"[]":
        time.sleep(0.2)


def crowd() -> None:
    """So many sync clients at once: each is served, or told at once to come back; /health goes on answering."""
    with server() as one:
        answers: list[tuple[int, float, str | None]] = []

        def client() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=300)
            begun = time.monotonic()
            connection.request("POST", "/run", json.dumps(_request("sleep 1")))
            response = connection.getresponse()
            response.read()
            answers.append((response.status, time.monotonic() - begun, response.getheader("Retry-After")))

        threads = [threading.Thread(target=client) for _ in range(CROWD)]
        for thread in threads:
            thread.start()
        health = []
        connection = http.client.HTTPConnection("127.0.0.1", one.port)
        while any(thread.is_alive() for thread in threads):
            health.append(timed(lambda: ask(connection, "GET", "/health")))
            time.sleep(0.05)
        health.sort()
        served = [spent for status, spent, _ in answers if status == http.HTTPStatus.OK]
        refused = [
            spent
            for status, spent, retry in answers
            if status == http.HTTPStatus.SERVICE_UNAVAILABLE and retry
        ]
        table(
            f"{CROWD} sync clients at once",
            ("what", "figure"),
            [
                ("served", f"{len(served)}, the last after {max(served):.1f} s"),
                ("503 with Retry-After", f"{len(refused)}, the last after {max(refused, default=0):.2f} s"),
                ("neither", str(CROWD - len(served) - len(refused))),
                (
                    "/health meanwhile",
                    f"median {statistics.median(health):.0f} ms, 95 % {health[-len(health) // 20]:.0f} ms",
                ),
            ],
        )


_NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error.log;
user root;
events {{ worker_connections 64; }}
http {{
  access_log off; sendfile on; tcp_nopush on;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    location /static/ {{ alias {artifacts}/; }}
    location /internal/ {{ internal; alias {artifacts}/; }}
    location / {{ proxy_pass http://127.0.0.1:{upstream}; proxy_http_version 1.1; }}
  }}
}}
"""


def downloads() -> None:
    """One artifact of 1 GiB: by the server, by nginx on the server's word, by nginx from the folder."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin")
    if nginx is None:
        print("\nDownloads: no nginx here to compare with.")
        return
    with (
        tempfile.TemporaryDirectory(prefix="light-run-bench-") as artifacts,
        server(LIGHT_RUN_ARTIFACTS_DIR=artifacts) as plain,
        tempfile.TemporaryDirectory(prefix="light-run-bench-") as accelerated,
        server(LIGHT_RUN_ARTIFACTS_DIR=accelerated, LIGHT_RUN_ACCEL="/internal") as accel,
        _nginx(nginx, accelerated, accel.port) as front,
    ):
        paths = {one: _make_artifact(one) for one in (plain, accel)}
        ways = {
            "nginx, sendfile of the same file": (
                front,
                "/static" + paths[accel].replace("/runs", "").replace("/artifacts", ""),
            ),
            "light-run with X-Accel-Redirect behind nginx": (front, paths[accel]),
            "light-run by itself": (plain.port, paths[plain]),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(5):
            for name, (port, path) in ways.items():
                rates[name].append(SIZE / MIB / (timed(lambda a=port, b=path: _download(a, b)) / 1000))  # type: ignore[misc]
        medians = {name: statistics.median(rate) for name, rate in rates.items()}
        base = next(iter(medians.values()))
        table(
            "Download of an artifact of 1 GiB, medians of 5, interleaved",
            ("way", "MiB/s", "x nginx"),
            [(name, f"{rate:.0f}", f"{rate / base:.2f}") for name, rate in medians.items()],
        )


def _make_artifact(one: Server) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", one.port)
    body = _request("dd if=/dev/urandom of=big bs=1M count=1024", extract=["big"])
    state = json.loads(ask(connection, "POST", "/run", body))
    if not state.get("artifacts"):
        raise RuntimeError(f"no artifact came out: {state}")
    return f"/runs/{state['id']}/artifacts/big"


def _download(port: int, path: str) -> None:
    buffer = bytearray(MIB)
    left = SIZE
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
        while got := client.recv_into(buffer):
            left -= got
    if left > 0:
        raise RuntimeError(f"{path}: {left} bytes are missing")


@contextmanager
def _nginx(program: str, artifacts: str, upstream: int) -> Iterator[int]:
    with tempfile.TemporaryDirectory(prefix="light-run-bench-") as folder:
        port = free_port()
        config = Path(folder, "nginx.conf")
        config.write_text(_NGINX.format(folder=folder, port=port, artifacts=artifacts, upstream=upstream))
        process = subprocess.Popen([program, "-p", folder, "-c", str(config)], stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            process.wait(10)
