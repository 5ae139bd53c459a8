"""Real Prometheus with the files of ``deploy/``, and promtool."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.support.poll import eventually
from tests.support.server import REPOSITORY, free_port

DEPLOY = REPOSITORY / "deploy"
CONFIGURATION, ALERTS = DEPLOY / "prometheus.yml", DEPLOY / "alerts.yml"
TOKEN_FILE, TARGET, INTERVAL = "/etc/prometheus/light-run.token", "127.0.0.1:3000", "15s"


def binary(name: str) -> str:
    """Where a program of Debian's package prometheus is."""
    found = shutil.which(name)
    assert found, f"{name} is needed: scripts/ensure-test-tools"
    return found


def promtool(*arguments: str, text: str = "") -> None:
    """Run ``promtool ARGUMENTS`` on `text`; fail with what it says where it finds a fault."""
    done = subprocess.run(
        [binary("promtool"), *arguments], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@dataclass(frozen=True)
class Prometheus:
    """One that is at work at `url`."""

    url: str

    def get(self, path: str, **parameters: str) -> Any:
        """What its API answers."""
        answer = requests.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=30).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression has now."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found


@contextmanager
def running_prometheus(folder: Path, *, port: int, token: str) -> Iterator[Prometheus]:
    """A Prometheus that looks each second at the light-run on `port`, with `token`."""
    folder.mkdir()
    (folder / "token").write_text(token)
    text = CONFIGURATION.read_text()
    ours = {TOKEN_FILE: str(folder / "token"), TARGET: f"127.0.0.1:{port}", INTERVAL: "1s", "10s": "1s"}
    for shipped, own in ours.items():
        assert shipped in text, f"{shipped!r} is not in {CONFIGURATION}"
        text = text.replace(shipped, own)
    (folder / CONFIGURATION.name).write_text(text)
    shutil.copy(ALERTS, folder)
    address = f"127.0.0.1:{free_port()}"
    command = [
        binary("prometheus"),
        f"--config.file={folder / CONFIGURATION.name}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    prometheus = Prometheus(f"http://{address}")
    try:

        def ready() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                return requests.get(f"{prometheus.url}/-/ready", timeout=5).status_code == 200
            except requests.ConnectionError:
                return False

        eventually(ready, "Prometheus is ready")
        yield prometheus
    finally:
        process.terminate()
        process.wait(20)
