"""An S3 server of the tests' own: moto's, a stand-in that speaks the protocol and keeps everything in memory."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import requests

from tests.support.poll import eventually

_STOP_SECONDS = 10


@contextmanager
def running_s3() -> Iterator[str]:
    """Start a server; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:

            def answers() -> bool:
                assert process.poll() is None, "moto's server did not start"
                try:
                    return requests.get(f"{url}/moto-api/", timeout=5).ok
                except requests.ConnectionError:
                    return False

            eventually(answers, "an S3 server that answers", within=60)
            yield url
        finally:
            process.terminate()
            process.wait(_STOP_SECONDS)


def create_bucket(url: str, name: str) -> None:
    """Create a bucket."""
    requests.put(f"{url}/{name}", timeout=10).raise_for_status()
